"""The doctor: what a task's queries would find in captions, counted before anything is spent.

A `Doctor` reads blocks of captions once and notes a `Chart`: captions a class and a query, classes
that share captions, hits inside longer words, what synonyms and mode "all" would add, and sampled
captions. Charts of shards merge into one. `relations.py` compares the queries themselves,
`diagnosis.py` says what a chart means.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from headwater.expression import And, Expression, Or, Phrase, phrases_of
from headwater.retrieve.doctor.chart import (
    COUNTS,
    CROWD,
    EMPTY,
    INSIDE,
    RANKED,
    SAMPLED,
    SAMPLES,
    Chart,
    commonest,
    count,
    smallest,
)
from headwater.retrieve.doctor.relations import NestedNames, relate
from headwater.retrieve.doctor.samples import ROOM, cut_caption, scramble
from headwater.retrieve.queries import Queries, Query, meaning, queries_of, query_table
from headwater.retrieve.words import CaptionMatcher
from headwater.store import stable_seed

BATCH_BYTES = 1 << 25  # of captions, from as many shards as it takes: small shards cost little
READ = 1 << 15  # characters in which hits inside words are looked for; longer is no caption
WORD_PART = r"[\p{L}\p{N}\p{M}\p{Co}]{0,30}"
WINDOW = 128  # bytes on each side in which that part of a word is looked for

HITS = pl.Schema({"row": pl.Int64, "class": pl.Int64, "start": pl.Int64, "end": pl.Int64})
PAIR = ["row", "class"]
OWN, SYNONYM, ALL = "own", "synonym", "all"  # why a query is asked
ASKED = pl.Schema({"asked": pl.Int64, "class": pl.Int64, "rank": pl.Int64, "kind": pl.String})


@dataclass(frozen=True)
class Block:
    """Consecutive captions of a shard, the first of which is row `first_row` of it."""

    shard: str
    first_row: int
    captions: pl.Series


class Doctor:
    """Queries made ready once, to be tried on many shards.

    Args:
        queries: for each class label its queries, as in `match_captions`.
        synonyms: for some labels, names that are not queries yet.
        mode: how the queries match.
        seed: of the sampled captions.

    Raises:
        QueryError, InputError: as `match_captions`.

    Example:
        >>> doctor = Doctor({"orange": "orange", "blood orange": "blood orange", "fig": "fig"})
        >>> captions = pl.Series(["a blood orange", "figure of an orange"])
        >>> chart = doctor.examine([Block("00000", 0, captions)])
        >>> chart.found.rows(), chart.inside.rows()
        ([(0, 2), (1, 1)], [(2, 'figure', 1)])
        >>> chart.shared.rows()  # one caption names both, and orange only inside blood orange
        [(0, 1, 1, 1)]
    """

    def __init__(
        self,
        queries: Queries,
        *,
        synonyms: Mapping[str, Sequence[str]] | None = None,
        mode: str = "phrase",
        seed: int = 0,
    ) -> None:
        query_table(queries)  # for what it says no to
        self.labels = list(queries)
        self.mode, self.seed = mode, seed
        self.queries = [queries_of(label, given) for label, given in queries.items()]
        self.synonyms = _new_names(self.labels, self.queries, synonyms or {})
        self.loosened = [_loosened(own) if mode == "phrase" else [] for own in self.queries]
        phrases = [(i, text) for i, own in enumerate(self.queries) for text in _phrases(own)]
        self.relations = relate(phrases)
        self._asked, texts = _ask({OWN: self.queries, SYNONYM: self.synonyms, ALL: self.loosened})
        self._matcher = CaptionMatcher({str(i): q for i, q in enumerate(texts)}, mode=mode)
        self._raw = _raw_matcher(phrases)
        self._nested = NestedNames(phrases, self.relations)
        seeds = [stable_seed(seed, label) for label in self.labels]
        self._label_keys = np.array(seeds, dtype=np.uint64)

    def examine(self, blocks: Iterable[Block]) -> Chart:
        """The chart of some captions; its numbers are the same however these are cut in blocks."""
        chart = EMPTY
        for batch in _batches(blocks):
            chart = chart + self._examine(batch, chart.samples)
        return chart

    def _examine(self, batch: _Batch, sampled: pl.DataFrame) -> Chart:
        captions = batch.captions
        hits = _as_numbers(self._matcher.match(captions), "asked").join(self._asked, on="asked")
        own, synonym, loose = (hits.filter(kind=kind) for kind in (OWN, SYNONYM, ALL))
        found = own.sort(*PAIR, "rank").unique(PAIR, keep="first", maintain_order=True)
        new, looser = (each.join(found, on=PAIR, how="anti") for each in (synonym, loose))
        rejected = self._raw_hits(captions).join(found, on=PAIR, how="anti")
        crowd = pl.len().over("row")
        pairs = _pairs(found.filter(crowd > 1, crowd <= CROWD))
        return Chart(
            captions=len(captions),
            missing=captions.null_count(),
            matched=found["row"].n_unique(),
            crowds=found.filter(crowd > CROWD)["row"].n_unique(),
            found=count(found, COUNTS),
            alone=count(found.filter(crowd == 1), COUNTS),
            queries=count(own, RANKED),
            synonyms=count(new, RANKED),
            synonymous=count(new.unique(PAIR), COUNTS),
            all_words=count(looser.unique(PAIR), COUNTS),
            rejected=count(rejected, COUNTS),
            inside=commonest(count(_words_around(captions, rejected), INSIDE)),
            shared=_count_pairs(pairs, self._nested.only(captions, pairs)),
            samples=self._sample(found, batch, sampled),
        )

    def _raw_hits(self, captions: pl.Series) -> pl.DataFrame:
        if self._raw is None:
            return HITS.to_frame()
        # Case is folded in compiled code for ASCII, character by character for the rest.
        plain = captions.str.len_bytes() == captions.str.len_chars()
        read = captions.str.head(READ)
        parts = []
        for rows in (plain.arg_true(), (~plain).arg_true()):
            hits = _as_numbers(self._raw.match(read.gather(rows)), "class")
            parts.append(hits.with_columns(row=rows.gather(hits["row"]).cast(pl.Int64)))
        return pl.concat(parts)

    def _sample(self, found: pl.DataFrame, batch: _Batch, sampled: pl.DataFrame) -> pl.DataFrame:
        """The matches that may be among the smallest of their class, captions cut to size."""
        last = sampled.group_by("class").agg(
            pl.col("hash").sort().get(SAMPLES - 1, null_on_oob=True).alias("last")
        )
        drawn = batch.place(found.rename({"row": "at"}), seed=self.seed)
        keys = self._label_keys[drawn["class"].to_numpy()]
        hashes = scramble(keys ^ drawn["key"].to_numpy())
        few = smallest(
            drawn.with_columns(hash=pl.Series(hashes, dtype=pl.UInt64))
            .join(last, on="class", how="left")
            .filter(pl.col("last").is_null() | (pl.col("hash") <= pl.col("last")))
        )
        shown = few.hstack(_cut(batch.captions, few))
        return shown.select(pl.col(name).cast(kind) for name, kind in SAMPLED.items())


class _Batch:
    """Blocks of captions joined, so that what is done once a batch is done seldom."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.captions = pl.concat([block.captions.cast(pl.String) for block in blocks])
        sizes = np.array([len(block.captions) for block in blocks], dtype=np.int64)
        self._first = np.cumsum(sizes) - sizes
        self._blocks = blocks

    def place(self, hits: pl.DataFrame, *, seed: int) -> pl.DataFrame:
        """Hits with the `shard` and `row` of their caption `at`, and a `key` hashed from both."""
        at = hits["at"].to_numpy()
        which = np.searchsorted(self._first, at, side="right") - 1
        starts = np.array([block.first_row for block in self._blocks], dtype=np.int64)
        row = at - self._first[which] + starts[which]
        names = pl.Series([block.shard for block in self._blocks], dtype=pl.String)
        seeds = [stable_seed(seed, block.shard) for block in self._blocks]
        key = np.array(seeds, dtype=np.uint64)[which] + row.astype(np.uint64)
        return hits.with_columns(
            shard=names.gather(which), row=pl.Series(row), key=pl.Series(scramble(key))
        )


