"""The chart: what was counted in some captions, as tables that add up over shards.

`examine.py` fills one in, `diagnosis.py` says what it means. Classes stand as numbers, in the order
of the queries.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

SAMPLES = 20  # captions kept of each class
CROWD = 30  # a caption that names more classes is a list of words, not a description
WORDS_KEPT = 256  # of each class; a pool has no end of words, and only the first are told

COUNTS = pl.Schema({"class": pl.Int64, "captions": pl.Int64})
RANKED = pl.Schema({"class": pl.Int64, "rank": pl.Int64, "captions": pl.Int64})
INSIDE = pl.Schema({"class": pl.Int64, "word": pl.String, "captions": pl.Int64})
SHARED = pl.Schema({"a": pl.Int64, "b": pl.Int64, "captions": pl.Int64, "only": pl.Int64})
SAMPLED = pl.Schema(
    {
        "class": pl.Int64,
        "hash": pl.UInt64,
        "shard": pl.String,
        "row": pl.Int64,
        "rank": pl.Int64,
        "before": pl.String,
        "match": pl.String,
        "after": pl.String,
    }
)


@dataclass(frozen=True)
class Chart:
    """What was counted in some captions; all numbers are captions.

    Attributes:
        captions, missing: read; null.
        matched, crowds: naming a class; naming more than CROWD classes, which are in no pair.
        found, alone: COUNTS, of each class; naming no other class.
        queries: RANKED, of each query of a class.
        synonyms, synonymous: RANKED and COUNTS, found by a synonym and not by the class.
        all_words: COUNTS, found by mode "all" and not by the class.
        rejected: COUNTS, that hold a query only inside longer words.
        inside: INSIDE, those words; the commonest WORDS_KEPT of each class.
        shared: SHARED, of pairs a < b; `only`: where the nested name stands only in the longer.
        samples: SAMPLED, the SAMPLES smallest hashes of each class.
    """

    captions: int
    missing: int
    matched: int
    crowds: int
    found: pl.DataFrame
    alone: pl.DataFrame
    queries: pl.DataFrame
    synonyms: pl.DataFrame
    synonymous: pl.DataFrame
    all_words: pl.DataFrame
    rejected: pl.DataFrame
    inside: pl.DataFrame
    shared: pl.DataFrame
    samples: pl.DataFrame

    def __add__(self, other: Chart) -> Chart:
        """The chart of both lots of captions."""
        return Chart(
            captions=self.captions + other.captions,
            missing=self.missing + other.missing,
            matched=self.matched + other.matched,
            crowds=self.crowds + other.crowds,
            found=add_counts(self.found, other.found),
            alone=add_counts(self.alone, other.alone),
            queries=add_counts(self.queries, other.queries),
            synonyms=add_counts(self.synonyms, other.synonyms),
            synonymous=add_counts(self.synonymous, other.synonymous),
            all_words=add_counts(self.all_words, other.all_words),
            rejected=add_counts(self.rejected, other.rejected),
            inside=commonest(add_counts(self.inside, other.inside)),
            shared=add_counts(self.shared, other.shared),
            samples=smallest(pl.concat([self.samples, other.samples])),
        )


EMPTY = Chart(
    captions=0,
    missing=0,
    matched=0,
    crowds=0,
    found=COUNTS.to_frame(),
    alone=COUNTS.to_frame(),
    queries=RANKED.to_frame(),
    synonyms=RANKED.to_frame(),
    synonymous=COUNTS.to_frame(),
    all_words=COUNTS.to_frame(),
    rejected=COUNTS.to_frame(),
    inside=INSIDE.to_frame(),
    shared=SHARED.to_frame(),
    samples=SAMPLED.to_frame(),
)


def merge(charts: Iterable[Chart]) -> Chart:
    """One chart of many; the order matters only for words beyond WORDS_KEPT."""
    return sum(charts, start=EMPTY)


def count(rows: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """How many rows there are of each key of `schema`, sorted."""
    keys = schema.names()[:-1]
    return rows.group_by(keys).agg(pl.len().cast(pl.Int64).alias("captions")).sort(keys)


def add_counts(one: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """Counts of the same key added."""
    numbers = [name for name in ("captions", "only") if name in one.columns]
    keys = [name for name in one.columns if name not in numbers]
    return pl.concat([one, other]).group_by(keys).agg(pl.col(numbers).sum()).sort(keys)


def commonest(words: pl.DataFrame) -> pl.DataFrame:
    """INSIDE, the commonest words of each class first; the WORDS_KEPT first stay."""
    ordered = words.sort("class", "captions", "word", descending=[False, True, False])
    return ordered.filter(pl.int_range(pl.len()).over("class") < WORDS_KEPT)


def smallest(drawn: pl.DataFrame) -> pl.DataFrame:
    """Drawn captions by class and hash; the SAMPLES first of each class stay."""
    ordered = drawn.sort("class", "hash", "shard", "row")
    return ordered.filter(pl.int_range(pl.len()).over("class") < SAMPLES)
