"""The calibration page: where copies begin, shown by the pairs on either side of a threshold.

Numbers become a chart and tables here; `calibration.html` lays them out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from headwater.report.frame import render
from headwater.report.svg import INK, RULE, own_settings, slot_color, themed_svg
from headwater.report.views import NONE, data_address

Json = Mapping[str, Any]
Pictures = tuple[bytes | None, bytes | None]

WIDE, NARROW = (920, 250), (340, 250)  # pixels
KEPT, DROPPED = 0, 1  # the page's colors


def render_calibration(told: Json, pictures: Sequence[Pictures]) -> str:
    """One self-contained HTML page; the same numbers and pictures give the same text.

    Args:
        told: what `headwater.steps.looking.calibrate.calibrate` returns.
        pictures: of the pairs in `above`, then of those in `below`: the image of the set, and its
            most similar reference, as small JPEG, PNG or WebP; None: not to be shown.
    """
    shown = [
        _pair(pair, *both)
        for pair, both in zip([*told["above"], *told["below"]], pictures, strict=True)
    ]
    cut = len(told["above"])
    return render(
        "calibration.html",
        styles=("page.css", "calibration.css"),
        told=told,
        threshold=_number(told["threshold"]),
        suggested=None if told["suggested"] is None else _number(told["suggested"]),
        advised=_number(told["threshold"] if told["suggested"] is None else told["suggested"]),
        splits=" and ".join(told["splits"]),
        charts=[
            (kind, Markup(histogram_chart(told, name=kind, size=size)))
            for kind, size in (("wide", WIDE), ("narrow", NARROW))
        ],
        thresholds=[_threshold(row, told) for row in told["thresholds"]],
        changes=_changes(told["measured"]),
        above=shown[:cut],
        below=shown[cut:],
    )


def histogram_chart(told: Json, *, name: str, size: tuple[int, int]) -> str:
    """How many images are how similar, on a logarithmic scale, with the thresholds drawn in.

    Args:
        told: as for `render_calibration`.
        name: unique on the page.
        size: width and height in pixels.

    Returns:
        An SVG element.
    """
    with own_settings():
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), dpi=72)
        box = 44 / size[0], 40 / size[1], 1 - 56 / size[0], 1 - 78 / size[1]
        axes = figure.add_axes(box)
        for stretch in told["histogram"]:
            left, width = stretch["from"], stretch["to"] - stretch["from"]
            slot = DROPPED if left + width / 2 > told["threshold"] else KEPT
            axes.bar(left, stretch["images"], 0.86 * width, align="edge", color=slot_color(slot))
        axes.set_yscale("log")
        axes.set_ylim(0.7, 2 * max(stretch["images"] for stretch in told["histogram"]))
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.set_yticks([], minor=True)
        axes.set_xlim(told["histogram"][0]["from"], told["histogram"][-1]["to"])
        axes.set_xlabel("similarity to the nearest reference")
        axes.grid(axis="y", color=RULE, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["left", "top", "right"]].set_visible(False)
        axes.tick_params(length=0, pad=6)
        _draw_threshold(axes, told["threshold"], "threshold", "-", 8)
        if told["suggested"] not in (None, told["threshold"]):
            _draw_threshold(axes, told["suggested"], "suggested", (0, (3, 3)), 24)
        label = "Histogram: images by their similarity to the nearest reference"
        return themed_svg(figure, name=name, label=label)


def _draw_threshold(axes: Any, value: float, text: str, style: Any, height: float) -> None:
    axes.axvline(value, color=INK, linewidth=1.3, linestyle=style)
    left, right = axes.get_xlim()
    side = "right" if value > (left + right) / 2 else "left"
    axes.annotate(
        f"{text} {_number(value)}",
        (value, 1),
        (0, height),
        xycoords=("data", "axes fraction"),
        textcoords="offset pixels",
        horizontalalignment=side,
        verticalalignment="center",
        annotation_clip=False,
    )


def _pair(pair: Json, *both: bytes | None) -> dict[str, Any]:
    addresses = [Markup(data_address(each)) if each else None for each in both]
    return {**pair, "similarity": f"{pair['similarity']:.4f}", "addresses": addresses}


def _threshold(row: Json, told: Json) -> dict[str, str]:
    """A line of the table of thresholds."""
    named = {
        "in use": told["threshold"],
        f"{told['descriptor']['name']}'s own": told["descriptor"]["threshold"],
        "suggested": told["suggested"],
    }
    return {
        "threshold": _number(row["threshold"]),
        "name": ", ".join(name for name, value in named.items() if value == row["threshold"]),
        "copies": f"{row['copies']:,}",
        "share": _percent(row["copies"] / told["images"]),
        "caught": _percent(row["caught"]),
        "mistaken": _percent(row["mistaken"]),
    }


def _changes(measured: Json | None) -> list[dict[str, str]]:
    """Lines of the table of changes, the least caught first."""
    if measured is None:
        return []
    ordered = sorted(measured["changes"], key=lambda row: (row["threshold"], row["suggested"]))
    return [
        {
            "change": row["change"],
            "threshold": _percent(row["threshold"]),
            "suggested": _percent(row["suggested"]),
        }
        for row in ordered
    ]


def _number(value: float) -> str:
    """A threshold as it must be given to mean itself.

    Example:
        >>> _number(0.604169), _number(0.2)
        ('0.604169', '0.2')
    """
    return f"{value:.15g}"


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.1f} %"
