"""Captions for a generator: what is asked for, who writes it, and what comes of the answers.

`plan.py` draws classes, kinds and settings; a writer (`writer.py`: the grammar, a language model,
an endpoint) answers; `rounds.py` checks the answers and asks again; `given.py` reads captions that
somebody else wrote.
"""

from headwater.synthesize.captions.grammar import repeated_captions, write_captions
from headwater.synthesize.captions.plan import ALL_KINDS, KINDS, SCHEMA, plan_captions
from headwater.synthesize.captions.writer import Ask, Writer

__all__ = [
    "ALL_KINDS",
    "KINDS",
    "SCHEMA",
    "Ask",
    "Writer",
    "plan_captions",
    "repeated_captions",
    "write_captions",
]