def _batches(blocks: Iterable[Block]) -> Iterator[_Batch]:
    waiting: list[Block] = []
    size = 0
    for block in blocks:
        waiting.append(block)
        size += int(block.captions.str.len_bytes().sum())
        if size >= BATCH_BYTES:
            yield _Batch(waiting)
            waiting, size = [], 0
    if waiting:
        yield _Batch(waiting)


def _new_names(
    labels: list[str], queries: list[list[Query]], synonyms: Mapping[str, Sequence[str]]
) -> list[list[Query]]:
    """For each class its synonyms that are not among its queries already."""
    given = [list(dict.fromkeys(synonyms.get(label, ()))) for label in labels]
    return [
        [name for name in names if name not in known]
        for names, known in zip(given, queries, strict=True)
    ]


def _loosened(queries: list[Query]) -> list[Query]:
    """Texts of several words as mode "all" takes them: each word anywhere."""
    trees = [(text, meaning(text, mode="all")) for text in queries if isinstance(text, str)]
    return [Expression(text, tree) for text, tree in trees if isinstance(tree, And)]


def _phrases(queries: list[Query]) -> list[str]:
    """What stands in a caption if one of the queries matches: texts, and phrases joined by OR."""
    texts: list[str] = []
    for query in queries:
        root = query.root if isinstance(query, Expression) else Phrase(query)
        parts = root.parts if isinstance(root, Or) else (root,)
        if all(isinstance(part, Phrase) for part in parts):
            texts += [phrase.text for phrase in phrases_of(root)]
    return texts


