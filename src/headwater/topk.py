"""Exact maximum inner product search: one pass over shards of vectors, with no index to build.

Scores are float32 matrix products, block by block. Rounding can swap two rows whose scores nearly
tie, so every row that could still belong to the best k, given the rounding error its score may
have, is kept and scored again in float64 at the end. That makes the answer the same for every
block size and every split into shards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import InputError, PoolError

Shard = NDArray[Any] | str | Path
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK_ROWS = 32_768  # times 768 dimensions, and times QUERIES: about 100 MB of float32 each
QUERIES = 1024
EXACT_ROWS = 512  # small enough for the cache
SPARE = 256  # with k / 4: candidates beyond k that pile up before the hopeless ones are dropped

UNIT = 2.0**-24  # rounding error of one float32 operation, relative
TINY = 2.0**-149  # and where numbers get too small for that, absolute


def top_k(
    queries: NDArray[Any], shards: Sequence[Shard], k: int, *, block_rows: int = BLOCK_ROWS
) -> tuple[Float32, Ints]:
    """The k rows with the largest inner product with each query, exactly.

    The ids are those of a float64 brute force over the values as stored, exact ties by lower id.
    Rows with a value that is not finite (or past 1e19, where float32 overflows) are never returned.

    Args:
        queries: (q, d) floats, any scale.
        shards: arrays, memmaps or paths of .npy files, each (rows, d) of floats, in order; a row's
            id is its place in all shards end to end. Files are read a block at a time.
        k: how many rows per query.
        block_rows: rows scored at once; changes memory and speed, never the result.

    Returns:
        scores: (q, k) float32, falling; -inf where there are fewer than k rows.
        ids: (q, k) int64; -1 where there are fewer than k rows.

    Raises:
        InputError: queries that are not a matrix of finite floats, or k below 1.
        PoolError: a shard that cannot be read or has other dimensions.

    Example:
        >>> shards = [np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.5, 0.5]])]
        >>> scores, ids = top_k(np.array([[1.0, 0.25]]), shards, 2)
        >>> scores.tolist(), ids.tolist()
        ([[1.0, 0.625]], [[0, 2]])
    """
    asked = _checked(queries, k)
    rows = Rows(shards, dimensions=asked.shape[1])
    best = [_Best(query, k, rows) for query in asked]
    rounded = asked.astype(np.float32)
    for first, block in rows.blocks(block_rows):
        lengths = _lengths(block)
        for start in range(0, len(best), QUERIES):
            scores = rounded[start : start + QUERIES] @ block.T
            for one, row in zip(best[start : start + QUERIES], scores, strict=True):
                one.offer(row, lengths, first)
    return _results(best, asked, rows, k)


class Rows:
    """Shards of vectors end to end, read by global row number.

    Args:
        shards: as for `top_k`.
        dimensions: what every shard must have; None takes it from the first shard.

    Raises:
        PoolError: a shard that cannot be read, is not a matrix of floats, or is of another width.

    Example:
        >>> rows = Rows([np.eye(2), np.ones((3, 2))])
        >>> len(rows), rows.take(np.array([4, 1])).tolist()
        (5, [[1.0, 1.0], [0.0, 1.0]])
    """

    def __init__(self, shards: Sequence[Shard], *, dimensions: int | None = None) -> None:
        self._shards: list[NDArray[Any]] = []
        for number, shard in enumerate(shards):
            self._shards.append(_open(shard, number, dimensions))
            dimensions = self._shards[0].shape[1]
        self._dimensions = dimensions or 0
        self._starts = np.cumsum([0, *(len(shard) for shard in self._shards)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def blocks(self, size: int) -> Iterator[tuple[int, Float32]]:
        """Consecutive rows, at most `size` of them, with the number of the first."""
        for start, shard in zip(self._starts.tolist(), self._shards, strict=False):
            for at in range(0, len(shard), size):
                yield start + at, shard[at : at + size].astype(np.float32)

    def take(self, ids: Ints) -> Float64:
        """The rows with these numbers, (len(ids), d) as float64."""
        taken = np.empty((len(ids), self._dimensions))
        where = np.searchsorted(self._starts, ids, side="right") - 1
        for number in np.unique(where):
            here = where == number
            taken[here] = self._shards[number][ids[here] - self._starts[number]]
        return taken


class _Best:
    """The best rows of one query so far, and all that may yet prove to be among them.

    A float32 score c of a row x is within e = error * |x| of the true one (see `_error`). At least
    k rows have true scores of c - e or more, for the k largest c - e; the smallest of these is the
    floor, and a row whose c + e is below it is out for good.
    """

    def __init__(self, query: Float64, k: int, rows: Rows) -> None:
        self._query, self._k, self._rows = query, k, rows
        self._error = _error(query)
        self._tiny = len(query) * TINY
        self._floor = -np.inf
        self._scores = np.empty(0)
        self._errors = np.empty(0)
        self.ids = np.empty(0, dtype=np.int64)

    def offer(self, scores: Float32, lengths: Float64, first: int) -> None:
        """Consider consecutive rows: (n,) scores and lengths, the number of the first."""
        reach = np.float32(self._floor - self._error * lengths.max(initial=0) - self._tiny)
        at = np.flatnonzero(scores >= np.nextafter(reach, np.float32(-np.inf)))  # never NaN
        errors = self._error * lengths[at] + self._tiny
        hopeful = scores[at] + errors >= self._floor
        at, errors = at[hopeful], errors[hopeful]
        self._scores = np.concatenate([self._scores, scores[at]])
        self._errors = np.concatenate([self._errors, errors])
        self.ids = np.concatenate([self.ids, at + first])
        if self._full:
            self._prune()

    @property
    def _full(self) -> bool:
        return len(self.ids) > self._k + self._k // 4 + SPARE

    def _prune(self) -> None:
        low = self._scores - self._errors
        self._floor = np.partition(low, len(low) - self._k)[-self._k]
        self._keep(self._scores + self._errors >= self._floor)
        if self._full:
            self._settle()

    def _settle(self) -> None:
        """Very many rows nearly tie: score them exactly now, and keep k.

        Later rows that tie exactly have higher ids and lose, so none of the dropped is missed.
        """
        who = np.zeros(len(self.ids), dtype=np.int64)
        self._scores = _exact(self._query[None], who, self._rows, self.ids)
        self._errors = np.zeros(len(self.ids))
        self._keep(_order(self._scores, self.ids)[: self._k])
        self._floor = self._scores[-1]

    def _keep(self, which: NDArray[Any]) -> None:
        self._scores, self._errors = self._scores[which], self._errors[which]
        self.ids = self.ids[which]


def _error(query: Float64) -> float:
    """How far a float32 inner product may be from the true one, per length of the other vector.

    |error| <= d * u * sum |q_i x_i| <= d * u * |q| |x| whatever the order of summation, to first
    order in u (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1); four more
    for rounding the stored values to float32 and for the lengths, 5 % for the higher orders.
    """
    return 1.05 * (len(query) + 4) * UNIT * float(np.linalg.norm(query))


def _lengths(block: Float32) -> Float64:
    """The length of each row; rows that are not finite become NaN, so that they never score."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(block, axis=1)
    broken = ~np.isfinite(lengths)
    block[broken] = np.nan
    lengths[broken] = 0
    return np.asarray(lengths, dtype=np.float64)


