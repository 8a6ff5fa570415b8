"""Class names against captions: which pairs name which class, with which words, and where.

Two modes. `phrase`: the tokens of the query stand one after the other, folded as SQLite's FTS5
folds them (`tokens.py`, `phrases.py`). `substring`: the query stands there letter by letter, case
aside. Both scan captions in compiled code, block by block on all cores.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Protocol

import numpy as np
import polars as pl

from headwater.errors import InputError, QueryError
from headwater.retrieve.phrases import Phrase, PhraseFinder
from headwater.retrieve.queries import Queries, query_table
from headwater.retrieve.tokens import fold_case, tokenize

HITS = pl.Schema({"row": pl.Int64, "key": pl.Int64, "start": pl.Int64, "end": pl.Int64})
MATCHES = pl.Schema(
    {"row": pl.Int64, "label": pl.String, "query": pl.String, "start": pl.Int64, "end": pl.Int64}
)


def match_captions(
    captions: Sequence[str | None] | pl.Series, queries: Queries, *, mode: str = "phrase"
) -> pl.DataFrame:
    """Find the captions that name a class.

    Args:
        captions: one a row; None never matches.
        queries: for each class label its queries, each a string taken literally (one string
            stands for a list of one). A caption belongs to the class if any of them matches.
        mode: "phrase", tokens consecutive, so that `F-16A/B` finds "an f 16a b at the show" and
            "fig" does not find "figure"; or "substring", literal but for case.

    Returns:
        One row a (row, label), by row and then in the order of `queries`:
        row: int64, counted from 0.
        label: the class.
        query: the first of the class's queries that matches, as given.
        start, end: int64, where its first match lies: bytes of the caption in UTF-8, end exclusive.

    Raises:
        QueryError: no class at all, a class without queries, a query with nothing to search for,
            or two labels that look the same.
        InputError: an unknown mode, or captions that are not text.

    Example:
        >>> captions = ["A Blood-Orange tart", None, "figure of an orange"]
        >>> queries = {"orange": ["orange"], "blood orange": ["blood orange"], "fig": ["fig"]}
        >>> match_captions(captions, queries).rows()
        [(0, 'orange', 'orange', 8, 14), (0, 'blood orange', 'blood orange', 2, 14), \
(2, 'orange', 'orange', 13, 19)]
        >>> match_captions(captions, {"fig": "fig"}, mode="substring").rows()
        [(2, 'fig', 'fig', 0, 3)]
    """
    return CaptionMatcher(queries, mode=mode).match(captions)


class CaptionMatcher:
    """Queries made ready once, to be matched against many shards; see `match_captions`.

    Example:
        >>> matcher = CaptionMatcher({"rose": ["rose"]})
        >>> [matcher.match(shard).height for shard in (["a rose"], ["a row", "Rosé!"])]
        [1, 1]
    """

    def __init__(self, queries: Queries, *, mode: str = "phrase") -> None:
        if mode not in FINDERS:
            raise InputError("unknown match mode", expected=" or ".join(FINDERS), seen=repr(mode))
        wanted = query_table(queries)
        self._finder: Finder = FINDERS[mode](wanted["query"].to_list())
        self._wanted = wanted.with_columns(pl.Series("key", self._finder.keys, dtype=pl.Int64))

    def match(self, captions: Sequence[str | None] | pl.Series) -> pl.DataFrame:
        """The table that `match_captions` describes."""
        blocks = _blocks(_table(captions), self._finder.block_bytes)
        with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
            hits = list(pool.map(self._finder.find, blocks))
        return (
            pl.concat([HITS.to_frame(), *hits])
            .join(self._wanted, on="key")
            .sort("row", "class", "rank", "start", "end")
            .unique(["row", "class"], keep="first", maintain_order=True)
            .select(MATCHES.names())
        )


class Finder(Protocol):
    """Searches all queries at once; queries that fold alike share a key.

    Attributes:
        keys: the key of each query.
        block_bytes: how much text it takes best at once.
    """

    keys: list[int]
    block_bytes: int

    def find(self, block: pl.DataFrame) -> pl.DataFrame:
        """Every match in a block (row, caption) as HITS: row, key, start and end in bytes."""


class Phrases:
    """The finder of mode "phrase"."""

    block_bytes = 1 << 19  # the arrays made of it stay in the processor's cache

    def __init__(self, queries: list[str]) -> None:
        phrases = _phrases(queries)
        key = {phrase: i for i, phrase in enumerate(dict.fromkeys(phrases))}
        self.keys = [key[phrase] for phrase in phrases]
        self._finder = PhraseFinder(list(key))

    def find(self, block: pl.DataFrame) -> pl.DataFrame:
        """Every place where a query's tokens stand one after the other."""
        tokens = tokenize(block["caption"])
        key, first, last = self._finder.find(tokens)
        at = tokens.rows(first)
        begins = tokens.first[at]
        spans = {"start": tokens.start[first] - begins, "end": tokens.end[last] - begins}
        return pl.DataFrame({"row": block["row"].to_numpy()[at], "key": key, **spans}, schema=HITS)


