"""The scan: many queries in many captions at once, exactly, in compiled code.

`sieve.py` passes the captions that may hold a phrase, `tokens.py` cuts them, `phrases.py` and
`substrings.py` find what stands in them as `hits.py`; `boolean.py` decides expressions, and
`search.py` does it all for a block of captions. `../words.py` makes the table.
"""
