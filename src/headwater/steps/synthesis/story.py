"""What the card of a synthetic set tells: the generator, the captions, and what went wrong."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from headwater.synthesize.generator import find_generator
from headwater.synthesize.vetting import INDEX

WRITERS = {
    "grammar": "by a grammar",
    "model": "by a language model",
    "endpoint": "by a language model behind an endpoint",
    "file": "from a file",
    "alt_text": "from the alt-texts of real pairs",
    "captioner": "by a captioner that saw real images",
}
"""Who wrote the captions, by the setting `by`."""


def tell_generator(generator: str | Path, digest: str) -> str:
    """A generator by kind and content: where it lies or lay is nobody's concern."""
    index = json.loads((find_generator(generator) / INDEX).read_text(encoding="utf-8"))
    return f"a {index['_class_name']} (sha256 of its files {digest[:12]})"


def tell_captions(captions: pl.DataFrame, *, by: str, repeated: int, cut: int) -> str:
    """Who wrote the captions, and how many of which kind.

    Example:
        >>> captions = pl.DataFrame({"kind": ["class", "class", "relation"]})
        >>> tell_captions(captions, by="grammar", repeated=1, cut=0)
        'Captions by a grammar: 2 class, 1 relation; 1 says what an earlier one of its class says.'
    """
    kinds = captions["kind"].value_counts().sort("count", "kind", descending=[True, False])
    told = ", ".join(f"{count:,} {kind}" for kind, count in kinds.rows())
    odd = [
        _count(repeated, "says what an earlier one of its class says",
               "say what an earlier one of their class says"),
        _count(cut, "is longer than the generator reads", "are longer than the generator reads"),
    ]  # fmt: skip
    return f"Captions {WRITERS[by]}: " + "; ".join([told, *filter(None, odd)]) + "."


def tell_dropped(decisions: pl.DataFrame) -> str:
    """How many images were dropped for which reason; empty where none was.

    Example:
        >>> tell_dropped(pl.DataFrame({"kept": [True, False], "reason": ["kept", "blank image"]}))
        'Dropped: 1 (blank image).'
    """
    reasons = decisions.filter(~pl.col("kept"))["reason"].value_counts().sort("reason")
    told = ", ".join(f"{count:,} ({reason})" for reason, count in reasons.rows())
    return f"Dropped: {told}." if told else ""


def _count(number: int, one: str, several: str) -> str:
    return f"{number:,} {one if number == 1 else several}" if number else ""
