"""Which pairs of each class stay, by their scores, and why the others go.

    fraction    the best share of each class
    cap         at most so many of each class, the best
    threshold   nothing below this score, whatever its class

All given rules apply. Scores come from score.py; budget.py draws from what stays.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headwater.errors import InputError

Floats = NDArray[np.floating[Any]]

KEPT, NO_SCORE, FRACTION, CAP, THRESHOLD = range(5)


class _Cuts(NamedTuple):
    """Lowest scores that stay: per class by fraction and by cap, and which class a row is of."""

    rows: NDArray[np.int64]
    fraction: Floats
    cap: Floats


def keep_top(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    fraction: float | None = 0.3,
    cap: int | None = None,
    threshold: float | None = None,
) -> NDArray[np.bool_]:
    """Which rows stay: the best of each class, by every rule that is given.

    A class's cut is the (100 - 100 fraction)th percentile of its scores, linearly interpolated, and
    a row stays if score >= cut (the paper's code; fraction 0.3 and cap 10,000 are its constants).
    `cap` is a second, stricter percentile, 100 - 100 cap / members, so that the best stay; rows
    tied at the cut all stay and may exceed the cap.

    Args:
        scores: (n,); a NaN or infinite score is none: never kept, and not counted as a member.
            Cuts are computed in their precision, as `np.percentile` does.
        labels: (n,) the class of each row, of any sortable type.
        fraction: share of each class that stays, in (0, 1]; None turns the percentile off.
        cap: most rows of a class, at least 1; None is no cap.
        threshold: lowest score of any class; None is none.

    Returns:
        (n,) bool.

    Raises:
        InputError: scores and labels differ in length, or a rule is out of its range.

    Example:
        >>> keep_top([0.1, 0.2, 0.3, 0.9], ["rose", "rose", "rose", "tulip"], fraction=0.5).tolist()
        [False, True, True, True]
    """
    codes, _ = _judge(scores, labels, fraction=fraction, cap=cap, threshold=threshold)
    return np.equal(codes, KEPT)


def explain_top(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    fraction: float | None = 0.3,
    cap: int | None = None,
    threshold: float | None = None,
) -> list[str | None]:
    """Why each row goes: the first rule that drops it and that rule's cut; None where it stays.

    Arguments and errors are those of `keep_top`, which keeps exactly the rows with None.

    Example:
        >>> scores, labels = [0.1, 0.2, 0.3, float("nan")], ["oak"] * 4
        >>> explain_top(scores, labels, fraction=0.5, cap=1)
        ['below the top 50 % of its class (0.2)', 'over the cap of 1 (0.2333)', None, 'no score']
        >>> explain_top(scores, labels, fraction=None, threshold=0.2)
        ['below 0.2', None, None, 'no score']
    """
    codes, cuts = _judge(scores, labels, fraction=fraction, cap=cap, threshold=threshold)
    share = f"{100 * (fraction or 0):.3g} %"
    reasons = {
        FRACTION: [f"below the top {share} of its class ({cut:.4g})" for cut in cuts.fraction],
        CAP: [f"over the cap of {cap or 0:,} ({cut:.4g})" for cut in cuts.cap],
    }
    alike = {KEPT: None, NO_SCORE: "no score", THRESHOLD: f"below {threshold}"}
    return [
        reasons[code][row] if code in reasons else alike[code]
        for code, row in zip(codes.tolist(), cuts.rows.tolist(), strict=True)
    ]


def _judge(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    fraction: float | None,
    cap: int | None,
    threshold: float | None,
) -> tuple[NDArray[np.int8], _Cuts]:
    """Per row the first rule that drops it (KEPT where none does), and the cuts of all classes."""
    values, classes = _floats(scores), np.asarray(labels)
    _check(values, classes, fraction=fraction, cap=cap)
    cuts = _class_cuts(values, classes, fraction=fraction, cap=cap)
    with np.errstate(over="ignore"):  # of a threshold beyond what float32 holds
        low = values < (-np.inf if threshold is None else threshold)
    rules = [
        ~np.isfinite(values),
        values < cuts.fraction[cuts.rows],
        values < cuts.cap[cuts.rows],
        low,
    ]
    return np.select(rules, [NO_SCORE, FRACTION, CAP, THRESHOLD], KEPT).astype(np.int8), cuts


def _floats(scores: ArrayLike) -> Floats:
    """Scores in the precision they came in, in which numpy too would take their percentile."""
    values = np.asarray(scores)
    return values if values.dtype.kind == "f" else np.asarray(scores, np.float64)


def _class_cuts(
    values: Floats, classes: NDArray[np.generic], *, fraction: float | None, cap: int | None
) -> _Cuts:
    names, rows = _grouped(classes)
    scored = np.flatnonzero(np.isfinite(values))
    ordered = scored[np.argsort(rows[scored], kind="stable")]
    ends = np.cumsum(np.bincount(rows[scored], minlength=names))
    cuts = np.full((2, names), -np.inf, values.dtype)
    for number, members in enumerate(np.split(values[ordered], ends[:-1])[:names]):
        if len(members) and fraction is not None:
            cuts[0, number] = np.percentile(members, 100 - 100 * fraction)
        if len(members) and cap is not None:
            cuts[1, number] = np.percentile(members, max(0, 100 - 100 * cap / len(members)))
    return _Cuts(rows, cuts[0], cuts[1])


def _grouped(classes: NDArray[np.generic]) -> tuple[int, NDArray[np.int64]]:
    """How many classes there are, and the number of each row's class."""
    try:
        names, rows = np.unique(classes, return_inverse=True)
    except TypeError:
        raise InputError(
            "labels of several kinds", expected="one sortable type", seen="a mixture",
            do="Give every row a label of the same type.",
        ) from None  # fmt: skip
    return len(names), rows


def _check(
    values: Floats, classes: NDArray[np.generic], *, fraction: float | None, cap: int | None
) -> None:
    if values.ndim != 1 or values.shape != classes.shape:
        seen = f"{values.shape} and {classes.shape}"
        raise InputError("every score needs a label", expected="two rows of one length", seen=seen)
    if fraction is not None and not 0 < fraction <= 1:
        raise InputError(
            "a fraction out of range", expected="more than 0, at most 1", seen=str(fraction),
            do="Use None to keep every share.",
        )  # fmt: skip
    if cap is not None and cap < 1:
        raise InputError("a cap out of range", expected="at least 1", seen=str(cap))
