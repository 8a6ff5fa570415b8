"""Hits: where the things searched for stand in a block of captions. All finders give these."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from headwater.retrieve.scan.tokens import Ints


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


def join_hits(parts: list[Hits]) -> Hits:
    """Several tables of hits, one after the other."""
    return Hits(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
