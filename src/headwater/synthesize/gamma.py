"""Gamma: how strongly images are perturbed, or the control that stands in place of it.

    0             resizing and codec alone; no model
    autoencoder   the generator's autoencoder beside that: encoded and decoded, nothing between
    up to 1       noise and denoising as well; at 1 nothing of the image is left

Each contains what the one before it does, so that what a step loses is not blamed on the next.
What happens to the images is in `perturb.py`.
"""

from __future__ import annotations

import math
from typing import Literal

AUTOENCODER: Literal["autoencoder"] = "autoencoder"
EXPECTED = f"0 to 1, or {AUTOENCODER}"

Gamma = float | Literal["autoencoder"]


def read_gamma(value: object) -> Gamma:
    """A gamma as somebody wrote it, in a recipe or on a command line.

    Raises:
        ValueError: neither a number from 0 to 1 nor `autoencoder`.

    Example:
        >>> read_gamma("0.4"), read_gamma(1), read_gamma("autoencoder")
        (0.4, 1.0, 'autoencoder')
    """
    if value == AUTOENCODER:
        return AUTOENCODER
    try:
        gamma = math.nan if isinstance(value, bool) else float(str(value))
    except ValueError:
        gamma = math.nan
    if not 0 <= gamma <= 1:
        raise ValueError(f"expected {EXPECTED}")
    return abs(gamma)


def gamma_name(gamma: Gamma) -> str:
    """As it is shown, and as folders are called.

    Example:
        >>> gamma_name(0.30), gamma_name(0.0), gamma_name("autoencoder")
        ('0.3', '0', 'autoencoder')
    """
    return gamma if isinstance(gamma, str) else f"{gamma:g}"


def gamma_order(gamma: Gamma) -> float:
    """Where it stands in a curve: 0 first, then the autoencoder, then by strength.

    Example:
        >>> sorted([0.2, "autoencoder", 1.0, 0.0], key=gamma_order)
        [0.0, 'autoencoder', 0.2, 1.0]
    """
    return math.ulp(0) if gamma == AUTOENCODER else float(gamma)