class Substrings:
    """The finder of mode "substring"."""

    block_bytes = 1 << 22  # polars makes its automaton anew for each block

    def __init__(self, queries: list[str]) -> None:
        for query in queries:
            _check_searchable(query)
        folded = [fold_case(query) for query in queries]
        self._key = {text: i for i, text in enumerate(dict.fromkeys(folded))}
        self.keys = [self._key[text] for text in folded]

    def find(self, block: pl.DataFrame) -> pl.DataFrame:
        """Every place where a query stands letter by letter, case aside."""
        patterns = list(self._key)
        found = (
            block.with_columns(folded=_fold_case(block["caption"]))
            .filter(pl.col("folded").str.contains_any(patterns))
            .with_columns(
                text=pl.col("folded").str.extract_many(patterns, overlapping=True),
                start=pl.col("folded").str.find_many(patterns, overlapping=True).cast(_OFFSETS),
            )
            .explode("text", "start")
            .with_columns(end=pl.col("start") + pl.col("text").str.len_bytes())
        )
        hits = found.with_columns(
            key=pl.col("text").replace_strict(self._key, return_dtype=pl.Int64)
        )
        return _unfold(hits).select(pl.col(name).cast(dtype) for name, dtype in HITS.items())


_OFFSETS = pl.List(pl.Int64)
TEXT = (pl.String, pl.Categorical, pl.Enum, pl.Null)
FINDERS: dict[str, type[Phrases] | type[Substrings]] = {"phrase": Phrases, "substring": Substrings}


def _phrases(queries: list[str]) -> list[Phrase]:
    """The folded tokens of each query."""
    tokens = tokenize(pl.Series(queries))
    words: list[list[bytes]] = [[] for _ in queries]
    rows = tokens.rows(np.arange(len(tokens)))
    for row, at, to in zip(rows.tolist(), tokens.at, tokens.to, strict=True):
        words[row].append(tokens.text[at:to])
    if [] in words:
        raise QueryError(
            "a query with nothing to search for", expected="at least one letter or digit",
            seen=repr(queries[words.index([])]),
            do="Reword it, or search symbols with mode substring.",
        )  # fmt: skip
    return [tuple(phrase) for phrase in words]


def _check_searchable(query: str) -> None:
    """Spaces and punctuation alone would match nearly every caption; symbols may be searched."""
    kinds = {unicodedata.category(character) for character in query}
    if not any(kind[0] in "LNS" or kind == "Co" for kind in kinds):
        raise QueryError(
            "a query with nothing to search for", expected="at least one letter, digit or symbol",
            seen=repr(query),
        )  # fmt: skip


def _table(captions: Sequence[str | None] | pl.Series) -> pl.DataFrame:
    """Captions that are there, with their row; all-ASCII ones first, which are faster together."""
    series = _series(captions)
    table = pl.DataFrame({"row": np.arange(len(series)), "caption": series}).drop_nulls()
    ascii_only = pl.col("caption").str.len_bytes() == pl.col("caption").str.len_chars()
    return pl.concat([table.filter(ascii_only), table.filter(~ascii_only)])


def _series(captions: Sequence[str | None] | pl.Series) -> pl.Series:
    if isinstance(captions, pl.Series):
        if captions.dtype not in TEXT:
            raise _not_text(str(captions.dtype))
        return captions.cast(pl.String)
    odd = {type(caption).__name__ for caption in captions} - {"str", "NoneType"}
    if odd or isinstance(captions, str):
        raise _not_text(", ".join(sorted(odd)) or "one string")
    try:
        return pl.Series(captions, dtype=pl.String)
    except UnicodeEncodeError:
        raise _not_text("a lone surrogate, which is not Unicode") from None


def _not_text(seen: str) -> InputError:
    return InputError("captions that are not text", expected="a column of strings", seen=seen)


def _blocks(table: pl.DataFrame, size: int) -> Iterator[pl.DataFrame]:
    """Consecutive rows with about `size` bytes of text each, at least one row."""
    number = table["caption"].str.len_bytes().cast(pl.Int64).cum_sum().to_numpy() // size
    cuts = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(table)]
    for start, stop in pairwise(cuts):
        if stop > start:
            yield table.slice(start, stop - start)


def _fold_case(captions: pl.Series) -> pl.Series:
    plain = captions.str.len_bytes() == captions.str.len_chars()
    if plain.all():
        return captions.str.to_lowercase()
    return pl.Series([fold_case(caption) for caption in captions], dtype=pl.String)


def _unfold(hits: pl.DataFrame) -> pl.DataFrame:
    """Offsets in the folded captions turned into offsets in the captions themselves."""
    moved = hits["caption"].str.len_bytes() != hits["caption"].str.len_chars()
    if not moved.any():
        return hits
    texts = zip(hits["caption"], hits["folded"], strict=True)
    both = list(zip(texts, hits["start"], hits["end"], strict=True))
    return hits.with_columns(
        start=pl.Series(
            [_original_offset(*text, start) for text, start, _ in both], dtype=pl.Int64
        ),
        end=pl.Series([_original_offset(*text, end) for text, _, end in both], dtype=pl.Int64),
    )


def _original_offset(caption: str, folded: str, offset: int) -> int:
    characters = len(folded.encode()[:offset].decode())
    return len(caption[:characters].encode())
