"""All queries at once in a block of captions: phrases first, then what is made of them.

Most captions hold no phrase that any query needs (its gate, see `boolean.py`); the other phrases
are searched only in those that do. `words.py` cuts captions into blocks and makes the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import polars as pl

from headwater.retrieve.scan.boolean import Booleans, Tree, gate, leaves_of
from headwater.retrieve.scan.hits import Hits, first_hits, join_hits

NO_TREE = -1


class Finder(Protocol):
    """Finds where each of some leaves stands first.

    Attributes:
        block_bytes: how much text it takes best at once.
    """

    block_bytes: int

    def hits(self, captions: pl.Series) -> Hits:
        """The first hit of each leaf, told by its place, in each row; sorted by both."""


class Search:
    """Trees made ready to be searched for.

    Args:
        trees: distinct; the key of a tree is its place.
        weight: for each leaf how rare it is: the more, the rarer.
        finder: makes a finder of the leaves with these numbers.
    """

    def __init__(
        self,
        trees: Sequence[Tree],
        *,
        weight: Sequence[int],
        finder: Callable[[list[int]], Finder],
    ) -> None:
        self._plain = np.full(len(weight), NO_TREE)
        composed: dict[int, Tree] = {}
        for key, tree in enumerate(trees):
            if isinstance(tree, int):
                self._plain[tree] = key
            else:
                composed[key] = tree
        gates = {key: gate(tree, weight.__getitem__) for key, tree in composed.items()}
        self._opens = np.zeros(len(weight), dtype=np.bool_)
        self._opens[[leaf for leaves in gates.values() for leaf in leaves]] = True
        first = np.flatnonzero(self._opens | (self._plain != NO_TREE)).tolist()
        later = sorted({leaf for tree in composed.values() for leaf in leaves_of(tree)} - {*first})
        self._first = _Numbered(first, finder)
        self._later = _Numbered(later, finder) if later else None
        self._booleans = Booleans(composed, gates, leaves=len(weight)) if composed else None

    @property
    def block_bytes(self) -> int:
        """How much text it takes best at once."""
        return self._first.finder.block_bytes

    def hits(self, captions: pl.Series) -> Hits:
        """The first hit of each tree in each caption of a block."""
        hits = self._first.hits(captions)
        key = self._plain[hits.key]
        plain = Hits(hits.row, key, hits.start, hits.end).where(np.flatnonzero(key != NO_TREE))
        if self._booleans is None:
            return plain
        return join_hits([plain, self._booleans.decide(self._with_later(hits, captions))])

    def _with_later(self, hits: Hits, captions: pl.Series) -> Hits:
        """Hits of every leaf in the captions where a gate is open."""
        rows = np.unique(hits.row[self._opens[hits.key]])
        if self._later is None or not len(rows):
            return hits
        more = self._later.hits(captions.gather(rows))
        more = Hits(rows[more.row], more.key, more.start, more.end)
        return first_hits(join_hits([hits, more]), len(self._plain))


class _Numbered:
    """A finder of some leaves that tells them by their numbers."""

    def __init__(self, leaves: list[int], finder: Callable[[list[int]], Finder]) -> None:
        self._number = np.array(leaves)
        self.finder = finder(leaves)

    def hits(self, captions: pl.Series) -> Hits:
        hits = self.finder.hits(captions)
        return Hits(hits.row, self._number[hits.key], hits.start, hits.end)
