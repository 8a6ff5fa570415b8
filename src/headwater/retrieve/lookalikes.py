"""Results of one query that look alike: of each group the best-scored stays.

As clip-retrieval's service does by default: cosine above 0.94, chains of neighbors are one group
(so its ends may be less alike). It compares by the embeddings that were searched; Headwater by
those of the images wherever there are any, since many images share a caption.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.rows import Ints, Rows

THRESHOLD = 0.94  # clip-retrieval, clip_back.py, get_non_uniques
GATHER_BYTES = 512 * 2**20  # vectors at hand; queries with more results take another sweep


def find_lookalikes(ids: Ints, rows: Rows, *, threshold: float = THRESHOLD) -> Ints:
    """Which results of a query look like a better one of the same query.

    Args:
        ids: (q, k) row numbers, best first; -1 for none.
        rows: the embeddings to compare by.
        threshold: cosines above it are alike.

    Returns:
        (q, k) int64: the row that stays instead, or -1 for those that stay.

    Example:
        >>> rows = Rows([np.array([[1.0, 0.0], [0.0, 1.0], [0.99, 0.01]])])
        >>> find_lookalikes(np.array([[2, 1, 0]]), rows).tolist()
        [[-1, -1, 2]]
    """
    instead = np.full(ids.shape, -1, dtype=np.int64)
    step = max(1, GATHER_BYTES // max(1, ids.shape[1] * rows.dimensions * 4))
    for start in range(0, len(ids), step):
        some = slice(start, start + step)
        distinct, places = np.unique(ids[some], return_inverse=True)
        vectors = rows.take(np.maximum(distinct, 0))
        for query, place in enumerate(places.reshape(ids[some].shape), start=start):
            found = np.flatnonzero(ids[query] >= 0)
            first = found[groups(vectors[place[found]], threshold=threshold)]
            instead[query, found] = np.where(first == found, -1, ids[query, first])
    return instead


def groups(vectors: NDArray[Any], *, threshold: float) -> Ints:
    """Chains of vectors whose cosines are above a threshold.

    Args:
        vectors: (n, d) floats; zeros and NaN are alike to nothing.
        threshold: of cosine.

    Returns:
        (n,) int64, the number of the first vector of each one's group.

    Example:
        >>> groups(np.array([[1.0, 0.0], [0.0, 1.0], [5.0, 0.1]]), threshold=0.94).tolist()
        [0, 1, 0]
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    left, right = _alike(unit, threshold)
    first = np.arange(len(vectors))
    while True:  # the lowest number spreads along the chains
        before = first.copy()
        np.minimum.at(first, right, before[left])
        np.minimum.at(first, left, before[right])
        first = first[first]
        if np.array_equal(first, before):
            return first


def _alike(unit: NDArray[Any], threshold: float) -> tuple[Ints, Ints]:
    """All pairs (i, j), i < j, of vectors whose cosine is above the threshold."""
    step = max(1, GATHER_BYTES // max(1, len(unit) * 4))
    lefts, rights = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for start in range(0, len(unit), step):
        with np.errstate(invalid="ignore"):
            close = np.triu(unit[start : start + step] @ unit.T > threshold, k=start + 1)
        left, right = np.nonzero(close)
        lefts.append(left + start)
        rights.append(right)
    return np.concatenate(lefts), np.concatenate(rights)
