"""The composition map: what a pool's captions say of each class, and what is rare or absent.

Colors are steps of a logarithmic scale around the target, so that holes stand apart from the rest;
`composition.html` lays them out, rarest class first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from headwater.report.frame import render

Json = Mapping[str, Any]

ROWS_SHOWN = 60  # classes in sight; the rest unfold
FACTOR = 4  # from one step of the scale to the next, above the target
STEPS = 5  # of the scale above the target
RARE = 10  # a hole with fewer than the target divided by this is nearly empty


def render_composition(told: Json) -> str:
    """One self-contained HTML page; the same counts give the same text.

    Args:
        told: what `headwater composition --json` prints.
    """
    target, attributes = told["target"], told["attributes"]
    classes = sorted(told["classes"], key=lambda row: (row["captions"], row["label"]))
    most = max((row["captions"] for row in classes), default=0)
    columns = [("any", [row["captions"] for row in classes])]
    columns += [(a, [row["with"][i] for row in classes]) for i, a in enumerate(attributes)]
    return render(
        "composition.html",
        styles=("page.css", "composition.css"),
        told=told,
        sentence=sentence(told),
        strips=[strip(name, counts, target=target) for name, counts in columns],
        heads=["any", *attributes],
        rows=[_row(row, most=most, target=target) for row in classes],
        rows_shown=ROWS_SHOWN,
        scale=legend(target),
    )


def sentence(told: Json) -> str:
    """What is missing, in one sentence.

    Example:
        >>> sentence({"attributes": [], "classes": [1] * 20, "holes": 3, "empty": 1, "target": 50})
        '3 of 20 classes have fewer than 50 captions in the pool; 1 has none.'
    """
    cells = len(told["classes"]) * max(len(told["attributes"]), 1)
    what = "pairs of class and attribute" if told["attributes"] else "classes"
    holes, empty = told["holes"], told["empty"]
    have = "has" if holes == 1 else "have"
    none = "" if not empty else f"; {empty:,} {'has' if empty == 1 else 'have'} none"
    few = f"fewer than {told['target']:,} captions in the pool"
    return f"{f'{holes:,}' if holes else 'None'} of {cells:,} {what} {have} {few}{none}."


def level(captions: int, *, target: int) -> str:
    """The step of the scale: h0 to h2 are holes, f0 and up are not.

    Example:
        >>> [level(n, target=50) for n in (0, 4, 49, 50, 199, 200, 10**9)]
        ['h0', 'h1', 'h2', 'f0', 'f0', 'f1', 'f4']
    """
    if captions < target:
        return "h0" if not captions else "h1" if captions * RARE < target else "h2"
    step = 0
    while step < STEPS - 1 and captions >= target * FACTOR ** (step + 1):
        step += 1
    return f"f{step}"


def legend(target: int) -> list[dict[str, str]]:
    """The steps of the scale, each with the captions it stands for.

    Example:
        >>> [step["text"] for step in legend(50)][:5]
        ['0', '1 to 4', '5 to 49', '50 to 199', '200 to 799']
    """
    rare = -(-target // RARE)
    starts = [target * FACTOR**step for step in range(STEPS)]
    bounds = [("h0", 0, 1), ("h1", 1, rare), ("h2", max(rare, 1), target)]
    ends = [*starts[1:], None]
    bounds += [(f"f{i}", a, b) for i, (a, b) in enumerate(zip(starts, ends, strict=True))]
    return [{"look": look, "text": _span(a, b)} for look, a, b in bounds if b is None or a < b]


def strip(name: str, counts: Sequence[int], *, target: int) -> dict[str, Any]:
    """A column of the map lying down: runs of neighbors of one step, from, how many, which.

    Example:
        >>> strip("in snow", [0, 0, 80], target=50)["runs"]
        [(0, 2, 'h0'), (2, 1, 'f0')]
    """
    looks = [level(count, target=target) for count in counts]
    runs, start = [], 0
    for look, same in groupby(looks):
        length = len(list(same))
        runs.append((start, length, look))
        start += length
    holes = sum(count < target for count in counts)
    return {"name": name, "runs": runs, "width": len(counts), "holes": f"{holes:,}"}


def short(captions: int) -> str:
    """A number in at most four characters.

    Example:
        >>> short(950), short(1_234), short(45_678), short(999_999), short(12_000_000)
        ('950', '1.2k', '46k', '1.0M', '12M')
    """
    for unit, size in (("", 1), ("k", 1e3), ("M", 1e6), ("G", 1e9)):
        if captions < 999.5 * size or unit == "G":
            break
    value = captions / size
    return f"{value:.0f}{unit}" if not unit or value >= 9.95 else f"{value:.1f}{unit}"


def _row(row: Json, *, most: int, target: int) -> dict[str, Any]:
    look = level(row["captions"], target=target)
    return {
        "label": row["label"],
        "captions": f"{row['captions']:,}",
        "look": look if look[0] == "h" else "fill-full",
        "length": _log_length(row["captions"], most),
        "cells": list(_cells(row["with"], target)),
    }


def _cells(counts: Iterable[int], target: int) -> Iterable[dict[str, str]]:
    for count in counts:
        yield {"text": short(count), "look": level(count, target=target)}


def _log_length(captions: int, most: int) -> float:
    """0 to 100 on a logarithmic scale from one caption on."""
    return round(100 * math.log1p(captions) / math.log1p(most), 1) if captions else 0.0


def _span(first: int, end: int | None) -> str:
    if end is None:
        return f"{first:,} and more"
    return f"{first:,}" if end == first + 1 else f"{first:,} to {end - 1:,}"