def _ask(queries: Mapping[str, list[list[Query]]]) -> tuple[pl.DataFrame, list[Query]]:
    """All queries of all kinds, and for each one ASKED."""
    spread = [
        (i, rank, kind, query)
        for kind, by_class in queries.items()
        for i, own in enumerate(by_class)
        for rank, query in enumerate(own)
    ]
    rows = [(number, *row[:3]) for number, row in enumerate(spread)]
    return pl.DataFrame(rows, schema=ASKED, orient="row"), [row[3] for row in spread]


def _raw_matcher(phrases: list[tuple[int, str]]) -> CaptionMatcher | None:
    """Finds the phrases of a class letter by letter, in words or not."""
    texts: dict[str, list[str]] = {}
    for number, text in phrases:
        texts.setdefault(str(number), []).append(text)
    return CaptionMatcher(texts, mode="substring") if texts else None


def _as_numbers(matches: pl.DataFrame, name: str) -> pl.DataFrame:
    return matches.select("row", pl.col("label").cast(pl.Int64).alias(name), "start", "end")


def _pairs(found: pl.DataFrame) -> pl.DataFrame:
    """row, a, b: two classes of one caption, a < b."""
    one = found.select("row", a="class")
    both = one.join(one.rename({"a": "b"}), on="row")
    return both.filter(pl.col("a") < pl.col("b"))


def _count_pairs(pairs: pl.DataFrame, only: pl.DataFrame) -> pl.DataFrame:
    marked = pairs.join(only.with_columns(only=pl.lit(1)), on=["row", "a", "b"], how="left")
    counted = marked.group_by("a", "b").agg(
        pl.len().cast(pl.Int64).alias("captions"), pl.col("only").sum().cast(pl.Int64)
    )
    return counted.sort("a", "b")


def _words_around(captions: pl.Series, hits: pl.DataFrame) -> pl.DataFrame:
    """Hits with the `word` each stands in: from the last separator before to the next behind."""
    text = captions.gather(hits["row"]).cast(pl.Binary).alias("text")
    start, end = pl.col("start"), pl.col("end")
    low, high = _next_character((start - WINDOW).clip(0)), _next_character(end + WINDOW)
    word = pl.concat_str(
        _slice(low, start).str.extract(f"({WORD_PART})$"),
        _slice(start, end),
        _slice(end, high).str.extract(f"^({WORD_PART})"),
    )
    return hits.with_columns(text).select("class", word=word.str.to_lowercase())


def _slice(start: pl.Expr, end: pl.Expr) -> pl.Expr:
    return pl.col("text").bin.slice(start, end - start).cast(pl.String)


def _next_character(at: pl.Expr) -> pl.Expr:
    """`at`, or the first byte after it at which a character of the UTF-8 `text` begins."""
    for _ in range(3):
        byte = pl.col("text").bin.slice(at, 1)
        at = at + byte.is_between(pl.lit(b"\x80"), pl.lit(b"\xbf")).cast(pl.Int64)
    return at


def _cut(captions: pl.Series, hits: pl.DataFrame) -> pl.DataFrame:
    """before, match, after: the captions `at` of hits around their match, cut to size."""
    text = captions.gather(hits["at"]).cast(pl.Binary).alias("text")
    low = (pl.col("start") - ROOM).clip(0)
    window = pl.col("text").bin.slice(low, pl.col("end") - low + ROOM)
    near = hits.with_columns(text).select(window, pl.col("start") - low, pl.col("end") - low)
    rows = [cut_caption(*row) for row in near.iter_rows()]
    kinds = dict.fromkeys(("before", "match", "after"), pl.String)
    return pl.DataFrame(rows, schema=kinds, orient="row")
