"""What an image is like by itself: its size, its shape, how sharp it is. No model is asked.

Plain functions on numbers and pixels; scoring.py makes score columns of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
Image8 = NDArray[np.uint8]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in the gray of an image (ITU-R BT.601, as Pillow and OpenCV)."""


def short_sides(width: ArrayLike, height: ArrayLike) -> Floats:
    """The shorter side of each image, in pixels: (n,) float32.

    Example:
        >>> short_sides([640, 200], [480, 300]).tolist()
        [480.0, 200.0]
    """
    return np.minimum(np.asarray(width, np.float32), np.asarray(height, np.float32))


def aspects(width: ArrayLike, height: ArrayLike) -> Floats:
    """Shorter side over longer side, 1 for a square: (n,) float32; NaN for an image of no size.

    Example:
        >>> aspects([200, 300], [100, 300]).tolist()
        [0.5, 1.0]
    """
    sides = np.asarray(width, np.float32), np.asarray(height, np.float32)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.minimum(*sides) / np.maximum(*sides), np.float32)


def sharpness(image: Image8) -> float:
    """Variance of the Laplacian of an image's gray values: large where edges are steep.

    The focus measure of Pech-Pacheco et al. (Diatom autofocusing in brightfield microscopy, ICPR
    2000), with the 4-neighbor Laplacian, inside the border only.

    It compares images of *one size* only: the same edge spread over twice the pixels has half the
    slope and a quarter of the second difference, so a larger copy of the same picture scores lower.
    That is why scores are taken after the one pixel path. Noise, text and thin lines score high
    too.

    Args:
        image: (h, w, 3) uint8.

    Returns:
        0 for a flat image; NaN where a side is under 3 pixels.

    Example:
        >>> flat, edge = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)
        >>> edge[:, 2:] = 100
        >>> sharpness(flat), round(sharpness(edge))
        (0.0, 10000)
    """
    if min(image.shape[:2]) < 3:
        return float("nan")
    gray = image.astype(np.float32) @ LUMA
    middle = gray[1:-1, 1:-1]
    around = gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:]
    return float(np.var(around - 4 * middle, dtype=np.float64))
