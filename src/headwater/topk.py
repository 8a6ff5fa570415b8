"""Exact maximum inner product search: one pass over shards of vectors, with no index to build.

Scores are float32 matrix products, a block of rows at a time. Rounding can swap two rows that
nearly tie, so each score carries a bound of its error: a row stays in the race for as long as it
may belong to the best k (`candidates.py`), and those that are left after some blocks are scored
again in float64 from the rows in memory. The result is that of a float64 search, for every block
size and every split into shards. How shards are read is in `rows.py`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.candidates import SLOT_BYTES, Best, Float64, Held, Hits, spare
from headwater.errors import InputError
from headwater.float32 import full_float32
from headwater.progress import say, track
from headwater.rows import Ints, Rows, Shard, ahead

if TYPE_CHECKING:
    from torch import Tensor

Float32 = NDArray[np.float32]

BLOCK_ROWS = 8192
FIRST_ROWS = 1024  # blocks begin small: floors rise before there is much to weigh
SCORES = 4 * 2**20  # of one block, at most
HELD_BYTES = 512 * 2**20  # rows at hand for scoring in float64; the more, the fewer such scores
STATE_BYTES = 128 * 2**20  # for candidates; more queries than fit take another pass

UNIT = 2.0**-24  # rounding error of one float32 operation, relative
SQUARE = 2.0**-63  # the square of less may count as zero


class Nearest(NamedTuple):
    """The best rows of each query.

    scores: (q, k) float32, falling; -inf where there are fewer than k rows.
    ids: (q, k) int64; -1 where there are fewer than k rows.
    blank: how many rows have a value that is not finite; they are in no result.
    """

    scores: Float32
    ids: Ints
    blank: int


def top_k(
    queries: NDArray[Any], shards: Sequence[Shard], k: int, *, block_rows: int = BLOCK_ROWS
) -> tuple[Float32, Ints]:
    """The k rows with the largest inner product with each query, exactly.

    The ids are those of a float64 brute force over the values as stored, exact ties by lower id.
    Rows with a value that is not finite (or past 1e19, where float32 overflows) are never
    returned; how many there are is told in one line on standard error.

    Args:
        queries: (q, d) floats, any scale.
        shards: arrays, memmaps, paths of .npy files or other `headwater.rows.Vectors`, each
            (rows, d) of floats, in order; a row's id is its place in all shards end to end. They
            are read a block at a time, so memory does not grow with them.
        k: how many rows per query.
        block_rows: rows scored at once, at most; changes memory and speed, never the result.

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
    found = search(queries, shards, k, block_rows=block_rows)
    if found.blank:
        say(f"{found.blank:,} rows of vectors are not finite: they are in no result")
    return found.scores, found.ids


