"""Boolean queries decided from where their phrases stand, all of one shape at once.

A caption is looked at only if it holds a phrase without which a query cannot be true (its gate), so
that "of" is not searched in every caption for "lily of the valley". `hits.py` says what finders
give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headwater.expression import Node, Not, Phrase
from headwater.retrieve.scan.hits import Hits, join_hits
from headwater.retrieve.scan.tokens import Ints

Tree: TypeAlias = "int | tuple[str, tuple[Tree, ...]]"
"""A leaf's number, or "and", "or", "not" (keep, drop, drop, ...) with its parts."""

Truth = tuple[NDArray[np.bool_], Ints, Ints]
"""(candidates,) whether it holds, and from where to where."""

NOWHERE = np.iinfo(np.int64).max


def number_leaves(node: Node, number: Mapping[str, int]) -> Tree:
    """A query's tree with the number of each phrase in its place.

    Example:
        >>> from headwater.expression import parse_query
        >>> number_leaves(parse_query("a NOT (b OR c)").root, {"a": 0, "b": 1, "c": 2})
        ('not', (0, ('or', (1, 2))))
    """
    if isinstance(node, Phrase):
        return number[node.text]
    parts = (node.keep, *node.drops) if isinstance(node, Not) else node.parts
    return type(node).__name__.lower(), tuple(number_leaves(part, number) for part in parts)


def gate(tree: Tree, weight: Callable[[int], int]) -> list[int]:
    """Leaves of which at least one is there whenever the tree is true.

    Args:
        tree: a query.
        weight: how much a leaf narrows the search; of an AND, the narrowest part is taken.

    Example:
        >>> gate(("and", (0, ("or", (1, 2)))), weight=[9, 1, 2].__getitem__)
        [0]
    """
    if isinstance(tree, int):
        return [tree]
    kind, parts = tree
    if kind == "not":
        return gate(parts[0], weight)
    gates = [gate(part, weight) for part in parts]
    if kind == "or":
        return list(dict.fromkeys(leaf for each in gates for leaf in each))
    return max(gates, key=lambda each: min(map(weight, each)))


class Booleans:
    """Decides trees in blocks of captions.

    Args:
        trees: the trees by their keys.
        gates: for each key, what `gate` gave.
        leaves: how many leaves there are.
    """

    def __init__(
        self, trees: Mapping[int, Tree], gates: Mapping[int, list[int]], *, leaves: int
    ) -> None:
        self._leaves = leaves
        shapes: dict[Tree, list[int]] = {}
        for key, tree in trees.items():
            shapes.setdefault(_shape(tree), []).append(key)
        self._groups = [
            _Group(
                shape, np.array([list(leaves_of(trees[key])) for key in keys]), _edges(keys, gates)
            )
            for shape, keys in shapes.items()
        ]

    def decide(self, hits: Hits) -> Hits:
        """The trees that hold, from the first to the last of their phrases that are there.

        Args:
            hits: the first ones of every leaf in every row that has one of a gate, sorted as
                `first_hits` does.
        """
        at = hits.row * self._leaves + hits.key
        return join_hits([group.decide(hits, at, self._leaves) for group in self._groups])


@dataclass(frozen=True)
class _Group:
    """The trees of one shape."""

    shape: Tree
    slots: Ints  # (trees, leaves of the shape)
    edges: pl.DataFrame  # key: of the gate's leaf; nth: of the tree in the group; tree: its key

    def decide(self, hits: Hits, at: Ints, leaves: int) -> Hits:
        found = pl.DataFrame({"row": hits.row, "key": hits.key})
        tried = found.join(self.edges, on="key").unique(["row", "tree"], maintain_order=True)
        row, nth = tried["row"].to_numpy(), tried["nth"].to_numpy()
        truths = iter([_look_up(row * leaves + slot, at, hits) for slot in self.slots[nth].T])
        holds, start, end = _decide(self.shape, truths)
        which = np.flatnonzero(holds)
        return Hits(row, tried["tree"].to_numpy(), start, end).where(which)


def _edges(keys: list[int], gates: Mapping[int, list[int]]) -> pl.DataFrame:
    rows = [(leaf, nth, key) for nth, key in enumerate(keys) for leaf in gates[key]]
    schema = {"key": pl.Int64, "nth": pl.Int64, "tree": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _shape(tree: Tree) -> Tree:
    if isinstance(tree, int):
        return 0
    return tree[0], tuple(map(_shape, tree[1]))


def leaves_of(tree: Tree) -> Iterator[int]:
    """The leaves of a tree, from left to right."""
    if isinstance(tree, int):
        yield tree
    else:
        for part in tree[1]:
            yield from leaves_of(part)


def _look_up(wanted: Ints, at: Ints, hits: Hits) -> Truth:
    if not len(at):
        nowhere = np.full(len(wanted), NOWHERE)
        return np.zeros(len(wanted), dtype=np.bool_), nowhere, nowhere
    place = np.minimum(np.searchsorted(at, wanted), len(at) - 1)
    there = at[place] == wanted
    return there, np.where(there, hits.start[place], NOWHERE), np.where(there, hits.end[place], -1)


def _decide(shape: Tree, leaves: Iterator[Truth]) -> Truth:
    """Bottom up; what does not hold has no place, so spans are those of the branches that do."""
    if isinstance(shape, int):
        return next(leaves)
    kind, parts = shape
    truths = [_decide(part, leaves) for part in parts]
    holds = [truth[0] for truth in truths]
    start, end = truths[0][1:]
    if kind == "not":
        there = holds[0] & ~np.logical_or.reduce(holds[1:])
    else:
        there = (np.logical_and if kind == "and" else np.logical_or).reduce(holds)
        start = np.minimum.reduce([truth[1] for truth in truths])
        end = np.maximum.reduce([truth[2] for truth in truths])
    return there, np.where(there, start, NOWHERE), np.where(there, end, -1)
