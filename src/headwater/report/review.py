"""The review page: a gallery a class of what a curation kept and dropped, to be marked by a person.

Texts and numbers are made ready here; `review.html` lays them out, and `review.js` makes a CSV of
the pictures marked as bad.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup, escape

from headwater.report.doctor import show_part
from headwater.report.frame import render
from headwater.report.views import NONE, data_address

ROWS_SHOWN = 60  # classes in sight in the index; the rest unfold
LETTERS = 300  # of a caption


@dataclass(frozen=True)
class Picture:
    """A pair as it is shown.

    Attributes:
        id, label: its key.
        image: a small PNG or JPEG; None where there is none that can be shown.
        score: the value that decided.
        reason: why it was dropped; empty for what was kept.
        caption: before, in and after the match.
        facts: what else is known, by name.
        beside: the picture it is like, and what that is called.
    """

    id: str
    label: str
    image: bytes | None
    score: float | None = None
    reason: str = ""
    caption: tuple[str, str, str] = ("", "", "")
    facts: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[bytes | None, str] | None = None


@dataclass(frozen=True)
class Gallery:
    """Pictures with one fate, and how many pairs share it."""

    title: str
    total: int
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class ReviewData:
    """What a review page is made of.

    Attributes:
        title: what was curated.
        key: the digest of the set; marks are kept in the browser under it.
        steps: gates in order.
        counts: label -> gate -> pairs left.
        names: label -> name shown.
        galleries: label -> its galleries; a class without an entry is only counted.
        notes: what is left out, and why.
    """

    title: str
    key: str
    steps: Sequence[str]
    counts: Mapping[str, Mapping[str, int]]
    names: Mapping[str, str]
    galleries: Mapping[str, Sequence[Gallery]]
    notes: Sequence[str] = ()


def render_review(told: ReviewData) -> str:
    """One self-contained HTML page; the same data give the same text."""
    first, last = told.steps[0], told.steps[-1]
    rows = [_row(told, number, label) for number, label in enumerate(told.counts)]
    return render(
        "review.html",
        styles=("page.css", "doctor.css", "review.css"),
        script="review.js",
        told=told,
        considered=f"{sum(row[first] for row in told.counts.values()):,}",
        kept=f"{sum(row[last] for row in told.counts.values()):,}",
        pictures=f"{sum(len(g.pictures) for each in told.galleries.values() for g in each):,}",
        rows=rows,
        rows_shown=ROWS_SHOWN,
        classes=[
            {**row, "galleries": [_gallery(each) for each in told.galleries[row["label"]]]}
            for row in rows
            if row["shown"]
        ],
    )


def _row(told: ReviewData, number: int, label: str) -> dict[str, Any]:
    """A class in the index: what is left after each step, and the share that stays."""
    counts = told.counts[label]
    first, last = counts[told.steps[0]], counts[told.steps[-1]]
    return {
        "label": label,
        "name": told.names.get(label, label) or "(no label)",
        "place": f"class-{number}",
        "shown": label in told.galleries,
        "counts": [f"{counts[step]:,}" for step in told.steps],
        "share": round(100 * last / first, 1) if first else 0.0,
        "empty": not last,
    }


def _gallery(gallery: Gallery) -> dict[str, Any]:
    shown = len(gallery.pictures)
    left_out = gallery.total - shown
    return {
        "title": gallery.title,
        "total": f"{gallery.total:,}",
        "more": f"{shown:,} of {gallery.total:,} shown" if left_out else "",
        "pictures": [_picture(each) for each in gallery.pictures],
    }


def _picture(picture: Picture) -> dict[str, Any]:
    before, match, after = picture.caption
    beside = picture.beside and {"address": _address(picture.beside[0]), "name": picture.beside[1]}
    facts = {name: value for name, value in picture.facts.items() if value}
    return {
        "pair": _exactly([picture.id, picture.label]),
        "id": picture.id,
        "address": _address(picture.image),
        "score": _number(picture.score),
        "reason": picture.reason,
        "before": show_part(("… " if len(before) > LETTERS else "") + before[-LETTERS:]),
        "match": show_part(match[:LETTERS]),
        "after": show_part(after[:LETTERS] + (" …" if len(after) > LETTERS else "")),
        "caption": bool(before or match or after),
        "facts": facts,
        "beside": beside or None,
    }


def _number(score: float | None) -> str:
    if score is None:
        return NONE
    return f"{score:.3f}" if abs(score) < 10 else f"{score:,.0f}"


def _exactly(value: Any) -> Markup:
    """A value as JSON in an attribute: escaped, and whole, control characters and all."""
    return Markup(escape(json.dumps(value)))


def _address(image: bytes | None) -> Markup:
    return Markup(data_address(image) if image else "")  # base64: nothing to escape
