"""The real handwritten digits that ship inside scikit-learn, split once, and drawn larger.

1,797 scans of 8x8 pixels. How a scan is photographed is told in `contexts.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

SIZE = 32  # pixels, the side of every evaluation image
CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEST, TRAIN, VAL = 600, 200, 147  # scans; the other 850 are upstream

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scans:
    """Some of the scans: index (n,) among all 1,797, pixels (n, 8, 8) in 0..1, digits (n,)."""

    index: NDArray[np.int64]
    pixels: Floats
    digits: NDArray[np.int64]

    def __len__(self) -> int:
        """How many scans."""
        return len(self.index)

    def take(self, rows: NDArray[np.int64]) -> Scans:
        """The scans at `rows`, in that order."""
        return Scans(self.index[rows], self.pixels[rows], self.digits[rows])


@cache
def all_scans() -> Scans:
    """Every scan, in scikit-learn's order.

    Example:
        >>> len(all_scans())
        1797
    """
    from sklearn.datasets import load_digits

    raw = load_digits()
    pixels = np.asarray(raw.images, dtype=np.float64) / 16
    digits = np.asarray(raw.target, dtype=np.int64)
    for array in (pixels, digits):
        array.setflags(write=False)
    return Scans(np.arange(len(digits)), pixels, digits)


def split_scans(seed: int = 0) -> dict[str, Scans]:
    """Upstream 850, train 200, val 147, test 600 scans; no scan is in two parts.

    Test has 60 of every class, train 20, val 14 or 15; upstream has what is left.

    Example:
        >>> {part: len(scans) for part, scans in split_scans().items()}
        {'upstream': 850, 'train': 200, 'val': 147, 'test': 600}
    """
    scans = all_scans()
    rng = np.random.default_rng([seed, 1])
    parts: dict[str, list[NDArray[np.int64]]] = {"test": [], "train": [], "val": [], "upstream": []}
    counts = np.bincount(scans.digits, minlength=len(CLASSES))
    for digit, val in enumerate(_val_quota(counts)):
        rows = rng.permutation(np.flatnonzero(scans.digits == digit))
        test, train = TEST // len(CLASSES), TRAIN // len(CLASSES)
        cuts = np.cumsum([test, train, val])
        for part, chosen in zip(parts.values(), np.split(rows, cuts), strict=True):
            part.append(chosen)
    order = ("upstream", "train", "val", "test")
    return {part: scans.take(np.sort(np.concatenate(parts[part]))) for part in order}


def render(pixels: Floats, size: int = SIZE) -> Floats:
    """Scans (..., 8, 8) drawn smoothly at `size` pixels: ink (..., size, size) in 0..1.

    Cubic interpolation, then a gentle contrast curve so that strokes look drawn, not blurred.

    Example:
        >>> render(np.ones((2, 8, 8)), 12).shape
        (2, 12, 12)
    """
    weights = _cubic(pixels.shape[-1], size)
    smooth = np.clip((weights @ pixels @ weights.T - 0.1) / 0.7, 0, 1)
    return np.asarray(smooth * smooth * (3 - 2 * smooth))


def _val_quota(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    quota = np.full(len(counts), VAL // len(counts))
    largest = np.argsort(-counts, kind="stable")[: VAL - quota.sum()]
    quota[largest] += 1
    return quota


@cache
def _cubic(source: int, target: int) -> Floats:
    """Weights (target, source) of Catmull-Rom interpolation; beyond the edge there is no ink."""
    centers = (np.arange(target) + 0.5) * source / target - 0.5
    gap = np.abs(centers[:, None] - np.arange(source)[None, :])
    near = 1.5 * gap**3 - 2.5 * gap**2 + 1
    far = -0.5 * gap**3 + 2.5 * gap**2 - 4 * gap + 2
    weights: Floats = np.where(gap < 1, near, np.where(gap < 2, far, 0.0))
    weights.setflags(write=False)
    return weights
