"""A histogram of similarities: how many images are how similar, with thresholds drawn in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from headwater.report.svg import INK, RULE, own_settings, slot_color, themed_svg

Json = Mapping[str, Any]

WIDE, NARROW = (920, 250), (340, 250)  # pixels
BELOW, ABOVE = 0, 1  # the page's colors

SOLID: Any = "-"
DASHED: Any = (0, (3, 3))
HEIGHTS = (8, 24)  # of the first line's text over the axes, and of the second's, pixels


class Line(NamedTuple):
    """A value drawn across, and what it is called."""

    value: float
    text: str
    style: Any = SOLID


def histogram(
    stretches: Sequence[Json],
    *,
    threshold: float | None,
    lines: Sequence[Line],
    axis: str,
    label: str,
    name: str,
    size: tuple[int, int],
) -> str:
    """How many images are how similar, on a logarithmic scale.

    Args:
        stretches: equal stretches of similarity: `from`, `to` and `images`.
        threshold: stretches above it have another color.
        lines: what is drawn across, two at most.
        axis: what the similarity is to.
        label: what a screen reader says.
        name: unique on the page.
        size: width and height in pixels.

    Returns:
        An SVG element.
    """
    with own_settings():
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), dpi=72)
        box = 44 / size[0], 40 / size[1], 1 - 56 / size[0], 1 - 78 / size[1]
        axes = figure.add_axes(box)
        for stretch in stretches:
            left, width = stretch["from"], stretch["to"] - stretch["from"]
            is_above = threshold is not None and left + width / 2 > threshold
            color = slot_color(ABOVE if is_above else BELOW)
            axes.bar(left, stretch["images"], 0.86 * width, align="edge", color=color)
        axes.set_yscale("log")
        axes.set_ylim(0.7, 2 * max(stretch["images"] for stretch in stretches))
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.set_yticks([], minor=True)
        axes.set_xlim(stretches[0]["from"], stretches[-1]["to"])
        axes.set_xlabel(axis)
        axes.grid(axis="y", color=RULE, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["left", "top", "right"]].set_visible(False)
        axes.tick_params(length=0, pad=6)
        for line, height in zip(lines, HEIGHTS, strict=False):
            _draw(axes, line, height)
        return themed_svg(figure, name=name, label=label)


def _draw(axes: Any, line: Line, height: float) -> None:
    axes.axvline(line.value, color=INK, linewidth=1.3, linestyle=line.style)
    left, right = axes.get_xlim()
    side = "right" if line.value > (left + right) / 2 else "left"
    axes.annotate(
        line.text,
        (line.value, 1),
        (0, height),
        xycoords=("data", "axes fraction"),
        textcoords="offset pixels",
        horizontalalignment=side,
        verticalalignment="center",
        annotation_clip=False,
    )
