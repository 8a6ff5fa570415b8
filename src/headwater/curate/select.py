"""Which pairs of each class stay, by their scores, and why the others go.

    fraction    the best share of each class
    cap         at most so many of each class, the best
    threshold   nothing below this score, whatever its class

All given rules apply. Scores come from score.py. `subsample` draws budgets from what stays.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headwater.errors import InputError

KEPT, NO_SCORE, FRACTION, CAP, THRESHOLD = range(5)


class _Cuts(NamedTuple):
    """Lowest scores that stay: per class by fraction and by cap, and which class a row is of."""

    rows: NDArray[np.int64]
    fraction: NDArray[np.float64]
    cap: NDArray[np.float64]


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


def subsample(n_rows: int, n: int, *, seed: int) -> NDArray[np.int64]:
    """Which `n` of `n_rows` rows a budget buys: the first n of one permutation a seed.

    So budgets of one seed are nested, and classes come as they come (the paper's rule).

    Raises:
        InputError: n is negative or more than there are.

    Example:
        >>> small, large = subsample(10, 3, seed=0), subsample(10, 5, seed=0)
        >>> small.tolist() == large[:3].tolist()
        True
    """
    if not 0 <= n <= n_rows:
        raise InputError("a budget larger than the set", expected=f"0 to {n_rows:,}", seen=f"{n:,}")
    return np.random.default_rng(seed).permutation(n_rows)[:n]


def _judge(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    fraction: float | None,
    cap: int | None,
    threshold: float | None,
) -> tuple[NDArray[np.int8], _Cuts]:
    """Per row the first rule that drops it (KEPT where none does), and the cuts of all classes."""
    values, classes = np.asarray(scores, np.float64), np.asarray(labels)
    _check(values, classes, fraction=fraction, cap=cap)
    cuts = _class_cuts(values, classes, fraction=fraction, cap=cap)
    rules = [
        ~np.isfinite(values),
        values < cuts.fraction[cuts.rows],
        values < cuts.cap[cuts.rows],
        values < (-np.inf if threshold is None else threshold),
    ]
    return np.select(rules, [NO_SCORE, FRACTION, CAP, THRESHOLD], KEPT).astype(np.int8), cuts


def _class_cuts(
    values: NDArray[np.float64],
    classes: NDArray[np.generic],
    *,
    fraction: float | None,
    cap: int | None,
) -> _Cuts:
    names, rows = np.unique(classes, return_inverse=True)
    scored = np.flatnonzero(np.isfinite(values))
    members = np.bincount(rows[scored], minlength=len(names))
    ordered = values[scored][np.lexsort((values[scored], rows[scored]))]
    none = np.full(len(names), -np.inf)
    by_fraction = (
        none
        if fraction is None
        else _percentiles(ordered, members, np.full(len(names), 100 - 100 * fraction))
    )
    by_cap = (
        none
        if cap is None
        else _percentiles(ordered, members, np.maximum(0, 100 - 100 * cap / np.maximum(members, 1)))
    )
    return _Cuts(rows, by_fraction, by_cap)


def _percentiles(
    ordered: NDArray[np.float64], members: NDArray[np.int64], percent: NDArray[np.float64]
) -> NDArray[np.float64]:
    """`np.percentile` of every class at once, to the last bit; -inf for a class without members.

    Args:
        ordered: scores, class after class, each class ascending.
        members: how many scores each class has.
        percent: of each class, 0 to 100.
    """
    if not len(ordered):
        return np.full(len(members), -np.inf)
    first = np.cumsum(members) - members
    last = np.maximum(members - 1, 0)
    place = last * (percent / 100)
    below = np.floor(place).astype(np.int64)
    limit = len(ordered) - 1
    low = ordered[np.minimum(first + below, limit)]
    high = ordered[np.minimum(first + np.minimum(below + 1, last), limit)]
    part, gap = place - below, high - low
    cut = np.where(part < 0.5, low + gap * part, high - gap * (1 - part))
    return np.where(members > 0, cut, -np.inf)


def _check(
    values: NDArray[np.float64],
    classes: NDArray[np.generic],
    *,
    fraction: float | None,
    cap: int | None,
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
