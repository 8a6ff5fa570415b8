"""Candidates of a search: the rows that may yet prove to be among the best k of a query.

`topk.py` scores rows in float32 and says how far each score may be off; here they wait, as few as
is safe, until they are scored in float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.rows import Ints

if TYPE_CHECKING:
    from torch import Tensor

Float64 = NDArray[np.float64]

SLOT_BYTES = 24  # of one candidate
SPARE = 256  # or k: candidates beyond k that pile up before the hopeless ones are dropped
PAIRS = 256  # scored in float64 at a time: they stay in the cache


class Hits(NamedTuple):
    """Rows in the race, by query: its number, the row's, and bounds of the true score."""

    queries: Ints
    rows: Ints
    low: Float64
    high: Float64

    def at(self, which: slice | NDArray[np.bool_]) -> Hits:
        """Some of them."""
        return Hits(self.queries[which], self.rows[which], self.low[which], self.high[which])


class Held:
    """Rows at hand as they are stored, to score some of them in float64."""

    def __init__(self, queries: Float64) -> None:
        import torch

        self._queries = torch.from_numpy(queries)
        self._blocks: list[Tensor] = []
        self._starts: list[int] = []
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._queries)

    def add(self, first: int, block: Tensor) -> None:
        """Hold a block of rows, whose first has that number."""
        self._starts.append(first)
        self._blocks.append(block)
        self.bytes += block.nbytes

    def clear(self) -> None:
        """Let all rows go."""
        self._starts.clear()
        self._blocks.clear()
        self.bytes = 0

    def scores(self, queries: Ints, rows: Ints) -> Float64:
        """The float64 score of each query with its row."""
        import torch

        order = np.argsort(rows)
        cuts = np.searchsorted(rows[order], [*self._starts, np.iinfo(np.int64).max])
        queries_, rows_ = torch.from_numpy(queries[order]), torch.from_numpy(rows[order])
        sums = torch.empty(len(rows), dtype=torch.float64)
        pair = torch.empty((2, PAIRS, self._queries.shape[1]), dtype=torch.float64)
        for number, (first, block) in enumerate(zip(self._starts, self._blocks, strict=True)):
            for at in range(cuts[number], cuts[number + 1], PAIRS):
                part = slice(at, min(at + PAIRS, cuts[number + 1]))
                left, right = pair[:, : part.stop - at]
                left.copy_(block.index_select(0, rows_[part] - first))
                torch.index_select(self._queries, 0, queries_[part], out=right)
                # row by row: the sum of a matrix product would depend on what else is in it
                torch.sum(left.mul_(right), dim=1, out=sums[part])
        scores = np.empty(len(rows))
        scores[order] = sums.numpy()
        return scores


class Best:
    """The best k rows of each query so far, and all that may yet prove to be among them.

    The k-th largest lower bound of a query is its floor: at least k rows truly score that much, so
    a row whose upper bound is below it is out for good. Scores that are known have equal bounds.
    """

    def __init__(self, k: int, held: Held) -> None:
        self._k, self._held = k, held
        shape = len(held), k + spare(k)
        self.low = np.full(shape, -np.inf)
        self.high = np.full(shape, -np.inf)
        self.rows = np.full(shape, -1, dtype=np.int64)
        self._counts = np.zeros(len(held), dtype=np.int64)
        self.floors = np.full(len(held), -np.inf)

    def offer(self, hits: Hits) -> None:
        """Consider rows, sorted by query, whose numbers are above all earlier ones."""
        coming = np.bincount(hits.queries, minlength=len(self._held))
        ends = np.cumsum(coming)
        full = self._counts + coming > self.low.shape[1]
        for query in np.flatnonzero(full):
            self._squeeze(int(query), hits.at(slice(ends[query] - coming[query], ends[query])))
        self._append(hits.at(~full[hits.queries]) if full.any() else hits)

    def settle(self) -> None:
        """Score in float64 what is open; all the rows in question are still held."""
        self._raise_floors()
        open_ = (self.high > self.low) & (self.high >= self.floors[:, None])
        queries, slots = np.nonzero(open_)
        exact = self._held.scores(queries, self.rows[open_])
        self.low[queries, slots] = self.high[queries, slots] = exact
        self._raise_floors()
        keep = (self.high >= self.floors[:, None]) & (self.rows >= 0)
        hits = Hits(np.nonzero(keep)[0], self.rows[keep], self.low[keep], self.high[keep])
        self._clear(slice(None))
        self._append(hits)

    def sort(self) -> None:
        """Order each query's rows by falling score, ties by lower number."""
        order = np.lexsort((self.rows, -self.low), axis=-1)
        self.low = np.take_along_axis(self.low, order, 1)
        self.rows = np.take_along_axis(self.rows, order, 1)

    def _raise_floors(self) -> None:
        place = self.low.shape[1] - self._k
        self.floors = np.partition(self.low, place, axis=1)[:, place]

    def _append(self, hits: Hits) -> None:
        coming = np.bincount(hits.queries, minlength=len(self._held))
        skip = self._counts - (np.cumsum(coming) - coming)
        slots = np.arange(len(hits.queries)) + skip[hits.queries]
        self.low[hits.queries, slots] = hits.low
        self.high[hits.queries, slots] = hits.high
        self.rows[hits.queries, slots] = hits.rows
        self._counts += coming

    def _clear(self, which: int | slice) -> None:
        self.low[which], self.high[which], self.rows[which] = -np.inf, -np.inf, -1
        self._counts[which] = 0

    def _squeeze(self, query: int, hits: Hits) -> None:
        """Drop what is hopeless of one query whose hits do not fit."""
        count = self._counts[query]
        low = np.concatenate([self.low[query, :count], hits.low])
        high = np.concatenate([self.high[query, :count], hits.high])
        rows = np.concatenate([self.rows[query, :count], hits.rows])
        if len(low) >= self._k:
            self.floors[query] = np.partition(low, len(low) - self._k)[len(low) - self._k]
        keep = np.flatnonzero(high >= self.floors[query])
        if len(keep) > self.low.shape[1]:
            keep = self._settled(query, low, high, rows)
        self._clear(query)
        self.low[query, : len(keep)] = low[keep]
        self.high[query, : len(keep)] = high[keep]
        self.rows[query, : len(keep)] = rows[keep]
        self._counts[query] = len(keep)

    def _settled(self, query: int, low: Float64, high: Float64, rows: Ints) -> Ints:
        """Very many rows nearly tie: score them now, and say which k are best.

        Later rows that tie exactly have higher numbers and lose, so none of the dropped is missed.
        """
        open_ = np.flatnonzero((high > low) & (high >= self.floors[query]))
        low[open_] = self._held.scores(np.full(len(open_), query), rows[open_])
        high[open_] = low[open_]
        best = np.lexsort((rows, -low))[: self._k]
        self.floors[query] = low[best[-1]]
        return best


def spare(k: int) -> int:
    """How many candidates beyond k a query may have."""
    return max(k, SPARE)
