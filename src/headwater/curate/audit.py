"""The filter audit: what each score would keep of the same pairs, and where scores disagree.

Every score keeps the same number of each class, its best, so that kept sets differ by the score
alone; `none` draws that number by lot. Where it is known what images show, each kept set has a
precision, with its interval. Nothing here decides anything: rules do, in select.py.

A `place` is where a pair stands within its class by one score, from 0 (worst) to 1 (best).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headwater.curate.select import keep_top
from headwater.errors import InputError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rows = NDArray[np.int64]

NONE = "none"
"""The kept set that no score chose."""

BINS = 32
Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True, eq=False)
class Audit:
    """Pairs under several scores. Made by `audit_scores`; all arrays are in the order of `pairs`.

    Attributes:
        pairs: id, label, the score columns, and whatever came along.
        kept: score, `none` last, to the rows it keeps, (n,) bool.
        places: score to each pair's place in its class, (n,); NaN without a score.
        right: whether the image shows its class, (n,) 1 or 0; NaN where nobody knows.
    """

    pairs: pl.DataFrame
    kept: Mapping[str, Bools]
    places: Mapping[str, Floats]
    right: Floats

    @property
    def scores(self) -> list[str]:
        """The scores that are ones."""
        return list(self.places)


def audit_scores(
    pairs: pl.DataFrame, scores: Sequence[str], *, fraction: float = 0.3, seed: int = 0
) -> Audit:
    """Keep the same share of each class by every score, and by lot.

    Args:
        pairs: id, label (null is a class too), a numeric column a score (null or NaN: none), and
            `right` (Boolean, null: unknown) if it is known which images show their class.
        scores: the columns to compare.
        fraction: share of each class; the count is that of `keep_top` without ties.
        seed: of the lots, which also decide ties.

    Raises:
        InputError: no score, a column that is missing, or a fraction out of range.

    Example:
        >>> rows = {"id": ["a", "b", "c"], "label": ["oak"] * 3, "sharpness": [0.1, 0.9, 0.5]}
        >>> audit = audit_scores(pl.DataFrame(rows), ["sharpness"], fraction=0.3)
        >>> audit.kept["sharpness"].tolist(), int(audit.kept["none"].sum())
        ([False, True, False], 1)
    """
    missing = [name for name in ("id", "label", *scores) if name not in pairs.columns]
    if missing or not scores:
        raise InputError(
            "scores that cannot be audited", expected="columns of scores",
            seen=f"no {', '.join(missing or ['score'])}",
            do=f"Choose from {', '.join(pairs.columns)}.",
        )  # fmt: skip
    pairs = pairs.sort("id", "label")
    classes = pairs["label"].cast(pl.String).fill_null("").rank("dense").cast(pl.Int64).to_numpy()
    lots = np.random.default_rng(seed).permutation(len(pairs))
    drawn = keep_top(lots, classes, fraction=fraction)
    values = {name: _values(pairs[name]) for name in scores}
    kept = {name: _best(values[name], classes, lots, drawn) for name in scores}
    right = pairs["right"] if "right" in pairs.columns else pl.Series([None] * len(pairs))
    return Audit(
        pairs,
        kept={**kept, NONE: drawn},
        places={name: places(values[name], classes) for name in scores},
        right=_values(right.cast(pl.Float64)),
    )


def places(values: Floats, classes: NDArray[Any]) -> Floats:
    """Where each value stands among those of its class: 0 to 1, ties share theirs; NaN stays.

    Example:
        >>> places(np.array([3.0, 1.0, 2.0, 5.0, np.nan]), np.array([0, 0, 0, 1, 1])).tolist()
        [0.8333333333333334, 0.16666666666666666, 0.5, 0.5, nan]
    """
    table = pl.DataFrame({"value": values, "class": classes}).with_columns(
        pl.col("value").fill_nan(None)
    )
    rank = pl.col("value").rank("average").over("class")
    place = (rank - 0.5) / pl.col("value").count().over("class")
    return _values(table.select(place.alias("place"))["place"])


def rank_correlation(a: Floats, b: Floats, classes: NDArray[Any]) -> float | None:
    """Spearman's correlation of two scores within classes, over all pairs that have both.

    Ranks are taken within each class and scaled to places, so that easy and hard classes do not
    make scores agree; with one class this is Spearman's rho. None where either never varies.

    Example:
        >>> x = np.array([1.0, 2.0, 3.0, 9.0])
        >>> rank_correlation(x, -(x**3), np.zeros(4))
        -1.0
    """
    both = np.isfinite(a) & np.isfinite(b)
    x, y = (places(v[both], classes[both]) - 0.5 for v in (a, b))
    spread = float(np.sqrt((x @ x) * (y @ y)))
    return round(float(x @ y) / spread, 12) if spread > 0 else None


def overlap(a: Bools, b: Bools) -> float | None:
    """Jaccard's index of two kept sets: rows in both of those in either; None without any.

    Example:
        >>> overlap(np.array([True, True, False]), np.array([True, False, True]))
        0.3333333333333333
    """
    either = int((a | b).sum())
    return int((a & b).sum()) / either if either else None


def share_interval(part: int, whole: int) -> tuple[float, float] | None:
    """Wilson's 95 % interval of a share; None of nothing.

    Example:
        >>> low, high = share_interval(9, 10)
        >>> round(low, 3), round(high, 3)
        (0.596, 0.982)
    """
    if not whole:
        return None
    share, spread = part / whole, Z * Z / whole
    middle = (share + spread / 2) / (1 + spread)
    reach = Z * np.sqrt(share * (1 - share) / whole + spread / whole / 4) / (1 + spread)
    return max(0.0, float(middle - reach)), min(1.0, float(middle + reach))


def describe_audit(audit: Audit, *, shown: int = 12) -> dict[str, Any]:
    """Everything the audit says, as JSON: a line a score, tables of agreement, examples.

    Args:
        audit: the pairs under their scores.
        shown: most examples of a kind.
    """
    classes = audit.pairs["label"].cast(pl.String).fill_null("").to_numpy()
    values = {name: _values(audit.pairs[name]) for name in audit.scores}
    known = np.isfinite(audit.right)
    return {
        "pairs": len(audit.pairs),
        "classes": len(np.unique(classes)),
        "known": int(known.sum()),
        "right": int((audit.right == 1).sum()),
        "scores": [_line(audit, name) for name in audit.kept],
        "overlap": {
            a: {b: overlap(audit.kept[a], audit.kept[b]) for b in audit.kept} for a in audit.kept
        },
        "correlation": {
            a: {b: rank_correlation(values[a], values[b], classes) for b in values} for a in values
        },
        "histograms": {name: _histogram(values[name], audit.kept[name]) for name in values},
        "examples": _examples(audit, shown),
    }


def kept_alone(audit: Audit, score: str) -> Rows:
    """Pairs that `score` keeps, from those that fewest other scores keep to those that most do."""
    return _disagreeing(audit, score, kept=True)


def dropped_alone(audit: Audit, score: str) -> Rows:
    """Pairs that `score` drops, from those that most other scores keep to those that fewest do."""
    return _disagreeing(audit, score, kept=False)


def misfits(audit: Audit, *, high: str, low: str) -> Rows:
    """Pairs that `high` keeps, from those that stand lowest in their class by `low`."""
    rows = np.flatnonzero(audit.kept[high] & np.isfinite(audit.places[low]))
    return rows[np.lexsort((-audit.places[high][rows], audit.places[low][rows]))]


def wrong_but_high(audit: Audit, score: str) -> Rows:
    """Pairs known to show something else, from the best placed by `score`."""
    rows = np.flatnonzero((audit.right == 0) & np.isfinite(audit.places[score]))
    return rows[np.argsort(-audit.places[score][rows], kind="stable")]


def _disagreeing(audit: Audit, score: str, *, kept: bool) -> Rows:
    votes = _votes(audit, score)
    rows = np.flatnonzero(audit.kept[score] if kept else ~audit.kept[score])
    sign = 1 if kept else -1
    place = np.nan_to_num(audit.places[score][rows])
    return rows[np.lexsort((-sign * place, sign * votes[rows]))]


def _votes(audit: Audit, score: str) -> Rows:
    """How many other scores keep each pair; chance has no vote."""
    others = [audit.kept[name] for name in audit.scores if name != score]
    return (
        np.sum(others, axis=0, dtype=np.int64) if others else np.zeros(len(audit.pairs), np.int64)
    )


def _best(values: Floats, classes: NDArray[Any], lots: NDArray[Any], drawn: Bools) -> Bools:
    """The best of each class, as many as were drawn of it; lots decide ties, none has no value."""
    order = np.lexsort((-lots, np.where(np.isfinite(values), -values, np.inf), classes))
    members = np.bincount(classes)
    first = np.cumsum(members) - members
    number = np.empty(len(values), np.int64)
    number[order] = np.arange(len(values)) - first[classes[order]]
    wanted = np.bincount(classes[drawn], minlength=len(members))
    return np.asarray((number < wanted[classes]) & np.isfinite(values))


def _line(audit: Audit, name: str) -> dict[str, Any]:
    kept = audit.kept[name]
    known, right = np.isfinite(audit.right[kept]), audit.right[kept] == 1
    line = {
        "score": name,
        "kept": int(kept.sum()),
        "known": int(known.sum()),
        "right": int(right.sum()),
        "interval": share_interval(int(right.sum()), int(known.sum())),
    }
    if name == NONE:
        return {**line, "unscored": 0, "alone": 0, "missed": 0}
    votes, others = _votes(audit, name), len(audit.scores) - 1
    return {
        **line,
        "unscored": int((~np.isfinite(audit.places[name])).sum()),
        "alone": int((kept & (votes == 0)).sum()) if others else 0,
        "missed": int((~kept & (votes == others)).sum()) if others else 0,
    }


def _histogram(values: Floats, kept: Bools) -> dict[str, Any]:
    """Counts in bins of equal width between the extremes: of all pairs, and of the kept ones."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return {"low": None, "high": None, "all": [], "kept": []}
    span = (float(finite.min()), float(finite.max()))
    counts = [np.histogram(v, bins=BINS, range=span)[0] for v in (finite, values[kept])]
    return {"low": span[0], "high": span[1], "all": counts[0].tolist(), "kept": counts[1].tolist()}


