"""How class queries stand to each other before any caption is read: the same, or one in another.

"missile" may ask for two classes; "orange" stands inside "blood orange": `NestedNames` tells where
a caption has the first only within the second. `examine.py` counts what that does in a pool.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from headwater.retrieve.scan.phrases import PhraseFinder
from headwater.retrieve.scan.tokens import split_words, tokenize

Words = tuple[str, ...]

SAME, NESTED = "same", "nested"
RELATIONS = pl.Schema({"a": pl.Int64, "b": pl.Int64, "kind": pl.String, "text": pl.String})


def relate(phrases: Sequence[tuple[int, str]]) -> pl.DataFrame:
    """Pairs of classes whose phrases are the same, or of which one holds the other's.

    The cost grows with the number of phrases and their length squared, not with pairs of classes.

    Args:
        phrases: (class, phrase), a class as often as it has phrases.

    Returns:
        RELATIONS, one row a pair and kind, sorted: for "same" a < b; for "nested" the phrase of
        a stands inside one of b. `text` is the phrase of a.

    Example:
        >>> relate([(0, "orange"), (1, "blood orange"), (2, "Orange")]).rows()
        [(0, 1, 'nested', 'orange'), (0, 2, 'same', 'orange'), (2, 1, 'nested', 'Orange')]
    """
    words = split_words([phrase for _, phrase in phrases])
    owners: dict[Words, list[tuple[int, str]]] = {}
    for own, (number, phrase) in zip(words, phrases, strict=True):
        owners.setdefault(own, []).append((number, phrase))
    rows = [
        (a, b, SAME if part == own else NESTED, text)
        for own, (b, _) in zip(words, phrases, strict=True)
        for part in _parts(own)
        for a, text in owners.get(part, [])
        if a != b and (part != own or a < b)
    ]
    found = pl.DataFrame(rows, schema=RELATIONS, orient="row")
    return found.unique(["a", "b", "kind"], keep="first", maintain_order=True).sort(
        "a", "b", "kind"
    )


def _parts(words: Words) -> Iterator[Words]:
    """Every run of consecutive words, once."""
    size = len(words)
    yield from {words[i:j] for i in range(size) for j in range(i + 1, size + 1)}


class NestedNames:
    """Finds captions that hold a nested name only inside the longer one."""

    def __init__(self, phrases: Sequence[tuple[int, str]], relations: pl.DataFrame) -> None:
        self._pairs = relations.filter(kind=NESTED).select(short="a", long="b").unique()
        among = {*self._pairs["short"], *self._pairs["long"]}
        used = [(number, text) for number, text in phrases if number in among]
        words = split_words([text for _, text in used])
        distinct = list(dict.fromkeys(words))
        place = {phrase: i for i, phrase in enumerate(distinct)}
        self._owners = pl.DataFrame(
            {"phrase": [place[phrase] for phrase in words], "class": [n for n, _ in used]},
            schema={"phrase": pl.Int64, "class": pl.Int64},
        )
        encoded = [tuple(word.encode() for word in phrase) for phrase in distinct]
        self._finder = PhraseFinder(encoded) if encoded else None

    def only(self, captions: pl.Series, pairs: pl.DataFrame) -> pl.DataFrame:
        """Those of `pairs` (row, a, b) in which each place of the short name is in the long."""
        none = pairs.clear().select("row", "a", "b")
        both = pl.concat([pairs.select("row", "a", "b", short=x, long=y) for x, y in ("ab", "ba")])
        both = both.join(self._pairs, on=["short", "long"], how="semi")
        if self._finder is None or not len(both):
            return none
        rows = both["row"].unique().sort()
        places = self._places(captions.gather(rows), rows)
        short = both.join(places, left_on=["row", "short"], right_on=["row", "class"])
        long = both.join(places, left_on=["row", "long"], right_on=["row", "class"])
        pair = ["row", "short", "long"]
        reach = long.sort("first", "last").select(
            *pair, "first", reach=pl.col("last").cum_max().over(pair)
        )
        seen = short.sort("first").join_asof(reach, on="first", by=pair, check_sortedness=False)
        covered = (pl.col("reach") >= pl.col("last")).fill_null(False)
        each = seen.group_by("row", "a", "b").agg(covered.all().alias("covered"))
        return each.filter("covered").select("row", "a", "b")

    def _places(self, captions: pl.Series, rows: pl.Series) -> pl.DataFrame:
        """Every place of a phrase, by row and class, in tokens."""
        assert self._finder is not None
        tokens = tokenize(captions)
        phrase, first, last = self._finder.find(tokens)
        row = rows.to_numpy()[tokens.rows(first)]
        places = pl.DataFrame({"row": row, "phrase": phrase, "first": first, "last": last})
        return places.join(self._owners, on="phrase")
