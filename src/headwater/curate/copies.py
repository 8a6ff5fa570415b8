"""Which candidates are copies of a reference picture, told by descriptors alone.

A descriptor is a unit row whose inner product with another says how alike two pictures are; see
../descriptors. Copies within one set are in duplicates.py, the threshold in calibration.py, the
arithmetic in similarity.py.
"""

from __future__ import annotations

import numpy as np

from headwater.curate import similarity
from headwater.curate.similarity import (
    Descriptors,
    Float64,
    Floats,
    Ints,
    Product,
    cells_from,
    check_kinds,
    exact,
    lengths,
    rounding,
    slices,
    without_equals,
)
from headwater.descriptors import COPY_THRESHOLD
from headwater.float32 import full_float32


def find_copies(
    candidates: Descriptors, references: Descriptors, *, threshold: float | None = None
) -> Ints:
    """Which reference each candidate copies: the most similar one, if it is similar enough.

    The two may be a set and evaluation images, or two sets; copies within one set are found by
    `headwater.find_duplicates`. Exact, and as fast as the matrix product; see `nearest`.

    Args:
        candidates: (n, d) descriptors, unit rows of any floats; arrays or memmaps.
        references: (m, d) descriptors of the same kind.
        threshold: a candidate is a copy if its similarity, as float32, is *above* this (the
            paper's rule, with 0.604169 for ISC descriptors); None is the built-in descriptor's,
            `COPY_THRESHOLD`.

    Returns:
        (n,) int64 index of the copied reference, the lowest where several tie; -1 for no copy.

    Raises:
        InputError: descriptors of different kinds, or that are not numbers.

    Example:
        >>> references = np.eye(3, dtype=np.float32)
        >>> find_copies(references[[2, 0]], references[:2], threshold=0.5).tolist()
        [-1, 0]
    """
    limit = np.float32(COPY_THRESHOLD if threshold is None else threshold)
    found, index = _nearest(candidates, references, above=float(limit))
    return np.where(found > limit, index, -1)


def nearest(candidates: Descriptors, references: Descriptors) -> tuple[Floats, Ints]:
    """The most similar reference of each candidate, whether it is a copy or not.

    The answers are those of a float64 comparison of all pairs, for every size of block. Beside the
    descriptors themselves it needs about 50 MB, however many there are, and 400 MB where very many
    references all but tie.

    Args:
        candidates: (n, d) descriptors, floats of any width; arrays or memmaps.
        references: (m, d) descriptors of the same kind.

    Returns:
        similarity: (n,) float32; -inf without any reference.
        index: (n,) int64, the lowest where several tie; -1 without any reference.

    Raises:
        InputError: descriptors of different kinds, or that are not numbers.

    Example:
        >>> found, index = nearest(np.eye(2), np.array([[0.6, 0.8], [0.0, 1.0]]))
        >>> found.round(1).tolist(), index.tolist()
        ([0.6000000238418579, 1.0], [0, 1])
    """
    return _nearest(candidates, references, above=-np.inf)


def _nearest(
    candidates: Descriptors, references: Descriptors, *, above: float
) -> tuple[Floats, Ints]:
    """`nearest`, of those candidates whose similarity is above something; (-inf, -1) else."""
    check_kinds(candidates, references)
    errors = rounding(lengths(candidates), lengths(references), candidates.shape[1])
    found, index = np.full(len(candidates), -np.inf), np.full(len(candidates), -1, np.int64)
    with full_float32():  # TF32 or bfloat16 would break the bounds
        product = Product()
        for rows in slices(len(candidates), similarity.ROWS):
            race = _Race(product, candidates[rows], errors[rows], above)
            for columns in slices(len(references), similarity.COLUMNS):
                race.enter(references[columns], columns.start)
            found[rows], index[rows] = race.best, race.index
    return found.astype(np.float32), index


class _Race:
    """A block of candidates, and the best of the references each has met."""

    def __init__(
        self, product: Product, candidates: Descriptors, errors: Float64, above: float
    ) -> None:
        self._product, self._candidates = product, np.asarray(candidates)
        self._errors, self._above = errors, above
        self.best = np.full(len(candidates), -np.inf)
        self.index = np.full(len(candidates), -1, np.int64)

    def enter(self, references: Descriptors, first: int) -> None:
        """Compare with a block of references, whose first has that number."""
        references = np.asarray(references)
        found, largest = self._product.of(self._candidates, references)
        reached = np.maximum(self.best, largest - self._errors)  # by something, for certain
        floors = np.maximum(reached, self._above) - self._errors
        pairs = without_equals(cells_from(found, largest, floors), references)
        if not len(pairs.rows):
            return
        known = exact(self._candidates, references, pairs.rows, pairs.columns)
        order = np.lexsort((-known, pairs.rows))  # stable: the lowest column of a tie comes first
        rows, heads = np.unique(pairs.rows[order], return_index=True)
        winners = order[heads]
        better = known[winners] > self.best[rows]
        self.best[rows[better]] = known[winners[better]]
        self.index[rows[better]] = first + pairs.columns[winners[better]]
