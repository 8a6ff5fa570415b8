"""The doctor: what a task's queries would find in captions, told before anything is spent.

`examine.py` reads captions and notes a `chart.py`, whose counts add up over shards; `tables.py`
lays it out and `diagnosis.py` says what it means. `relations.py` compares queries with each other,
`samples.py` draws captions.
"""
