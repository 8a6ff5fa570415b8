"""The untargeted control: pairs drawn from the pool without looking at them.

Whatever an arm of these gains, it gains from real images of any kind; only what a targeted arm
gains beyond it is owed to the targeting (`words.py`, `neighbors.py`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headwater.errors import InputError


def random_rows(n_rows: int, n: int, *, seed: int) -> NDArray[np.int64]:
    """Draw n of n_rows row numbers without replacement, or all where there are not more.

    Args:
        n_rows: rows in the pool.
        n: rows wanted.
        seed: the same seed draws the same rows.

    Returns:
        (min(n, n_rows),) int64, rising.

    Raises:
        InputError: a negative number of rows.

    Example:
        >>> random_rows(5, 9, seed=0).tolist()
        [0, 1, 2, 3, 4]
        >>> len(set(random_rows(1000, 10, seed=0).tolist()))
        10
    """
    if n < 0 or n_rows < 0:
        seen = f"{n} of {n_rows}"
        raise InputError("cannot draw a negative number of rows", expected="0 or more", seen=seen)
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(n_rows, size=min(n, n_rows), replace=False)).astype(np.int64)
