"""Which candidates are copies of a reference picture, told by descriptors alone.

A descriptor is a unit row whose inner product with another says how alike two pictures are; the
built-in one, and the threshold that goes with it, are in ../descriptors/.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from headwater.descriptors import COPY_THRESHOLD
from headwater.errors import InputError
from headwater.topk import top_k

Floats = NDArray[np.float32]

BLOCK = 1 << 24
"""Similarities held at once (64 MB): what bounds the memory of a search."""


def find_copies(
    candidates: Floats, references: Floats, *, threshold: float | None = None
) -> NDArray[np.int64]:
    """Which reference each candidate copies: the most similar one, if it is similar enough.

    Exact, block by block: memory stays at about 64 MB beside the descriptors themselves. A fast
    pass finds who may be a copy; those few are compared again, free of rounding errors.

    Args:
        candidates: (n, d) float32 descriptors, unit rows.
        references: (m, d) descriptors of the same kind.
        threshold: a candidate is a copy if its similarity is *above* this (the paper's rule, with
            0.604169 for ISC descriptors); None is the built-in descriptor's, `COPY_THRESHOLD`.

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
    copied = np.full(len(candidates), -1, np.int64)
    similarity = closest(candidates, references)
    suspects = np.flatnonzero(similarity > limit - _rounding(candidates, references))
    if len(suspects):
        exact, index = top_k(candidates[suspects], [references], 1)
        copied[suspects] = np.where(exact[:, 0] > limit, index[:, 0], -1)
    return copied


def closest(candidates: Floats, references: Floats) -> Floats:
    """Similarity of each candidate to its most similar reference: (n,) float32, -inf without any.

    Example:
        >>> closest(np.eye(2, dtype=np.float32), np.array([[0.6, 0.8]], np.float32)).tolist()
        [0.6000000238418579, 0.800000011920929]
    """
    _check(candidates, references)
    best = np.full(len(candidates), -np.inf, np.float32)
    for rows, columns in _blocks(len(candidates), len(references)):
        found = candidates[rows] @ references[columns].T
        best[rows] = np.maximum(best[rows], found.max(axis=1))
    return best


def calibrate_threshold(
    references: Floats,
    copies: Sequence[Floats],
    *,
    false_rate: float = 0.02,
    miss_rate: float = 0.05,
) -> float:
    """A threshold for pictures that are alike by their making, measured on some that are no test.

    Two limits are measured: what only `false_rate` of the references exceed in similarity to any
    *other* reference, and what all but `miss_rate` of each kind of copies exceed in similarity to
    their original. The threshold lies half way. Where copies are no more alike than others are, it
    is the second limit: copies are caught, and more innocent pictures go.

    The chance of a likeness grows with the number of pictures to be like, so calibrate on about as
    many as will be searched, or accept a few more false copies.

    Args:
        references: (n, d) descriptors of pictures none of which copies another, such as a task's
            train split; at least 2.
        copies: one array (n, d) for every kind of change that must be caught (re-encoded, cropped,
            ...); its row i describes reference i after the change.
        false_rate: share of innocent pictures that may be taken for copies, in (0, 1).
        miss_rate: share of the copies of a kind that may be missed, in (0, 1).

    Returns:
        The threshold for `find_copies`.

    Raises:
        InputError: too few references, copies that do not match them, or a rate out of range.

    Example:
        >>> references = np.eye(4, dtype=np.float32)  # nothing alike
        >>> copies = np.full((4, 4), 0.1, np.float32) + 0.7 * references
        >>> round(calibrate_threshold(references, [copies]), 3)
        0.4
    """
    _check_calibration(references, copies, rates=(false_rate, miss_rate))
    innocent = float(np.quantile(_closest_others(references), 1 - false_rate))
    kinds = [np.einsum("nd,nd->n", references, changed) for changed in copies]
    caught = min(float(np.quantile(similarity, miss_rate)) for similarity in kinds)
    return min((innocent + caught) / 2, caught)


def _closest_others(references: Floats) -> Floats:
    """Similarity of each reference to the most similar one that is not itself: (n,)."""
    best = np.empty(len(references), np.float32)
    height = max(1, BLOCK // len(references))
    for top in range(0, len(references), height):
        found = references[top : top + height] @ references.T
        rows = np.arange(len(found))
        found[rows, top + rows] = -np.inf
        best[top : top + height] = found.max(axis=1)
    return best


def _blocks(n: int, m: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of blocks of at most BLOCK similarities, as square as they can be."""
    side = int(np.sqrt(BLOCK))
    width = max(1, min(m, max(side, BLOCK // max(n, 1))))
    height = BLOCK // width
    for top in range(0, n, height):
        for left in range(0, m, width):
            yield slice(top, top + height), slice(left, left + width)


def _rounding(candidates: Floats, references: Floats) -> np.float32:
    """More than any float32 similarity can be off by."""
    if not len(candidates) or not len(references):
        return np.float32(0)
    longest = float(_lengths(candidates).max() * _lengths(references).max())
    return np.float32(2**-23 * (candidates.shape[1] + 2) * longest)


def _lengths(rows: Floats) -> Floats:
    return np.asarray(np.sqrt(np.einsum("nd,nd->n", rows, rows)))


def _check(candidates: Floats, references: Floats) -> None:
    if candidates.ndim != 2 or references.ndim != 2 or candidates.shape[1] != references.shape[1]:
        raise InputError(
            "descriptors of different kinds",
            expected="(n, d) and (m, d)",
            seen=f"{candidates.shape} and {references.shape}",
            do="Describe candidates and references with the same descriptor.",
        )
    if not all(np.isfinite(_lengths(rows)).all() for rows in (candidates, references)):
        raise InputError("descriptors that are not numbers", expected="finite rows", seen="NaN")


def _check_calibration(
    references: Floats, copies: Sequence[Floats], *, rates: tuple[float, float]
) -> None:
    if references.ndim != 2 or len(references) < 2:
        seen = str(references.shape)
        raise InputError("nothing to calibrate on", expected="2 or more references", seen=seen)
    if not len(copies) or any(changed.shape != references.shape for changed in copies):
        raise InputError(
            "copies that do not match their references",
            expected=f"one or more arrays {references.shape}",
            seen=", ".join(str(changed.shape) for changed in copies) or "none",
        )
    if not all(0 < rate < 1 for rate in rates):
        raise InputError("a rate out of range", expected="between 0 and 1", seen=str(rates))
