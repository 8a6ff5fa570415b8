"""Class names against captions: which pairs name which class, with which words, and where.

Captions are cut into blocks that all cores search in compiled code (`scan/`); here are the
modes and the table. What a query is stands in `queries.py` and `headwater.expression`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import polars as pl

from headwater.engine import in_worker
from headwater.errors import InputError, QueryError
from headwater.expression import Node, phrases_of
from headwater.retrieve.queries import MODES, Queries, each_query, meaning, query_table
from headwater.retrieve.scan.boolean import number_leaves
from headwater.retrieve.scan.phrases import Phrase, PhraseFinder
from headwater.retrieve.scan.search import Finder, Search
from headwater.retrieve.scan.substrings import SubstringFinder
from headwater.retrieve.scan.tokens import cut, fold_case, split_words

Captions = Sequence[str | None] | pl.Series
Leaf = TypeVar("Leaf", str, Phrase)

MATCHES = pl.Schema(
    {"row": pl.Int64, "label": pl.String, "query": pl.String, "start": pl.Int64, "end": pl.Int64}
)
AHEAD = 2  # batches searched while one is handed out
TEXT = (pl.String, pl.Categorical, pl.Enum, pl.Null)
_HITS = pl.Schema({"row": pl.Int64, "key": pl.Int64, "start": pl.Int64, "end": pl.Int64})


def match_captions(captions: Captions, queries: Queries, *, mode: str = "phrase") -> pl.DataFrame:
    """Find the captions that name a class.

    Args:
        captions: one a row; None never matches.
        queries: for each class label its queries (one stands for a list of one): strings, taken
            literally, and expressions made by `headwater.parse_query`. A caption belongs to the
            class if any of them matches.
        mode: what a string means. "phrase": its tokens one after the other, so that `F-16A/B`
            finds "an f 16a b at the show" and "fig" does not find "figure". "substring": letter by
            letter but for case. "all": each of its tokens, anywhere. "reference": as in the
            paper's code, a phrase if it has `-` or `/`, else "all". Phrases of expressions are
            substrings in mode "substring", phrases in the others.

    Returns:
        One row a (row, label), by row and then in the order of `queries`:
        row: int64, counted from 0.
        label: the class.
        query: the first of the class's queries that matches, as given.
        start, end: int64, where its first match lies: bytes of the caption in UTF-8, end
            exclusive; for expressions and "all" from the first to the last of the phrases that
            make it true, each where it stands first.

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
        >>> from headwater.expression import parse_query
        >>> match_captions(captions, {"fruit": parse_query('"orange" NOT "tart"')}).rows()
        [(2, 'fruit', '"orange" NOT "tart"', 13, 19)]
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
        if mode not in MODES:
            raise InputError("unknown match mode", expected=" or ".join(MODES), seen=repr(mode))
        wanted = query_table(queries)
        trees = [meaning(query, mode=mode) for query in each_query(queries)]
        self._search, keys = _make_search(trees, mode)
        self._wanted = wanted.with_columns(pl.Series("key", keys, dtype=pl.Int64))
        self._block_bytes = self._search.block_bytes

    def match(self, captions: Captions) -> pl.DataFrame:
        """The table that `match_captions` describes."""
        return next(self.match_many([captions]))

    def match_many(self, batches: Iterable[Captions]) -> Iterator[pl.DataFrame]:
        """`match` of each batch in turn; the next one is fetched while this one is searched.

        Example:
            >>> shards = iter([["a rose"], ["a row", "Rosé!"]])
            >>> matcher = CaptionMatcher({"rose": "rose"})
            >>> [found["row"].to_list() for found in matcher.match_many(shards)]
            [[0], [1]]
        """
        # Workers share the machine, one a core, so each has one thread.
        with ThreadPoolExecutor(1 if in_worker() else pl.thread_pool_size()) as pool:
            searching: deque[list[Future[pl.DataFrame]]] = deque()
            for captions in batches:
                series = _series(captions)
                find = partial(self._find, series)
                searching.append(
                    [pool.submit(find, rows) for rows in cut(series, self._block_bytes)]
                )
                if len(searching) > AHEAD:
                    yield _joined(searching.popleft())
            while searching:
                yield _joined(searching.popleft())

    def _find(self, captions: pl.Series, rows: slice) -> pl.DataFrame:
        block = captions[rows]
        there = block.is_not_null().arg_true().to_numpy()
        hits = self._search.hits(block.drop_nulls())
        row = there[hits.row] + rows.start
        return (
            pl.DataFrame([row, *hits[1:]], schema=_HITS)
            .join(self._wanted, on="key")
            .sort("row", "class", "rank")
            .unique(["row", "class"], keep="first", maintain_order=True)
            .select(MATCHES.names())
        )


def _joined(blocks: list[Future[pl.DataFrame]]) -> pl.DataFrame:
    return pl.concat([MATCHES.to_frame(), *(block.result() for block in blocks)])


def _make_search(queries: list[Node], mode: str) -> tuple[Search, list[int]]:
    """The queries made ready, and the key of each; those that mean the same share one."""
    texts = list(dict.fromkeys(p.text for query in queries for p in phrases_of(query)))
    if mode == "substring":
        return _number(queries, texts, [fold_case(text) for text in texts], SubstringFinder, len)
    return _number(queries, texts, _fold_phrases(texts), PhraseFinder, _longest_word)


def _number(
    queries: list[Node],
    texts: list[str],
    folded: list[Leaf],
    make: Callable[[list[Leaf]], Finder],
    weight: Callable[[Leaf], int],
) -> tuple[Search, list[int]]:
    leaves = list(dict.fromkeys(folded))
    place = {leaf: i for i, leaf in enumerate(leaves)}
    number = {text: place[leaf] for text, leaf in zip(texts, folded, strict=True)}
    trees = [number_leaves(query, number) for query in queries]
    key = {tree: i for i, tree in enumerate(dict.fromkeys(trees))}

    def finder(wanted: list[int]) -> Finder:
        return make([leaves[i] for i in wanted])

    search = Search(list(key), weight=[weight(leaf) for leaf in leaves], finder=finder)
    return search, [key[tree] for tree in trees]


def _longest_word(phrase: Phrase) -> int:
    return max(map(len, phrase))


def _fold_phrases(texts: list[str]) -> list[Phrase]:
    """The folded tokens of each text."""
    words = split_words(texts)
    if () in words:
        raise QueryError(
            "a query with nothing to search for", expected="at least one letter or digit",
            seen=repr(texts[words.index(())]),
            do="Reword it, or search symbols with mode substring.",
        )  # fmt: skip
    return [tuple(word.encode() for word in phrase) for phrase in words]


def _series(captions: Captions) -> pl.Series:
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
