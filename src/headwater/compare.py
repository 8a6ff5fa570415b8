"""The verdict: how much better one arm is than another, with an interval that can be defended.

Input is who was right: one boolean array (seeds, images) per arm, as evaluate.py's predictions
give it. Output is a `Comparison`, and a list of verdict entries for a whole study. The estimand is
the difference in expected accuracy over training seeds and the population of test images; pool,
generator, learner and the sourced sets are fixed. How well the interval covers the truth is
measured by benchmarks/coverage.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import InputError

Correct = NDArray[np.bool_]
Key = tuple[str, int | None, str]  # metric, scale, arm

CONFIDENCE = 0.95
# 10,000 draws put about 1.5 % of noise on the interval's half-width.
DRAWS = 10_000


@dataclass(frozen=True)
class Comparison:
    """The difference in accuracy of arm a over arm b, as shares (0.01 is one point).

    `call` is one of matched, better, worse, not worse, not better, undecided.
    `seeds` are those of (a, b); `note` says what the interval leaves out, or is empty.
    """

    difference: float
    low: float
    high: float
    p: float
    call: str
    seeds: tuple[int, int]
    test_images: int
    margin: float
    note: str


def compare_arms(
    correct_a: Correct, correct_b: Correct, *, margin: float = 0.01, seed: int = 0
) -> Comparison:
    """Compare two arms on the same test images.

    Each draw of the bootstrap resamples the test images, paired between the arms, and adds to
    each arm the chance of its seeds: the spread between its rows times a draw of Student's t with
    seeds - 1 degrees of freedom, because three seeds tell little about their own spread.

    Args:
        correct_a: (seeds, images) bool, row s says which images seed s of arm a got right.
        correct_b: (seeds, images) bool; its rows are not paired with a's, their number may differ.
        margin: largest difference in accuracy, as a share, that counts as a match.
        seed: of the bootstrap.

    Raises:
        InputError: an arm is empty, not boolean, or has other test images than the other.

    Example:
        >>> images = np.arange(400)
        >>> a = np.array([(images + s) % 10 > 0 for s in range(3)])  # 90 % right
        >>> b = np.array([(images + s) % 10 > 1 for s in range(4)])  # 80 % right
        >>> result = compare_arms(a, b)
        >>> round(result.difference, 3), result.call, result.seeds
        (0.1, 'better', (3, 4))
    """
    a, b = _checked(correct_a, "first arm"), _checked(correct_b, "second arm")
    if a.shape[1] != b.shape[1]:
        raise InputError(
            "the two arms were tested on different images",
            expected=f"{a.shape[1]} images, as the first arm has",
            seen=f"{b.shape[1]} in the second",
            do="Evaluate both on one test split.",
        )
    draws = _bootstrap(a, b, np.random.default_rng(seed))
    tail = (1 - CONFIDENCE) / 2
    low, high = (float(x) for x in np.quantile(draws, [tail, 1 - tail]))
    return Comparison(
        difference=float(a.mean() - b.mean()),
        low=low,
        high=high,
        p=_two_sided(draws),
        call=_call(low, high, margin),
        seeds=(len(a), len(b)),
        test_images=a.shape[1],
        margin=margin,
        note=_note(low, high, margin, (len(a), len(b))),
    )


def holm(p: Sequence[float]) -> list[float]:
    """Adjust p-values for their number by Holm's step-down rule.

    Args:
        p: any number of p-values, in any order.

    Returns:
        The adjusted values in the order given, each at least its p and at most 1.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p)
    floor = 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        floor = max(floor, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = floor
    return adjusted


def verdict_rows(
    correct: Mapping[Key, Correct],
    *,
    pairs: Sequence[tuple[str, str]],
    primary: tuple[str, int | None, str, str] | None = None,
    references: Collection[str] = (),
    margin: float = 0.01,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Build the entries of verdict.json: every pair of arms, at every metric and common scale.

    Args:
        correct: (metric, scale, arm) -> (seeds, images) bool on the test split.
        pairs: (arm, against), in the order wanted.
        primary: (metric, scale, arm, against) named before the test split was read; scale None
            means the largest common one. It keeps its own p; the others share Holm's correction.
        references: arms exempt from equal scales (off-the-shelf, labelled): each is compared at
            every scale of the other arm, with its own images of that scale, else its largest.
        margin: see `compare_arms`.
        seed: of the bootstrap.

    Raises:
        InputError: a pair names an unknown arm or shares no scale; primary is not among the pairs.

    Example:
        >>> right = np.ones((3, 500), dtype=bool)
        >>> keys = [("zero_shot", 100, "retrieved"), ("zero_shot", 100, "synthetic")]
        >>> rows = verdict_rows({key: right for key in keys}, pairs=[("retrieved", "synthetic")])
        >>> [(row["scale"], row["difference"], row["call"]) for row in rows]
        [(100, 0.0, 'matched')]
    """
    _check_pairs(correct, pairs, primary)
    rows = []
    for metric in dict.fromkeys(key[0] for key in correct):
        for arm, against in pairs:
            for own, other, scale in _matches(correct, metric, (arm, against), references):
                result = compare_arms(own, other, margin=margin, seed=seed)
                rows.append(_entry(metric, scale, arm, against, result))
    _check_reached(rows, pairs)
    _mark_primary(rows, primary)
    rest = [row for row in rows if not row["primary"]]
    for row, adjusted in zip(rest, holm([row["p"] for row in rest]), strict=True):
        row["p_holm"] = adjusted
    return rows


def verdict_sentence(entry: Mapping[str, Any], *, margin: float = 0.01) -> str:
    """Say one verdict entry in one plain sentence with its numbers.

    Args:
        entry: one of `verdict_rows`.
        margin: the one the entry was made with, as a share.

    Example:
        >>> verdict_sentence({"metric": "zero_shot", "scale": 1600, "arm": "retrieved",
        ...     "against": "synthetic", "difference": 0.032, "low": 0.011, "high": 0.053,
        ...     "call": "better", "seeds": [3, 3], "test_images": 600})
        'At 1,600 images, retrieved is better than synthetic in zero-shot accuracy: \
+3.2 points (95 % interval +1.1 to +5.3; 3 and 3 seeds, 600 test images).'
    """
    arm, against = entry["arm"], entry["against"]
    within = f"{100 * margin:g} {'point' if margin == 0.01 else 'points'}"
    claim = {
        "matched": f"{arm} matches {against} within {within}",
        "better": f"{arm} is better than {against}",
        "worse": f"{arm} is worse than {against}",
        "not worse": f"{arm} is at most {within} worse than {against}",
        "not better": f"{arm} is at most {within} better than {against}",
        "undecided": f"it is undecided whether {arm} or {against} is better",
    }[entry["call"]]
    where = f"At {entry['scale']:,} images, " if entry["scale"] else ""
    metric = entry["metric"].replace("_", "-")
    seeds = " and ".join(str(n) for n in entry["seeds"])
    return (
        f"{where}{claim} in {metric} accuracy: {_points(entry['difference'])} points "
        f"(95 % interval {_points(entry['low'])} to {_points(entry['high'])}; "
        f"{seeds} seeds, {entry['test_images']:,} test images)."
    )


def _checked(correct: Correct, name: str) -> Correct:
    """Refuse what is not a full (seeds, images) boolean array."""
    array = np.asarray(correct)
    if array.ndim != 2 or array.dtype != np.bool_:
        raise InputError(
            f"cannot compare the {name}",
            expected="a boolean array (seeds, images)",
            seen=f"{array.dtype} of shape {array.shape}",
        )
    if array.size == 0:
        raise InputError(
            f"the {name} is empty",
            expected="at least one seed and one test image",
            seen=f"{array.shape[0]} seeds and {array.shape[1]} images",
        )
    return array


def _bootstrap(a: Correct, b: Correct, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draws of the difference, from resampled images and t-scaled seeds, shape (DRAWS,)."""
    return _image_draws(a, b, rng) + _seed_draws(a, rng) - _seed_draws(b, rng)


def _image_draws(a: Correct, b: Correct, rng: np.random.Generator) -> NDArray[np.float64]:
    """Resample the images, as draws from the few values that an image's difference can take.

    One image is added that only a gets right, and one that only b does: without them, arms that
    happen to agree on every image would get an interval of width zero (Agresti and Min 2005). They
    widen the draws and do not shift them.
    """
    unit = len(a) * len(b)
    scores = len(b) * a.sum(axis=0, dtype=np.int64) - len(a) * b.sum(axis=0, dtype=np.int64)
    values, counts = np.unique(np.append(scores, [unit, -unit]), return_counts=True)
    shares = counts / counts.sum()
    resampled = rng.multinomial(len(scores), shares, size=DRAWS) @ values / len(scores)
    return np.asarray((resampled - shares @ values + scores.mean()) / unit)


def _seed_draws(correct: Correct, rng: np.random.Generator) -> NDArray[np.float64]:
    """How far other seeds might have moved an arm's accuracy, shape (DRAWS,).

    Student's t on the logit scale: near its ceiling an accuracy can fall further than it can
    rise, and a symmetric interval misses that (92 % coverage at 95 +- 3 % with 3 seeds).
    """
    if len(correct) == 1:
        return np.zeros(DRAWS)
    mean = (correct.sum() + 0.5) / (correct.size + 1)  # never 0 or 1
    logit = np.log(mean / (1 - mean))
    error = np.sqrt(_seed_variance(correct)) / (mean * (1 - mean))
    moved = logit + error * rng.standard_t(len(correct) - 1, DRAWS)
    return np.asarray((1 + np.tanh(moved / 2)) / 2 - mean)


def _seed_variance(correct: Correct) -> float:
    """Variance that the choice of seeds adds to an arm's mean, beyond what the images show.

    The spread between rows holds var(seed) / S plus the interaction of seeds with images,
    q = var(interaction) / (S n), and q is in the image draws already. Subtracting all of q leaves
    3 seeds at 91 % coverage where the spread happens to come out small; the share 1 - 2 / S keeps
    94 % and more (benchmarks/coverage.py) and tends to the unbiased estimate as seeds grow.
    """
    seeds, images = correct.shape
    means = correct.mean(axis=1)
    residual = correct - means[:, None] - correct.mean(axis=0) + means.mean()
    freedom = (seeds - 1) * max(images - 1, 1)
    interaction = float(np.square(residual).sum()) / freedom / (seeds * images)
    spread = float(means.var(ddof=1)) / seeds
    return float(max(0.0, spread - (1 - 2 / seeds) * interaction))


def _two_sided(draws: NDArray[np.float64]) -> float:
    """Two-sided p-value: the level at which the interval would just touch zero."""
    beyond = min(np.count_nonzero(draws <= 0), np.count_nonzero(draws >= 0))
    return float(min(1.0, 2 * (beyond + 1) / (len(draws) + 1)))


def _call(low: float, high: float, margin: float) -> str:
    if -margin <= low and high <= margin:
        return "matched"
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    if low > -margin:
        return "not worse"
    return "not better" if high < margin else "undecided"


def _note(low: float, high: float, margin: float, seeds: tuple[int, int]) -> str:
    """What a reader must know beside the interval; empty where there is nothing."""
    lone = [name for name, n in zip(("first", "second"), seeds, strict=True) if n == 1]
    parts = []
    if lone:
        which = "both arms have" if len(lone) == 2 else f"the {lone[0]} arm has"
        parts.append(f"images only: {which} one seed, whose chance the interval does not cover")
    if _call(low, high, margin) == "matched" and not low <= 0 <= high:
        parts.append(f"matched, yet slightly {'higher' if low > 0 else 'lower'}")
    return "; ".join(parts)


def _check_pairs(
    correct: Mapping[Key, Correct],
    pairs: Sequence[tuple[str, str]],
    primary: tuple[str, int | None, str, str] | None,
) -> None:
    known = sorted({arm for _, _, arm in correct})
    for arm in dict.fromkeys(name for pair in pairs for name in pair):
        if arm not in known:
            raise InputError(
                "cannot compare", expected=f"an arm of {', '.join(known)}", seen=repr(arm)
            )
    if primary is not None and tuple(primary[2:]) not in {tuple(pair) for pair in pairs}:
        raise InputError(
            "the primary comparison is not among the pairs",
            expected=", ".join(f"{a} / {b}" for a, b in pairs),
            seen=f"{primary[2]} / {primary[3]}",
        )


def _matches(
    correct: Mapping[Key, Correct],
    metric: str,
    pair: tuple[str, str],
    references: Collection[str],
) -> list[tuple[Correct, Correct, int | None]]:
    """The two arrays and the scale of every fair comparison of a pair, smallest scale first."""
    tables = [
        {scale or 0: rows for (m, scale, name), rows in correct.items() if (m, name) == (metric, a)}
        for a in pair
    ]
    exempt = [arm in references for arm in pair]
    scales = set(tables[0]) | set(tables[1])
    if all(exempt):
        scales = {max(scales)} if scales else set()
    elif any(exempt):
        scales = set(tables[exempt.index(False)])
    found = []
    for scale in sorted(scales):
        rows = [_at(t, scale, free) for t, free in zip(tables, exempt, strict=True)]
        if rows[0] is not None and rows[1] is not None:
            found.append((rows[0], rows[1], scale or None))
    return found


def _at(table: Mapping[int, Correct], scale: int, exempt: bool) -> Correct | None:
    """The rows at a scale; a reference arm without that scale gives its largest."""
    if exempt and table and scale not in table:
        return table[max(table)]
    return table.get(scale)


def _entry(
    metric: str, scale: int | None, arm: str, against: str, result: Comparison
) -> dict[str, Any]:
    return {
        "metric": metric,
        "scale": scale,
        "arm": arm,
        "against": against,
        "difference": result.difference,
        "low": result.low,
        "high": result.high,
        "p": result.p,
        "p_holm": result.p,
        "call": result.call,
        "primary": False,
        "seeds": list(result.seeds),
        "test_images": result.test_images,
    }


def _check_reached(rows: Sequence[Mapping[str, Any]], pairs: Sequence[tuple[str, str]]) -> None:
    reached = {(row["arm"], row["against"]) for row in rows}
    for arm, against in pairs:
        if (arm, against) not in reached:
            raise InputError(
                f"{arm} and {against} cannot be compared",
                expected="a metric and a number of images that both have",
                seen="none",
                do="Give both arms a common scale, or name one a reference.",
            )


def _mark_primary(
    rows: Sequence[dict[str, Any]], primary: tuple[str, int | None, str, str] | None
) -> None:
    """Mark the one entry that was named beforehand, where it was measured."""
    if primary is None:
        return
    metric, scale, arm, against = primary
    named = [
        row
        for row in rows
        if (row["metric"], row["arm"], row["against"]) == (metric, arm, against)
        and scale in (None, row["scale"])
    ]
    if named:
        max(named, key=lambda row: row["scale"] or 0)["primary"] = True


def _points(share: float) -> str:
    """A signed number of points; the typographic minus keeps it from breaking across lines."""
    return f"{round(100 * share, 1) + 0.0:+.1f}".replace("-", "\u2212")
