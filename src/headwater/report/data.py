"""What a report is made of: `ReportData`, filled by steps/report.py from a study's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from headwater.errors import InputError

RESULT_COLUMNS = ("arm", "scale", "seed", "split", "metric", "value", "chosen")


@dataclass(frozen=True)
class ReportData:
    """Everything the page shows; the same data give the same bytes.

    Args:
        title: of the study.
        task: its name.
        sentence: the answer, in one sentence.
        verdict: the entries of verdict.json, one a comparison, in the order to show; `difference`,
            `low`, `high` and `p` may be None where nothing was measured.
        results: results.parquet: arm, scale, seed, lr, epoch, split, metric, value, chosen; value
            is a share of images; only chosen rows are shown.
        reference_arms: arms drawn as lines (off-the-shelf, labelled); an arm at scale 0 or null is
            one of them in any case.
        largest: arm -> curated images it had at most; beyond the smaller of the primary's two arms
            the curves are shaded.
        funnels: source -> funnel.json: {"steps": [name], "classes": {label: {step: count}}}.
        pixels: source -> pixels.json: what its images were like before and after the pixel path.
        gallery: row -> class label -> encoded images (PNG, JPEG, WebP or GIF).
        classes: label -> name shown; labels without one are shown as they are.
        notes: what must be said beside the numbers, one sentence each.
        settings: the resolved recipe; nested mappings are fine.
        versions: package -> version.
        command: the one that makes this study again.
        margin: difference in accuracy, as a share, that counts as a match.
        cost: one row a step or source, without seconds and dates (they would change the bytes of
            the report from run to run); columns are shown as they are.
        leaks: one row a training set with copies of test images; columns are shown as they are.
        without_copies: arm, scale, metric, images, accuracy, left, without: test accuracy on all
            images, and on those left without a copy in training.
        topped_up: hybrid, role, arm, scale, metric, classes ("topped up" or "others"), labels,
            images, accuracy, false_positives, share, seeds: test images of topped-up classes apart
            from the others, for the top-up, its controls and what they are compared with; roles
            are began, top_up, spread, repeat, as it comes.

    Raises:
        InputError: results without a needed column, or cost with a time in it.
    """

    title: str
    task: str
    sentence: str
    verdict: Sequence[Mapping[str, Any]]
    results: pl.DataFrame
    reference_arms: Sequence[str] = ()
    largest: Mapping[str, int] = field(default_factory=dict)
    funnels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pixels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    gallery: Mapping[str, Mapping[str, Sequence[bytes]]] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    margin: float = 0.01
    cost: pl.DataFrame | None = None
    leaks: pl.DataFrame | None = None
    without_copies: pl.DataFrame | None = None
    topped_up: pl.DataFrame | None = None

    def __post_init__(self) -> None:
        missing = [name for name in RESULT_COLUMNS if name not in self.results.columns]
        if missing:
            raise InputError(
                "results cannot be reported",
                expected=f"columns {', '.join(RESULT_COLUMNS)}",
                seen=f"no {', '.join(missing)}",
            )
        timed = [] if self.cost is None else [c for c in self.cost.columns if _is_time(c)]
        if timed:
            raise InputError(
                "cost holds times, and a report must not change from run to run",
                expected="counts and bytes",
                seen=f"column {', '.join(timed)}",
                do="Leave these columns in cost.parquet.",
            )

    @property
    def primary(self) -> Mapping[str, Any] | None:
        """The verdict entry named before any test prediction was read, if it was measured."""
        return next((entry for entry in self.verdict if entry["primary"]), None)


def measured(results: pl.DataFrame, *, split: str, metric: str) -> pl.DataFrame:
    """Mean and spread over the seeds of every arm at every scale, arms in the order of `results`.

    Args:
        results: as in `ReportData`.
        split: of which images.
        metric: such as "zero_shot".

    Returns:
        arm, scale (0 where none was trained on), mean, sd (null with one seed), seeds.

    Example:
        >>> rows = {"arm": "mixed", "scale": 100, "seed": [0, 1], "split": "test", "metric": "m",
        ...         "value": [0.5, 0.7], "chosen": True}
        >>> measured(pl.DataFrame(rows), split="test", metric="m").row(0)
        ('mixed', 100, 0.6, 0.14142135623730948, 2)
    """
    shown = results.filter(
        pl.col("chosen") & (pl.col("split") == split) & (pl.col("metric") == metric)
    )
    return (
        shown.with_columns(pl.col("scale").fill_null(0).cast(pl.Int64))
        .group_by("arm", "scale", maintain_order=True)
        .agg(
            pl.col("value").mean().alias("mean"),
            pl.col("value").std().alias("sd"),
            pl.col("seed").n_unique().cast(pl.Int64).alias("seeds"),
        )
    )


def _is_time(column: str) -> bool:
    return any(word in column.lower() for word in ("second", "minute", "hour", "date", "started"))
