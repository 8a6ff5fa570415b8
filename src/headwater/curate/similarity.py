"""Inner products of descriptors: fast a block at a time, exact where it matters.

A block of float32 similarities is multiplied into memory that stays in the cache, and only its
rows' maxima are looked at. A similarity may be off by rounding, and by how much at most is known;
the few pairs whose rounding could decide something are computed again in float64. What is asked of
them is in copies.py and duplicates.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float32]
Descriptors = NDArray[Any]
Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]

ROWS, COLUMNS = 4096, 1024
"""Of a block of similarities (16 MB). With 512 x 512 to 8192 x 2048, product and maxima take the
same time within 5 %; more columns no longer stay in the cache (4096 x 4096: 10 % slower)."""

PAIRS = 256  # computed in float64 at a time: they stay in the cache
CROWD = 4  # pairs in question a row; where there are more, equal columns are compared once

UNIT = 2.0**-24  # rounding error of one float32 operation, relative
SHORT = 2.0**-63  # the square of less may count as zero
TINY = 2.0**-126  # and a product of less


class Pairs(NamedTuple):
    """Some cells of a block, by row and then by column, with their float32 similarities."""

    rows: Ints
    columns: Ints
    similarity: Floats

    def at(self, which: NDArray[np.bool_]) -> Pairs:
        """Some of them."""
        return Pairs(self.rows[which], self.columns[which], self.similarity[which])


class Product:
    """The similarities of one block with another, where those of the last two were."""

    def __init__(self) -> None:
        import torch

        self._memory = torch.empty(ROWS * COLUMNS)

    def of(self, left: Descriptors, right: Descriptors) -> tuple[Floats, Floats]:
        """Similarities (n, m), written over by the next call, and the (n,) largest of each row."""
        import torch

        left_, right_ = _tensor(left), _tensor(right)
        found = self._memory[: len(left) * len(right)].view(len(left), len(right))
        torch.mm(left_, right_.T, out=found)
        return found.numpy(), torch.amax(found, dim=1).numpy()


def cells_from(similarity: Floats, largest: Floats, floors: Float64) -> Pairs:
    """The cells of a block that are not below the (n,) floors of their rows.

    Example:
        >>> block = np.array([[0.1, 0.9], [0.2, 0.3]], np.float32)
        >>> cells_from(block, block.max(axis=1), np.array([0.5, 0.5])).columns.tolist()
        [1]
    """
    least = np.nextafter(floors.astype(np.float32), np.float32(-np.inf))
    rows = np.flatnonzero(largest >= least)
    some = similarity if len(rows) == len(similarity) else similarity[rows]
    at, columns = np.divmod(np.flatnonzero(some >= least[rows, None]), similarity.shape[1])
    return Pairs(rows[at], columns, some[at, columns])


def exact(left: Descriptors, right: Descriptors, rows: Ints, columns: Ints) -> Float64:
    """The float64 similarity of row i of `left` with row j of `right`, for pairs (i, j).

    Equal descriptors have equal similarities, wherever they stand.

    Example:
        >>> exact(np.eye(2), np.array([[0.6, 0.8]]), np.array([1, 0]), np.array([0, 0])).tolist()
        [0.8, 0.6]
    """
    found = np.empty(len(rows))
    for part in slices(len(rows), PAIRS):
        products = left[rows[part]].astype(np.float64)
        products *= right[columns[part]]
        # row by row: the sum of a matrix product would depend on what else is in it
        found[part] = products.sum(axis=1)
    return found


def without_equals(pairs: Pairs, right: Descriptors) -> Pairs:
    """The pairs without columns that equal an earlier one, if there are so many that it pays."""
    if len(pairs.rows) <= CROWD * (1 + np.count_nonzero(np.diff(pairs.rows))):
        return pairs
    first: dict[bytes, int] = {}
    for column, row in enumerate(right):
        first.setdefault(row.tobytes(), column)
    stay = np.zeros(len(right), np.bool_)
    stay[list(first.values())] = True
    return pairs.at(stay[pairs.columns])


def lengths(descriptors: Descriptors) -> Float64:
    """The length of each descriptor, (n,).

    Raises:
        InputError: a descriptor that is not a number, or longer than 1e19.
    """
    found = np.empty(len(descriptors))
    for part in slices(len(descriptors), ROWS):
        rows = _float32(descriptors[part])
        with np.errstate(over="ignore"):
            found[part] = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    broken = np.flatnonzero(~np.isfinite(found))
    if len(broken):
        raise InputError(
            "descriptors that are not numbers",
            expected="finite rows",
            seen=f"NaN, infinity or more than 1e19 in row {broken[0]}",
            do="Leave out images that cannot be described.",
        )
    return found


def rounding(left: Float64, right: Float64, dimensions: int) -> Float64:
    """By how much the float32 similarities of rows of these lengths may be off, (n,).

    At most d u |a| |b| whatever the order of summation, to first order in u (Higham, Accuracy and
    Stability of Numerical Algorithms, section 3.1); four more for rounding the stored values to
    float32 and for the lengths, 5 % for the higher orders, and what underflow can lose.
    """
    short = np.sqrt(dimensions) * SHORT
    longest = right.max(initial=0) + short
    relative = 1.05 * (dimensions + 4) * UNIT
    return np.asarray(relative * (left + short) * longest + dimensions * TINY)


def check_kinds(left: Descriptors, right: Descriptors) -> None:
    """Raise `InputError` where the two cannot be descriptors of one kind."""
    fits = left.ndim == right.ndim == 2 and left.shape[1] == right.shape[1]
    if not fits or left.dtype.kind != "f" or right.dtype.kind != "f":
        raise InputError(
            "descriptors of different kinds",
            expected="floats (n, d) and (m, d)",
            seen=f"{left.dtype} {left.shape} and {right.dtype} {right.shape}",
            do="Describe candidates and references with the same descriptor.",
        )


def slices(n: int, size: int) -> Iterator[slice]:
    """`range(n)` in parts of at most `size`.

    Example:
        >>> list(slices(5, 3))
        [slice(0, 3, None), slice(3, 5, None)]
    """
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def _float32(rows: Descriptors) -> Floats:
    return np.ascontiguousarray(rows, dtype=np.float32)


def _tensor(rows: Descriptors) -> Tensor:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an array that must not be written: none is
        return torch.from_numpy(_float32(rows))
