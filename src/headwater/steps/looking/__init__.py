"""A finished set, looked at: one pair's story, and the pages a person judges it by.

why        one pair, from where it came from to its fate
review     what was kept and dropped     audit       what other scores would have kept
calibrate  where copies begin

The pages themselves are in `headwater.report`.
"""
