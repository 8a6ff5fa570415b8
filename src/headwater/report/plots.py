"""The charts: tidy numbers in, inline SVG out. Every chart has its table beside it on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from headwater.errors import plain
from headwater.report.svg import INK, RULE, SHADE, SLOTS, own_settings, slot_color, themed_svg

MARKERS = "osD^vPXphd"
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)))
LETTER, LINE = 6.4, 15.0
"""Width of a letter and height of a line of labels, in pixels."""


@dataclass(frozen=True)
class Curve:
    """One arm over scales: images (m,), mean and sd (m,) in percent; sd is nan with one seed."""

    arm: str
    slot: int
    images: Sequence[int]
    mean: Sequence[float]
    sd: Sequence[float]


def curves(points: pl.DataFrame, *, lines: Sequence[str], slots: Mapping[str, int]) -> list[Curve]:
    """The arms that are drawn as curves, in percent, with their scales in order.

    Args:
        points: from `data.measured`.
        lines: arms drawn as horizontal lines instead.
        slots: arm -> number of its color on the page.
    """
    found = []
    for arm in points["arm"].unique(maintain_order=True):
        rows = points.filter((pl.col("arm") == arm) & (pl.col("scale") > 0)).sort("scale")
        if arm in lines or rows.is_empty():
            continue
        percent = rows.with_columns(pl.col("mean") * 100, pl.col("sd").fill_null(np.nan) * 100)
        images, mean, sd = (percent[name].to_list() for name in ("scale", "mean", "sd"))
        found.append(Curve(arm, slots[arm], images, mean, sd))
    return found


def levels(points: pl.DataFrame, *, lines: Sequence[str]) -> dict[str, float]:
    """The arms drawn as horizontal lines: accuracy in percent, at their largest scale."""
    return {
        str(arm): 100 * points.filter(pl.col("arm") == arm).sort("scale")["mean"][-1]
        for arm in points["arm"].unique(maintain_order=True)
        if arm in lines or not points.filter(pl.col("arm") == arm)["scale"].max()
    }


def scaling_chart(
    drawn: Sequence[Curve],
    lines: Mapping[str, float],
    *,
    name: str,
    label: str,
    strong: Sequence[str] = (),
    limit: int | None = None,
    size: tuple[int, int] = (520, 380),
) -> str:
    """Accuracy against the number of training images, with bars of one sd over seeds.

    Args:
        drawn: the arms' curves.
        lines: name -> accuracy in percent, drawn across.
        name: unique on the page.
        label: for screen readers.
        strong: arms drawn heavier: the two of the primary comparison.
        limit: images from which one of these two has no more to give; shaded beyond.
        size: width and height in pixels.

    Returns:
        An SVG element.
    """
    with own_settings():
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), dpi=72)
        names = [curve.arm for curve in drawn] + list(lines)
        margin = LETTER * max((len(_short(n)) for n in names), default=0) + 22
        width, height = size[0] - 34 - margin, size[1] - 44
        axes = figure.add_axes(
            (34 / size[0], 34 / size[1], width / size[0], height / size[1]),
        )
        _frame(axes, drawn, lines)
        if limit is not None:
            _shade(axes, limit)
        for number, curve in enumerate(drawn):
            _draw(axes, curve, curve.arm in strong, number - (len(drawn) - 1) / 2)
        for value in lines.values():
            axes.axhline(value, color=INK, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
        _name_ends(axes, drawn, lines, height)
        return themed_svg(figure, name=name, label=label)


def spread(wanted: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Move positions apart to at least `gap`, within [low, high], keeping their order.

    Example:
        >>> spread([1.0, 1.0, 5.0], gap=1.0, low=0.0, high=10.0)
        [0.5, 1.5, 5.0]
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    groups: list[tuple[float, int]] = []  # lower end and size of each run of touching labels
    for i in order:
        start, count = max(low, min(wanted[i], high)), 1
        while groups and start < groups[-1][0] + groups[-1][1] * gap:
            below, held = groups.pop()
            middle = (below + (held - 1) * gap / 2) * held + (start + (count - 1) * gap / 2) * count
            count += held
            start = middle / count - (count - 1) * gap / 2
            start = max(low, min(start, high - (count - 1) * gap))
        groups.append((start, count))
    placed = [0.0] * len(wanted)
    spots = [start + step * gap for start, count in groups for step in range(count)]
    for i, spot in zip(order, spots, strict=True):
        placed[i] = spot
    return placed


def _frame(axes: Axes, drawn: Sequence[Curve], lines: Mapping[str, float]) -> None:
    """Axes that hold every bar and line, with a tick at every scale measured."""
    scales = sorted({n for curve in drawn for n in curve.images}) or [1]
    axes.set_xscale("log")
    axes.set_xlim(scales[0] / 1.3, scales[-1] * 1.13)
    axes.set_xticks(_readable(scales), [f"{n:,}" for n in _readable(scales)])
    axes.set_xticks([], minor=True)
    bars = [np.array(c.mean) + sign * np.nan_to_num(c.sd) for c in drawn for sign in (-1, 1)]
    reach = [*np.concatenate([*bars, list(lines.values())])] or [0.0, 100.0]
    pad = max(1.0, 0.06 * (max(reach) - min(reach)))
    axes.set_ylim(min(reach) - pad, max(reach) + pad)
    axes.locator_params(axis="y", nbins=6)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(axis="y", color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["left", "top", "right"]].set_visible(False)
    axes.tick_params(length=0, pad=6)
    axes.tick_params(axis="x", length=4, pad=4)


def _readable(scales: Sequence[int]) -> list[int]:
    """The scales far enough apart to be written under the axis, the largest among them."""
    if len(scales) < 2:
        return list(scales)
    gap = (np.log(scales[-1]) - np.log(scales[0])) / 8
    kept = [scales[-1]]
    for n in reversed(scales[:-1]):
        if np.log(kept[-1]) - np.log(n) >= gap:
            kept.append(n)
    return kept[::-1]


def _shade(axes: Axes, limit: int) -> None:
    """Shade what lies beyond the images that one of the two arms has."""
    right = axes.get_xlim()[1]
    if limit < right:
        axes.axvspan(limit, right, color=SHADE, linewidth=0, zorder=0)


def _draw(axes: Axes, curve: Curve, strong: bool, shift: float) -> None:
    """One arm; a small shift along the axis keeps the bars of arms apart."""
    where = np.array(curve.images) * 1.018**shift
    color = slot_color(curve.slot)
    axes.errorbar(
        where,
        curve.mean,
        yerr=np.nan_to_num(curve.sd),
        color=color,
        linewidth=2.6 if strong else 1.4,
        elinewidth=1.6 if strong else 1,
        linestyle=DASHES[curve.slot // SLOTS % len(DASHES)],
        marker=MARKERS[curve.slot % len(MARKERS)],
        markersize=7 if strong else 5,
        zorder=4 if strong else 3,
    )


def _name_ends(
    axes: Axes, drawn: Sequence[Curve], lines: Mapping[str, float], height: float
) -> None:
    """Names at the ends of curves and lines, moved apart where they would touch."""
    ends = [(c.arm, c.mean[-1], slot_color(c.slot)) for c in drawn]
    ends += [(arm, value, INK) for arm, value in lines.items()]
    low, high = axes.get_ylim()
    wanted = [(value - low) / (high - low) for _, value, _ in ends]
    half = LINE / height / 2
    placed = spread(wanted, gap=2 * half, low=half, high=1 - half)
    for (arm, _, color), own, spot in zip(ends, wanted, placed, strict=True):
        axes.annotate(
            _short(arm),
            xy=(1, own),
            xytext=(1 + 16 / _width(axes), spot),
            xycoords="axes fraction",
            textcoords="axes fraction",
            verticalalignment="center",
            color=color,
            parse_math=False,
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.7, "shrinkA": 1,
                        "shrinkB": 1, "relpos": (0, 0.5)},
        )  # fmt: skip


def _width(axes: Axes) -> float:
    """Of the plot, in pixels."""
    assert isinstance(axes.figure, Figure)
    return float(axes.get_position().width * axes.figure.get_figwidth() * 72)


def _short(arm: str) -> str:
    """A name short enough to stand beside a curve."""
    name = plain(arm)
    return name if len(name) <= 18 else f"{name[:17]}…"