def _results(best: list[_Best], queries: Float64, rows: Rows, k: int) -> tuple[Float32, Ints]:
    scores = np.full((len(best), k), -np.inf, dtype=np.float32)
    ids = np.full((len(best), k), -1, dtype=np.int64)
    for start in range(0, len(best), QUERIES):
        some = best[start : start + QUERIES]
        who = np.repeat(np.arange(len(some)), [len(one.ids) for one in some])
        found = np.concatenate([one.ids for one in some])
        exact = _exact(queries[start : start + QUERIES], who, rows, found)
        for number in range(len(some)):
            own = np.arange(*np.searchsorted(who, [number, number + 1]))
            top = own[_order(exact[own], found[own])[:k]]
            scores[start + number, : len(top)] = exact[top]
            ids[start + number, : len(top)] = found[top]
    return scores, ids


def _exact(queries: Float64, who: Ints, rows: Rows, ids: Ints) -> Float64:
    """The float64 score of each row `ids[i]` with the query `who[i]`, read in the order of ids.

    Summed row by row, not by a matrix product, whose rounding depends on what else is in it.
    """
    scores = np.empty(len(ids))
    order = np.argsort(ids, kind="stable")
    for start in range(0, len(ids), EXACT_ROWS):
        part = order[start : start + EXACT_ROWS]
        scores[part] = (rows.take(ids[part]) * queries[who[part]]).sum(axis=1)
    return scores


def _order(scores: Float64, ids: Ints) -> Ints:
    return np.lexsort((ids, -scores))


def _checked(queries: NDArray[Any], k: int) -> Float64:
    asked = np.asarray(queries)
    if asked.ndim != 2 or asked.dtype.kind != "f":
        seen = f"shape {asked.shape} of {asked.dtype}"
        raise InputError(
            "queries of the wrong kind", expected="a (q, d) array of floats", seen=seen
        )
    with np.errstate(over="ignore"):
        finite = np.isfinite(np.linalg.norm(asked.astype(np.float32), axis=1))
    if not finite.all():
        seen = f"query {int(np.flatnonzero(~finite)[0])} with NaN, infinity or more than 1e19"
        raise InputError("a query that cannot be compared", expected="finite values", seen=seen)
    if k < 1:
        raise InputError("k is too small", expected="at least 1", seen=str(k))
    return asked.astype(np.float64)


def _open(shard: Shard, number: int, dimensions: int | None) -> NDArray[Any]:
    name = Path(shard).name if isinstance(shard, str | Path) else f"number {number}"
    try:
        array = np.load(shard, mmap_mode="r") if isinstance(shard, str | Path) else shard
    except (OSError, ValueError, EOFError) as error:
        raise PoolError(
            f"the vectors {name} cannot be read", expected="a whole .npy file", seen=str(error)
        ) from None
    if array.ndim != 2 or array.dtype.kind != "f":
        seen = f"shape {array.shape} of {array.dtype}"
        raise PoolError(f"vectors of the wrong kind in {name}", expected="(rows, d)", seen=seen)
    if dimensions is not None and array.shape[1] != dimensions:
        raise PoolError(
            f"the vectors {name} do not fit", expected=f"{dimensions} dimensions",
            seen=str(array.shape[1]), do="Use the model that embedded the pool.",
        )  # fmt: skip
    return array
