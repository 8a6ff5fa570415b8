"""The calibration page: where copies begin, shown by the pairs on either side of a threshold.

Numbers become a chart and tables here; `calibration.html` lays them out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from headwater.report.frame import render
from headwater.report.histogram import DASHED, NARROW, WIDE, Line, histogram
from headwater.report.views import NONE, data_address

Json = Mapping[str, Any]
Pictures = tuple[bytes | None, bytes | None]


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
            (kind, Markup(_chart(told, name=kind, size=size)))
            for kind, size in (("wide", WIDE), ("narrow", NARROW))
        ],
        thresholds=[_threshold(row, told) for row in told["thresholds"]],
        changes=_changes(told["measured"]),
        above=shown[:cut],
        below=shown[cut:],
    )


def _chart(told: Json, *, name: str, size: tuple[int, int]) -> str:
    """The images of the set by how similar they are to their nearest reference."""
    lines = [Line(told["threshold"], f"threshold {_number(told['threshold'])}")]
    if told["suggested"] not in (None, told["threshold"]):
        lines.append(Line(told["suggested"], f"suggested {_number(told['suggested'])}", DASHED))
    return histogram(
        told["histogram"], threshold=told["threshold"], lines=lines, name=name, size=size,
        axis="similarity to the nearest reference",
        label="Histogram: images by their similarity to the nearest reference",
    )  # fmt: skip


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
