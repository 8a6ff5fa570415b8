"""Where copies begin: a threshold measured on pictures that are no test.

The built-in descriptor's own threshold is for photographs; pictures that are alike by their making
(one product in one pose, one digit) need theirs. How copies are changed is in changes.py; see also
../descriptors and copies.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headwater.curate.copies import nearest
from headwater.errors import InputError

Floats = NDArray[np.float32]

BLOCK = 1 << 24  # similarities held at once (64 MB)


def calibrate_threshold(
    references: Floats,
    copies: Sequence[Floats],
    *,
    others: Floats | None = None,
    false_rate: float = 0.02,
    miss_rate: float = 0.05,
) -> float:
    """A threshold for pictures that are alike by their making, measured on some that are no test.

    Two limits are measured: what only `false_rate` of the references exceed in similarity to any
    other picture, and what all but `miss_rate` of each kind of copies exceed in similarity to
    their original. The threshold lies half way. Where copies are no more alike than others are, it
    is the second limit: copies are caught, and more innocent pictures go.

    The chance of a likeness grows with the number of pictures to be like, so give the very images
    that will be searched as `others`, or calibrate on about as many.

    Args:
        references: (n, d) descriptors of pictures none of which copies another, such as a task's
            train split; at least 2.
        copies: one array (n, d) for every kind of change that must be caught (re-encoded, cropped,
            ...); its row i describes reference i after the change.
        others: (m, d) descriptors of pictures that are no copies of these, such as the test split;
            None: each reference is compared with the other references.
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
    closest = closest_others(references) if others is None else nearest(references, others)[0]
    innocent = float(np.quantile(closest, 1 - false_rate))
    kinds = [np.einsum("nd,nd->n", references, changed) for changed in copies]
    caught = min(float(np.quantile(similarity, miss_rate)) for similarity in kinds)
    return min((innocent + caught) / 2, caught)


def closest_others(references: Floats) -> Floats:
    """Similarity of each reference to the most similar one that is not itself: (n,).

    Example:
        >>> closest_others(np.array([[1.0, 0.0], [0.6, 0.8]], np.float32)).round(2).tolist()
        [0.6000000238418579, 0.6000000238418579]
    """
    best = np.empty(len(references), np.float32)
    height = max(1, BLOCK // len(references))
    for top in range(0, len(references), height):
        found = references[top : top + height] @ references.T
        rows = np.arange(len(found))
        found[rows, top + rows] = -np.inf
        best[top : top + height] = found.max(axis=1)
    return best


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
