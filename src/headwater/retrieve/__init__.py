"""Retrieval: which pairs of a pool belong to which class.

`words.py` finds class names in captions (on `queries.py`, `phrases.py` and `tokens.py`),
`neighbors.py` finds class prompts among embeddings, `sample.py` draws the untargeted control.
`doctor.py` tells beforehand what the names would find (on `relations.py`, `chart.py`,
`samples.py` and `diagnosis.py`).
"""
