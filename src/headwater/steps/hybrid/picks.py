"""Picks: where the holes are, which images fill them, and which ones the controls take instead.

The order in which images are taken depends on the seed and their ids, never on how many are
wanted: a higher target keeps what a lower one took. `top_up.py` makes a set of picks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle, islice
from typing import NamedTuple

import polars as pl

from headwater.retrieve.words import CaptionMatcher
from headwater.steps.hybrid.composition import ANY
from headwater.store import stable_seed

Key = tuple[str, str]  # label, attribute
Orders = Mapping[Key, Sequence[int]]  # the rows of a set in the order they are taken


class Hole(NamedTuple):
    """Where a set, or the pool behind it, has too little.

    Attributes:
        label: the class.
        attribute: what captions of it say too; "" for the class alone.
        upstream: captions of the pool; None where nobody counted.
        had: images of the set that is topped up.
        wanted: images that are missing.
        added: images that were added.
    """

    label: str
    attribute: str
    upstream: int | None
    had: int
    wanted: int
    added: int = 0

    @property
    def key(self) -> Key:
        """What it is called by."""
        return self.label, self.attribute


HOLE_SCHEMA = {
    "label": pl.String, "attribute": pl.String, "upstream": pl.Int64, "had": pl.Int64,
    "wanted": pl.Int64, "added": pl.Int64,
}  # fmt: skip


class Repeat(NamedTuple):
    """An image of a set once more: its row, and which repetition of it this is."""

    row: int
    number: int


def find_holes(
    labels: Sequence[str],
    attributes: Sequence[str],
    *,
    target: int,
    upstream: Mapping[Key, int],
    had: Mapping[Key, int],
) -> list[Hole]:
    """The holes, in the order of classes and attributes.

    Args:
        labels: the classes.
        attributes: none: a hole is a class with fewer images than the target. Some: it is a class
            with an attribute of which the pool has fewer captions than the target.
        target: images or captions.
        upstream: captions of the pool; may be empty where there are no attributes.
        had: images of the set.

    Example:
        >>> find_holes(["rose"], [], target=5, upstream={}, had={("rose", ""): 3})[0].wanted
        2
        >>> find_holes(["rose"], ["in snow"], target=5, upstream={("rose", "in snow"): 9}, had={})
        []
    """
    found = []
    for label in labels:
        for attribute in attributes or (ANY,):
            key = (label, attribute)
            there = upstream[key] if attributes else had.get(key, 0)
            if there < target:
                told = upstream.get(key)
                found.append(Hole(label, attribute, told, had.get(key, 0), target - there))
    return found


def order_rows(pairs: pl.DataFrame, attributes: Sequence[str], *, mode: str, seed: int) -> Orders:
    """The rows of every (class, attribute) in seeded order; "" stands for the whole class.

    Args:
        pairs: id, label, caption.
        attributes: looked for in the captions.
        mode: how they match.
        seed: of the order.

    Example:
        >>> pairs = pl.DataFrame({"id": ["s:1", "s:2"], "label": "rose",
        ...                       "caption": ["a rose in snow", "a rose"]})
        >>> orders = order_rows(pairs, ["in snow"], mode="phrase", seed=0)
        >>> sorted(orders["rose", ""]), orders["rose", "in snow"]
        ([0, 1], [0])
    """
    keys = pairs.select("id", "label").iter_rows()
    turns = [stable_seed(seed, pair_id, label) for pair_id, label in keys]
    said = _who_says(pairs["caption"], attributes, mode)
    orders: dict[Key, list[int]] = {}
    labels = pairs["label"].to_list()
    for row in sorted(range(len(turns)), key=lambda row: (turns[row], row)):
        for attribute in (ANY, *said.get(row, ())):
            orders.setdefault((labels[row], attribute), []).append(row)
    return orders


def fill_holes(holes: Iterable[Hole], orders: Orders) -> list[list[int]]:
    """For each hole the rows that fill it; none fills two.

    Example:
        >>> holes = [Hole("rose", "red", 0, 0, 1), Hole("rose", "in snow", 0, 0, 2)]
        >>> fill_holes(holes, {("rose", "red"): [4, 2], ("rose", "in snow"): [4, 3]})
        [[4], [3]]
    """
    return take((orders.get(hole.key, ()), hole.wanted) for hole in holes)


def spread_out(
    added: Mapping[str, int], orders: Orders, labels: Sequence[str]
) -> dict[str, list[int]]:
    """As many rows of every attribute, over all classes evenly: classes take turns.

    Images that say two attributes can leave one of them short; others then make up the number, so
    that the control has as many images as the top-up.

    Args:
        added: attribute -> images that the top-up adds for it.
        orders: of the set that fills.
        labels: the classes.

    Example:
        >>> orders = {("rose", ""): [5, 6, 7], ("fern", ""): [8]}
        >>> spread_out({"": 3}, orders, ["rose", "fern"])
        {'': [5, 8, 6]}
    """

    def turns(attribute: str) -> list[int]:
        rows = (
            (turn, place, row)
            for place, label in enumerate(labels)
            for turn, row in enumerate(orders.get((label, attribute), ()))
        )
        return [row for _, _, row in sorted(rows)]

    demands = [(turns(attribute), n) for attribute, n in added.items()]
    found = dict(zip(added, take(demands), strict=True))
    short = sum(added.values()) - sum(map(len, found.values()))
    if short and ANY not in added:
        found[ANY] = take([*demands, (turns(ANY), short)])[-1]
    return found


def repeat_rows(holes: Iterable[Hole], orders: Orders) -> list[list[Repeat]]:
    """For each hole as many rows of the set itself as were added, over and over.

    Those that say the attribute are repeated; where none does, those of the class.

    Example:
        >>> holes = [Hole("rose", "", None, 2, 3, added=3)]
        >>> repeat_rows(holes, {("rose", ""): [7, 4]})[0]
        [Repeat(row=7, number=1), Repeat(row=4, number=1), Repeat(row=7, number=2)]
    """
    uses: Counter[int] = Counter()
    found = []
    for hole in holes:
        own = orders.get(hole.key) or orders.get((hole.label, ANY), ())
        repeats = []
        for row in islice(cycle(own), hole.added):
            uses[row] += 1
            repeats.append(Repeat(row, uses[row]))
        found.append(repeats)
    return found


def take(demands: Iterable[tuple[Sequence[int], int]]) -> list[list[int]]:
    """Of each demand the first rows that no earlier demand took.

    Example:
        >>> take([([1, 2, 3], 2), ([2, 3, 4], 2)])
        [[1, 2], [3, 4]]
    """
    taken: set[int] = set()
    found = []
    for rows, wanted in demands:
        mine = list(islice((row for row in rows if row not in taken), wanted))
        taken.update(mine)
        found.append(mine)
    return found


def _who_says(captions: pl.Series, attributes: Sequence[str], mode: str) -> dict[int, list[str]]:
    if not attributes:
        return {}
    queries = {str(number): phrase for number, phrase in enumerate(attributes)}
    found = CaptionMatcher(queries, mode=mode).match(captions).select("row", "label")
    said: dict[int, list[str]] = {}
    for row, number in found.iter_rows():
        said.setdefault(row, []).append(attributes[int(number)])
    return said
