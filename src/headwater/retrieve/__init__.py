"""Retrieval: which pairs of a pool belong to which class.

`words.py` finds class names in captions (`queries.py` checks them, `scan/` does the work),
`neighbors.py` finds pairs close to `vector_queries.py` (`lookalikes.py` thins them), `sample.py`
draws the untargeted control. `prefilter.py` says which pairs are worth embedding, and `doctor/`
what the names would find.
"""
