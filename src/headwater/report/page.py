"""The page: a study's numbers and pictures into page.html, as one string.

Charts are inline SVG, images data addresses; `frame.py` holds what makes it safe to open.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

import polars as pl
from markupsafe import Markup

from headwater.report import views
from headwater.report.data import ReportData, measured
from headwater.report.frame import render
from headwater.report.pixels import pixels_sentence, pixels_table

Shown = TypeVar("Shown")

HIDDEN_SPLITS = ("train", "val")
SIZES = {"wide": (520, 400), "narrow": (340, 380)}
"""Every chart is drawn for a wide and for a narrow page, in pixels; the style sheet shows one."""


def render_report(study: ReportData) -> str:
    """One self-contained HTML page; the same study gives the same text.

    Args:
        study: what to show.

    Raises:
        InputError: an image of the gallery is of an unknown format.
    """
    axis = views.verdict_axis(study.verdict, margin=study.margin)
    large = [e for e in study.verdict if views.is_largest(e, study.verdict) or e["primary"]]
    small = [e for e in study.verdict if e not in large]
    splits = _splits(study)
    return render(
        "page.html",
        study=study,
        slots=_slots(study),
        axis=axis,
        answer=_answer(study),
        verdict=views.by_metric(views.verdict_row(e, axis) for e in large),
        smaller=views.by_metric(views.verdict_row(e, axis) for e in small),
        main=splits[0] if splits else None,
        curves={split: _curves(study, split) for split in splits},
        funnels=[views.funnel(name, f, study.classes) for name, f in study.funnels.items()],
        cards=views.cards(study.gallery, study.classes),
        pixels=pixels_table(study.pixels) if study.pixels else None,
        pixels_sentence=pixels_sentence(study.pixels) if len(study.pixels) > 1 else "",
        leaks=_shown(study.leaks, views.frame_table),
        without_copies=_shown(study.without_copies, views.copies_tables),
        topped_up=_shown(study.topped_up, views.topped_up),
        cost=None if study.cost is None else views.frame_table(study.cost),
        settings=views.flat(study.settings),
    )  # fmt: skip


def _shown(frame: pl.DataFrame | None, tell: Callable[[pl.DataFrame], Shown]) -> Shown | None:
    """A table as the page shows it; nothing where it has no rows."""
    return None if frame is None or frame.is_empty() else tell(frame)


def _answer(study: ReportData) -> dict[str, Any] | None:
    """The primary comparison on an axis of its own."""
    if study.primary is None:
        return None
    axis = views.verdict_axis([study.primary], margin=study.margin)
    return {"axis": axis, "row": views.verdict_row(study.primary, axis)}


def _splits(study: ReportData) -> list[str]:
    """The splits to show, the main one first: test, or val where nothing was tested."""
    found = study.results["split"].unique(maintain_order=True).to_list()
    others = [split for split in found if split not in (*HIDDEN_SPLITS, "test")]
    main = [split for split in ("test", "val") if split in found][:1]
    return [*main, *others]


def _slots(study: ReportData) -> dict[str, int]:
    """A color for every arm that is no line; the primary's two arms get the first."""
    primary = study.primary or {}
    first = [primary[side] for side in ("arm", "against") if side in primary]
    arms = [*first, *study.results["arm"].unique(maintain_order=True)]
    drawn = [arm for arm in dict.fromkeys(arms) if arm not in study.reference_arms]
    return {arm: slot for slot, arm in enumerate(drawn)}


def _curves(study: ReportData, split: str) -> list[dict[str, Any]]:
    """Per metric: its name, its chart in every size, and the table behind it."""
    metrics = study.results.filter(split=split)["metric"].unique(maintain_order=True)
    return [_curve(study, split, metric) for metric in metrics]


def _curve(study: ReportData, split: str, metric: str) -> dict[str, Any]:
    from headwater.report import plots

    shown = measured(study.results, split=split, metric=metric)
    title = views.metric_name(metric)
    drawn = plots.curves(shown, lines=study.reference_arms, slots=_slots(study))
    strong = [study.primary[side] for side in ("arm", "against")] if study.primary else []
    limit, limited = _limit(study, strong)
    number = hashlib.sha256(f"{split}/{metric}".encode()).hexdigest()[:6]
    charts = {
        size: plots.scaling_chart(
            drawn,
            plots.levels(shown, lines=study.reference_arms),
            name=f"chart-{number}-{size}",
            label=f"{title} on the {split} split against training images; the numbers follow",
            strong=strong,
            limit=limit,
            size=pixels,
        )
        for size, pixels in SIZES.items()
    }
    beyond = limit is not None and any(n > limit for curve in drawn for n in curve.images)
    return {
        "title": title,
        "charts": {size: Markup(svg) for size, svg in charts.items()},
        "table": views.accuracy_table(shown),
        "limit": f"{limit:,} images, all that {limited} has" if beyond else None,
    }


def _limit(study: ReportData, strong: list[str]) -> tuple[int | None, str]:
    """The images from which on one of the primary's two arms has no more, and which arm that is."""
    sizes = [(study.largest[arm], arm) for arm in strong if arm in study.largest]
    return min(sizes) if len(sizes) == 2 else (None, "")
