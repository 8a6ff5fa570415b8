"""Which pictures of a set are near-copies of a better one that stays, told by descriptors alone.

Copies of another set's pictures are in copies.py, the arithmetic in similarity.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from headwater.curate import similarity
from headwater.curate.similarity import (
    Descriptors,
    Float64,
    Ints,
    Pairs,
    Product,
    cells_from,
    check_kinds,
    exact,
    lengths,
    rounding,
    slices,
)
from headwater.descriptors import COPY_THRESHOLD
from headwater.errors import InputError
from headwater.float32 import full_float32


def find_duplicates(
    descriptors: Descriptors, *, threshold: float | None = None, groups: ArrayLike | None = None
) -> Ints:
    """Which rows are near-copies of an earlier row that stays; rows are given best first.

    Row by row, in order: a row falls if its similarity to some earlier row *that stays* is above
    the threshold. A row that resembles only fallen ones stays, so every row that falls has its
    like among those that stay, and no two that stay are alike.

    Exact. Memory stays at about 50 MB beside the descriptors, even if all are alike; the time is
    that of half a matrix product of the rows of a group with those of it that stay. Across two
    sets the same question is `find_copies(descriptors_of_one, descriptors_of_the_other)`.

    Args:
        descriptors: (n, d), unit rows of any floats, the best first; an array or memmap.
        threshold: rows whose similarity, as float32, is above this are alike; None is the built-in
            descriptor's, `COPY_THRESHOLD`.
        groups: (n,) of labels or numbers; only rows of the same group are compared. None: all.

    Returns:
        (n,) int64: the lowest earlier row that stays and that this one duplicates; -1 for a row
        that stays.

    Raises:
        InputError: not a matrix of finite floats, or groups of another length.

    Example:
        >>> rows = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
        >>> find_duplicates(rows, threshold=0.7).tolist()  # the third is like the second, fallen
        [-1, 0, -1, 2]
        >>> find_duplicates(rows, threshold=0.7, groups=["a", "b", "a", "b"]).tolist()
        [-1, -1, -1, -1]
    """
    check_kinds(descriptors, descriptors)
    limit = np.float32(COPY_THRESHOLD if threshold is None else threshold)
    instead = np.full(len(descriptors), -1, np.int64)
    long = lengths(descriptors)
    errors = rounding(long, long, descriptors.shape[1])
    with full_float32():  # TF32 or bfloat16 would break the bounds
        sieve = _Sieve(descriptors, errors, limit)
        for members in _members(groups, len(descriptors)):
            instead[members] = sieve.sift(members)
    return instead


def _members(groups: ArrayLike | None, n: int) -> Iterator[Ints]:
    """The rows of every group that has two or more, each in order."""
    if groups is None:
        yield np.arange(n)
        return
    names = np.asarray(groups)
    if names.shape != (n,):
        raise InputError(
            "groups that do not match the descriptors", expected=f"({n},)", seen=str(names.shape)
        )
    _, numbers, counts = np.unique(names, return_inverse=True, return_counts=True)
    grouped = np.split(np.argsort(numbers, kind="stable"), np.cumsum(counts)[:-1])
    yield from (members for members in grouped if len(members) > 1)


class _Sieve:
    """Descriptors, and what makes two of them alike."""

    def __init__(self, descriptors: Descriptors, errors: Float64, limit: np.float32) -> None:
        self._descriptors, self._errors, self._limit = descriptors, errors, limit
        self._product = Product()

    def sift(self, members: Ints) -> Ints:
        """For each of these rows the earlier one of them that stays in its place, or -1."""
        instead = np.full(len(members), -1, np.int64)
        stay = np.empty_like(members)  # filled from the front
        count = 0
        for part in slices(len(members), similarity.ROWS):
            rows, found, before = members[part], instead[part], count
            self._sift_against(stay[:before], rows, found)
            for few in slices(len(rows), similarity.COLUMNS):
                self._sift_against(stay[before:count], rows[few], found[few])
                self._sift_each_other(rows[few], found[few])
                new = rows[few][found[few] < 0]
                stay[count : count + len(new)] = new
                count += len(new)
        return instead

    def _sift_against(self, stay: Ints, rows: Ints, found: Ints) -> None:
        """Write down which of some rows are like one of those that stay."""
        open_ = np.flatnonzero(found < 0)
        left = self._descriptors[rows[open_]]
        for kept in slices(len(stay), similarity.COLUMNS):
            if not len(open_):
                return
            pairs = self._alike(left, self._descriptors[stay[kept]], self._errors[rows[open_]])
            if len(pairs.rows):
                fallen, first = np.unique(pairs.rows, return_index=True)
                found[open_[fallen]] = stay[kept][pairs.columns[first]]
                open_ = np.delete(open_, fallen)
                left = np.delete(left, fallen, axis=0)

    def _sift_each_other(self, rows: Ints, found: Ints) -> None:
        """Write down which of some rows, not like any before them, are like one another."""
        open_ = np.flatnonzero(found < 0)
        if not len(open_):
            return
        left = self._descriptors[rows[open_]]
        pairs = self._alike(left, left, self._errors[rows[open_]])
        pairs = pairs.at(pairs.columns < pairs.rows)
        stays = np.ones(len(open_), np.bool_)
        for row, alike in _by_row(pairs):
            kept = alike[stays[alike]]
            if len(kept):
                stays[row] = False
                found[open_[row]] = rows[open_[kept[0]]]

    def _alike(self, left: Descriptors, right: Descriptors, errors: Float64) -> Pairs:
        """The pairs whose similarity is above the limit; near the limit float64 tells."""
        block, largest = self._product.of(left, right)
        pairs = cells_from(block, largest, self._limit - errors)
        alike = pairs.similarity > self._limit + errors[pairs.rows]
        open_ = np.flatnonzero(~alike)
        known = exact(left, right, pairs.rows[open_], pairs.columns[open_])
        alike[open_] = known.astype(np.float32) > self._limit
        return pairs.at(alike)


def _by_row(pairs: Pairs) -> Iterator[tuple[int, Ints]]:
    """Each row that is in a pair, with its columns."""
    rows, starts = np.unique(pairs.rows, return_index=True)
    yield from zip(rows.tolist(), np.split(pairs.columns, starts[1:]), strict=False)
