"""Hits: where the things searched for stand in a block of captions. All finders give these."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from headwater.retrieve.scan.tokens import Ints

MANY = 1 << 18
"""Hits held before all but the first ones are let go."""


class Hits(NamedTuple):
    """Four arrays (hits,): the caption's row in the block, what was found, and its bytes."""

    row: Ints
    key: Ints
    start: Ints
    end: Ints

    def where(self, which: Ints) -> Hits:
        """The hits `which`, in that order."""
        return Hits(*(array[which] for array in self))


def first_hits(hits: Hits, keys: int) -> Hits:
    """The first hit of each (row, key), by row and then key.

    Args:
        hits: those of one key in one row in reading order.
        keys: how many keys there are.

    Example:
        >>> found = Hits(*np.array([[1, 0, 1], [0, 0, 0], [3, 5, 8], [4, 6, 9]]))
        >>> first_hits(found, 1).start.tolist()
        [5, 3]
    """
    _, first = np.unique(hits.row * keys + hits.key, return_index=True)
    return hits.where(first)


def first_hits_of(parts: Iterable[Hits], keys: int) -> Hits:
    """`first_hits` of parts that come one at a time; of a million in one caption few are held.

    Example:
        >>> found = Hits(*np.array([[0, 0], [0, 0], [3, 5], [4, 6]]))
        >>> first_hits_of([found, found], 1).start.tolist()
        [3]
    """
    held, size, limit = [Hits(*np.zeros((4, 0), dtype=np.int64))], 0, MANY
    for part in parts:
        held.append(part)
        size += len(part.row)
        if size > limit:
            held = [first_hits(join_hits(held), keys)]
            size = len(held[0].row)
            limit = max(MANY, 2 * size)  # so that nothing is sorted again and again
    return first_hits(join_hits(held), keys)


def join_hits(parts: list[Hits]) -> Hits:
    """Several tables of hits, one after the other."""
    return Hits(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
