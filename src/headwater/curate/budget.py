"""Budgets: which n pairs of a set are trained on, so that scaling curves compare like with like.

    as_they_come   the first n of one permutation of all pairs (the paper's rule)
    balanced       classes take turns, until n pairs are drawn or there are no more

Both are nested: the 1,000 pairs of a seed are inside the 10,000 of the same seed. What may be
drawn from is decided in rules.py and select.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headwater.errors import InputError, SetError

Budget = Literal["as_they_come", "balanced"]


def draw(
    labels: ArrayLike, n: int, *, seed: int, budget: Budget = "as_they_come"
) -> NDArray[np.int64]:
    """Which n rows a budget buys: exactly n, in the order they are drawn.

    Depends on nothing but the labels, their order, the seed and the budget.

    Args:
        labels: (rows,) the class of each pair, of one sortable type.
        n: pairs to draw, 0 to rows.
        seed: of the order.
        budget: `as_they_come`, or `balanced`: pairs drawn of any two classes differ by at most one,
            unless the class with fewer has no more.

    Returns:
        (n,) int64 rows, none twice; the first m of them are what m pairs would be.

    Raises:
        InputError: n is negative or more than there are, or an unknown budget.

    Example:
        >>> labels = ["rose"] * 6 + ["yew"] * 2
        >>> sorted(labels[row] for row in draw(labels, 4, seed=0, budget="balanced"))
        ['rose', 'rose', 'yew', 'yew']
        >>> draw(labels, 3, seed=0).tolist() == draw(labels, 5, seed=0)[:3].tolist()
        True
    """
    classes = np.asarray(labels)
    rows = len(classes)
    if not 0 <= n <= rows:
        raise InputError("a budget larger than the set", expected=f"0 to {rows:,}", seen=f"{n:,}")
    if budget not in ("as_they_come", "balanced"):
        raise InputError("unknown budget", expected="as_they_come or balanced", seen=budget)
    random = np.random.default_rng(seed)
    order = random.permutation(rows)
    if budget == "balanced":
        turns = _turns(classes, order)
        order = np.lexsort((random.permutation(rows), turns))
    return order[:n]


def share_out(n: int | None, shares: Sequence[float], sizes: Sequence[int]) -> list[int]:
    """How many of n pairs each set of a mix gives: its share, the first ones rounded up.

    A larger n takes at least as many of every set, so that budgets of mixes are nested too. No set
    gives more than its share rounded up.

    Args:
        n: pairs in all; None takes all there are.
        shares: of the sets, above 0; parts of one total.
        sizes: pairs each set has.

    Raises:
        SetError: a set has fewer pairs than its share.

    Example:
        >>> share_out(5, [0.5, 0.5], [10, 10])
        [3, 2]
    """
    if n is None:
        return list(sizes)
    counts: list[int] = []
    for number, share in enumerate(shares[:-1]):
        count = math.ceil(share / sum(shares[number:]) * (n - sum(counts)) - 1e-9)
        counts.append(count)
    counts.append(n - sum(counts))
    for count, size in zip(counts, sizes, strict=True):
        if count > size:
            raise SetError("a set is too small", expected=f"{count:,} pairs", seen=f"{size:,}")
    return counts


def _turns(classes: NDArray[np.generic], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """In which turn each row is drawn: how many of its class come before it in `order`."""
    _, numbers = np.unique(classes, return_inverse=True)
    grouped = order[np.argsort(numbers[order], kind="stable")]
    members = np.bincount(numbers)
    turns = np.empty(len(order), np.int64)
    turns[grouped] = np.arange(len(order)) - np.repeat(np.cumsum(members) - members, members)
    return turns