def _examples(audit: Audit, shown: int) -> list[dict[str, Any]]:
    """The galleries, each a kind, the score it is about, and its pairs."""
    found: list[tuple[str, str, Rows]] = []
    if {"clip_score", "caption_score"} <= set(audit.scores):
        found.append(
            ("misfits", "clip_score", misfits(audit, high="clip_score", low="caption_score"))
        )
    for name in audit.scores:
        if (audit.right == 0).any():
            found.append(("wrong", name, wrong_but_high(audit, name)))
        if len(audit.scores) > 1:
            found.append(("kept", name, kept_alone(audit, name)))
            found.append(("dropped", name, dropped_alone(audit, name)))
    labels = audit.pairs["label"].to_list()
    return [
        {
            "kind": kind,
            "score": name,
            "pairs": [_pair(audit, row) for row in _spread(rows, labels, shown)],
        }
        for kind, name, rows in found
    ]


def _spread(rows: Rows, labels: Sequence[str | None], shown: int) -> list[int]:
    """The first rows, at most two of a class before every class has had its turn."""
    taken: dict[str | None, int] = {}
    first: list[int] = []
    rest: list[int] = []
    for row in rows.tolist():
        taken[labels[row]] = taken.get(labels[row], 0) + 1
        (first if taken[labels[row]] <= 2 else rest).append(row)
        if len(first) == shown:
            break
    return [*first, *rest][:shown]


def _pair(audit: Audit, row: int) -> dict[str, Any]:
    pair = audit.pairs.row(row, named=True)
    right = audit.right[row]
    return {
        "id": pair["id"],
        "label": pair["label"],
        "caption": pair.get("caption"),
        "right": bool(right) if np.isfinite(right) else None,
        "kept_by": [name for name in audit.scores if audit.kept[name][row]],
        "scores": {name: _number(pair[name]) for name in audit.scores},
        "places": {name: _number(audit.places[name][row]) for name in audit.scores},
    }


def _number(value: float | None) -> float | None:
    return float(f"{value:.6g}") if value is not None and np.isfinite(value) else None


def _values(column: pl.Series) -> Floats:
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
