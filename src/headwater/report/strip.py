"""The strip page: the same images at every gamma, side by side, with what pixels alone tell.

Numbers become text and bars here; `strip.html` lays them out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headwater.report.frame import render
from headwater.report.views import NONE, data_address

UNLABELLED = "(no label)"
FEW = 7  # columns that leave room for larger pictures


@dataclass(frozen=True)
class Column:
    """What images were made into at one gamma.

    Attributes:
        name: as it is shown, such as `0.4` or `autoencoder`.
        valid: images left of those perturbed.
        broken: images that came out broken.
        away: mean distance of a pixel from the original's, in gray levels of 255.
        detail: fine detail, as a share of the original's.
        alike: share of images in which a copy detector knows the original again.
    """

    name: str
    valid: int
    broken: int
    away: float | None
    detail: float | None
    alike: float | None


@dataclass(frozen=True)
class Strip:
    """One image: as it was, and in every column with its distance from that."""

    id: str
    original: bytes | None
    images: Sequence[tuple[bytes | None, float]]


@dataclass(frozen=True)
class StripData:
    """What a strip page is made of.

    Attributes:
        title: of the set that was perturbed.
        sentence: what was found, in one sentence.
        columns: ordered by gamma.
        strips: class name -> its images; a set without labels has them under "".
        measured: images that the columns' numbers are of.
        paired: images that are valid in every column.
        notes: how the images were made, and what is left out.
    """

    title: str
    sentence: str
    columns: Sequence[Column]
    strips: Mapping[str, Sequence[Strip]]
    measured: int
    paired: int
    notes: Sequence[str] = ()


def render_strip(told: StripData) -> str:
    """One self-contained HTML page; the same data give the same text."""
    return render(
        "strip.html",
        styles=("page.css", "doctor.css", "strip.css"),
        told=told,
        heads=[column.name for column in told.columns],
        few="few" if len(told.columns) <= FEW else "",
        facts=_facts(told.columns),
        classes=[
            {
                "name": name or UNLABELLED,
                "place": f"class-{number}",
                "strips": list(map(_row, each)),
            }
            for number, (name, each) in enumerate(told.strips.items())
        ],
        none_sign=NONE,
    )


def _facts(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """A row a fact: its name, what it means, and a cell a column."""
    farthest = max((column.away or 0 for column in columns), default=0)
    broken = [column.broken for column in columns]
    rows = [
        {
            "name": "distance", "unit": "gray levels",
            "cells": [_cell(c.away, farthest, f"{c.away or 0:.1f}") for c in columns],
        },
        {
            "name": "fine detail", "unit": "of the original's",
            "cells": [_cell(c.detail, 1, _percent(c.detail)) for c in columns],
        },
        {
            "name": "known again", "unit": "by a copy detector",
            "cells": [_cell(c.alike, 1, _percent(c.alike)) for c in columns],
        },
    ]  # fmt: skip
    if any(broken):
        told = [_cell(float(n), max(broken), f"{n:,}") for n in broken]
        rows.append({"name": "broken", "unit": "images dropped", "cells": told})
    return rows


def _cell(value: float | None, most: float, text: str) -> dict[str, Any]:
    if value is None:
        return {"text": NONE, "length": 0.0}
    return {"text": text, "length": round(100 * min(value / most, 1), 1) if most else 0.0}


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.0f} %"


def _row(strip: Strip) -> dict[str, Any]:
    return {
        "id": strip.id,
        "original": _address(strip.original),
        "cells": [(_address(image), f"{away:.0f}") for image, away in strip.images],
    }


def _address(image: bytes | None) -> str | None:
    return None if image is None else data_address(image)