def search(
    queries: NDArray[Any],
    shards: Sequence[Shard],
    k: int,
    *,
    block_rows: int = BLOCK_ROWS,
    device: str | None = None,
) -> Nearest:
    """`top_k` that returns the count of rows that are not finite, and says nothing.

    Args:
        queries: (q, d) floats.
        shards: as for `top_k`.
        k: how many rows per query.
        block_rows: rows scored at once, at most.
        device: where torch multiplies; None takes CUDA where it is, else the CPU.

    Example:
        >>> search(np.ones((1, 1)), [np.array([[2.0], [np.nan]])], 1)
        Nearest(scores=array([[2.]], dtype=float32), ids=array([[0]]), blank=1)
    """
    asked, scale = _checked(queries, k)
    rows = Rows(shards, dimensions=asked.shape[1])
    scores = np.full((len(asked), k), -np.inf, dtype=np.float32)
    ids = np.full((len(asked), k), -1, dtype=np.int64)
    depth, blank = max(1, min(k, len(rows))), 0
    step = max(1, STATE_BYTES // (depth + spare(depth)) // SLOT_BYTES)
    for start in range(0, len(asked), step):
        some = slice(start, start + step)
        best, blank = _pass(asked[some], rows, depth, block_rows, device)
        with np.errstate(over="ignore"):
            scores[some, :depth] = best.low[:, :depth] * scale[some]
        ids[some, :depth] = best.rows[:, :depth]
    return Nearest(scores, ids, blank)


def _pass(
    queries: Float64, rows: Rows, k: int, block_rows: int, device: str | None
) -> tuple[Best, int]:
    """One pass over all rows: the sorted best, and how many rows are not finite."""
    size = max(1, min(block_rows, SCORES // len(queries)))
    held = Held(queries)
    best = Best(k, held)
    blank = 0
    with full_float32():  # TF32 or bfloat16 would break the bounds
        scorer = _Scorer(queries, size, device)
        blocks = ahead(rows.blocks(size, least=FIRST_ROWS))
        for first, block in track(
            blocks, label="searching", total=len(rows), unit="rows", size=lambda b: len(b[1])
        ):
            tensor = _tensor(block)
            held.add(first, tensor)
            hits, broken = scorer.hits(tensor, best.floors)
            best.offer(hits._replace(rows=hits.rows + first))
            blank += broken
            if held.bytes >= HELD_BYTES:
                best.settle()
                held.clear()
                rows.forget()
        best.settle()
    rows.forget()
    best.sort()
    return best, blank


class _Scorer:
    """Float32 scores of a block, and which of them reach a query's floor.

    A score is within error * |x| of the true one: |error| <= d * u * sum |q_i x_i| <=
    d * u * |q| |x| whatever the order of summation, to first order in u (Higham, Accuracy and
    Stability of Numerical Algorithms, section 3.1); four more for rounding the stored values to
    float32 and for the lengths, 5 % for the higher orders. Values whose squares may be lost in
    |x| are made up for by `short`, and that covers all that underflow can do, since queries
    have values of about 1.
    """

    def __init__(self, queries: Float64, size: int, device: str | None) -> None:
        import torch

        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._queries = torch.from_numpy(queries.astype(np.float32)).to(self._device)
        dimensions = queries.shape[1]
        norms = np.linalg.norm(queries, axis=1)
        self._error = 1.05 * (dimensions + 4) * UNIT * norms
        self._short = np.sqrt(dimensions) * SQUARE
        # written over by every block: fresh memory costs as much as comparing does
        self._vectors = torch.empty((size, dimensions), device=self._device)
        self._scores = torch.empty(len(queries) * size, device=self._device)
        self._enough = torch.empty(len(self._scores), dtype=torch.bool, device=self._device)

    def hits(self, block: Tensor, floors: Float64) -> tuple[Hits, int]:
        """The rows of a block that may be above the (q,) floors, and how many are not finite."""
        import torch

        vectors = self._vectors[: len(block)].copy_(block)
        lengths, blank = _lengths(vectors)
        longest = lengths.max(initial=0) + self._short
        reach = (floors - self._error * longest).astype(np.float32)
        reach = np.nextafter(reach, np.float32(-np.inf))
        shape = len(self._queries), len(block)
        scores = self._scores[: math.prod(shape)]
        torch.mm(self._queries, vectors.T, out=scores.view(shape))
        enough = self._enough[: math.prod(shape)]
        reach = torch.from_numpy(reach).to(self._device)[:, None]
        torch.ge(scores.view(shape), reach, out=enough.view(shape))  # never so for NaN
        at = np.flatnonzero(enough.cpu().numpy())
        queries, rows = np.divmod(at, len(block))
        found = scores[torch.from_numpy(at).to(self._device)].cpu().numpy()
        errors = self._error[queries] * (lengths[rows] + self._short)
        return Hits(queries, rows, found - errors, found + errors), blank


def _lengths(vectors: Tensor) -> tuple[Float64, int]:
    """The length of each row; rows that are not finite become NaN, so that they never score."""
    import torch

    lengths = torch.linalg.vector_norm(vectors, dim=1).cpu().numpy().astype(np.float64)
    broken = np.flatnonzero(~np.isfinite(lengths))
    if len(broken):
        vectors[torch.from_numpy(broken).to(vectors.device)] = torch.nan
        lengths[broken] = 0
    return lengths, len(broken)


def _tensor(array: NDArray[Any]) -> Tensor:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an array that must not be written: none is
        return torch.from_numpy(array)


def _checked(queries: NDArray[Any], k: int) -> tuple[Float64, Float64]:
    """The queries with values of about 1, and the power of two that makes them what they were."""
    asked = np.asarray(queries)
    if asked.ndim != 2 or asked.dtype.kind != "f":
        seen = f"shape {asked.shape} of {asked.dtype}"
        raise InputError(
            "queries of the wrong kind", expected="a (q, d) array of floats", seen=seen
        )
    finite = np.isfinite(asked).all(axis=1)
    if not finite.all():
        seen = f"query {int(np.flatnonzero(~finite)[0])} with NaN or infinity"
        raise InputError("a query that cannot be compared", expected="finite values", seen=seen)
    if k < 1:
        raise InputError("k is too small", expected="at least 1", seen=str(k))
    exact = asked.astype(np.float64)
    largest = np.abs(exact).max(axis=1, initial=0, keepdims=True)
    scale = np.ldexp(1.0, np.frexp(largest)[1] - 1)
    return exact / scale, scale
