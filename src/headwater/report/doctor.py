"""The doctor's page: what was found in a pool's captions, on one page that opens offline.

Numbers become bars here, and captions parts to show; `doctor.html` lays them out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from markupsafe import Markup, escape

from headwater.errors import plain
from headwater.report.frame import render
from headwater.report.views import NONE

Json = Mapping[str, Any]

SHOWN = 5  # captions of a class, findings of a kind in sight; the rest unfold
ROWS_SHOWN = 60  # classes in sight
PAIRS = 60  # pairs of classes listed; a big task has thousands

TAGS = {
    "nothing": ("no caption", "worse"),
    "few": ("few", "worse"),
    "neighbors": ("way out", "better"),
    "same": ("same words", "worse"),
    "name": ("same name", "worse"),
    "nested": ("nested", "worse"),
    "together": ("shared", "plain"),
    "plural": ("plural", "worse"),
    "inside": ("inside words", "plain"),
    "crowd": ("lists", "plain"),
    "missing": ("no text", "plain"),
}
SIGNS = {"same": "=", "nested": "⊂", "together": "∩"}


def render_doctor(told: Json) -> str:
    """One self-contained HTML page; the same findings give the same text.

    Args:
        told: what `headwater doctor --json` prints.
    """
    places = {row["label"]: f"class-{i}" for i, row in enumerate(told["classes"])}
    most = max((row["captions"] for row in told["classes"]), default=0)
    fewest_first = sorted(told["classes"], key=lambda row: row["captions"])
    by_kind = groupby(told["findings"], key=itemgetter("kind"))
    return render(
        "doctor.html",
        styles=("page.css", "doctor.css"),
        told=told,
        findings=[_group(kind, each, places) for kind, each in by_kind],
        places=places,
        classes=[_class_row(row, most) for row in fewest_first],
        pairs=[_pair(row) for row in told["shared"][:PAIRS]],
        pairs_left=max(len(told["shared"]) - PAIRS, 0),
        cards=[_card(row) for row in told["classes"]],
        shown=SHOWN,
        rows_shown=ROWS_SHOWN,
        none_sign=NONE,
    )


def _group(kind: str, findings: Iterable[Json], places: Mapping[str, str]) -> dict[str, Any]:
    """The findings of one kind under their tag."""
    tag, look = TAGS[kind]
    return {"tag": tag, "look": look, "texts": [_linked(each, places) for each in findings]}


def _linked(finding: Json, places: Mapping[str, str]) -> list[dict[str, Any]]:
    """A finding in parts: its class names lead to their captions."""
    longest_first = sorted(finding["labels"], key=len, reverse=True)
    names = "|".join(map(re.escape, longest_first)) or r"(?!)"  # which is nowhere
    parts = enumerate(re.split(rf"(?<!\w)({names})(?!\w)", finding["text"]))
    told = [(part, places[part] if i % 2 else None) for i, part in parts if part]
    return [{"text": show_part(part), "place": place} for part, place in told]


def _class_row(row: Json, most: int) -> dict[str, Any]:
    """A line of the table: bars from 0 to 100, the pale part shared with other classes."""
    return {
        "label": row["label"],
        "captions": f"{row['captions']:,}",
        "state": "none" if not row["captions"] else "",
        "pale": _length(row["captions"], most),
        "full": _length(row["alone"], most),
        "shared": _number(row["captions"] - row["alone"] or None),
        "rejected": f"{row['rejected']:,}",
        "inside": [_marked_word(word, row) for word in row["inside"]],
        "synonyms": _number(row["with_synonyms"]),
        "all": _number(row["with_all"]),
    }


def _number(value: int | None) -> str:
    return NONE if value is None else f"{value:,}"


def _marked_word(word: Json, row: Json) -> dict[str, Any]:
    """A longer word, cut around the query it holds."""
    text = str(word["word"])
    queries = [query["query"].lower() for query in row["queries"]]
    held = next((query for query in queries if query in text), "")
    before, middle, after = text.partition(held) if held else (text, "", "")
    parts = {"before": before, "match": middle, "after": after}
    return {**parts, "captions": f"{word['captions']:,}"}


def _pair(row: Json) -> dict[str, Any]:
    return {
        "a": row["a"],
        "b": row["b"],
        "sign": SIGNS[row["kind"]],
        "kind": TAGS[row["kind"]][0],
        "captions": f"{row['captions']:,}",
        "of_a": _share(row["captions"], row["of_a"]),
        "of_b": _share(row["captions"], row["of_b"]),
        "only": _share(row["only"], row["of_a"]) if row["kind"] == "nested" else None,
        "only_count": f"{row['only']:,}",
    }


def _share(part: int, whole: int) -> dict[str, Any]:
    share = 100 * part / max(whole, 1)
    return {"length": _length(part, whole), "text": f"{share:.0f} %" if share >= 1 else "<1 %"}


def _length(part: int, whole: int) -> float:
    """0 to 100; what is there at all can be seen."""
    return max(round(100 * part / whole, 1), 0.6) if part else 0.0


def _card(row: Json) -> dict[str, Any]:
    return {
        "label": row["label"],
        "captions": f"{row['captions']:,}",
        "queries": _tally(row["queries"], "query") if len(row["queries"]) > 1 else "",
        "synonyms": _tally(row["synonyms"], "synonym"),
        "samples": [_caption(sample) for sample in row["samples"]],
    }


def _tally(rows: Sequence[Json], kind: str) -> str:
    return ", ".join(f"{row[kind]} ({row['captions']:,})" for row in rows)


def _caption(sample: Json) -> dict[str, Markup]:
    return {part: show_part(sample[part]) for part in ("before", "match", "after")}


def show_part(text: str) -> Markup:
    """A part of a text, escaped; the space at its ends stays, piled-up marks do not."""
    spaced = " " if text[:1].isspace() else "", " " if text[-1:].isspace() else ""
    return escape(spaced[0] + _without_piles(plain(text)) + (spaced[1] if text.strip() else ""))


def _without_piles(text: str) -> str:
    """At most two combining marks on a character: more would reach into other lines."""
    kept: list[str] = []
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        if marks <= 2:
            kept.append(character)
    return "".join(kept)
