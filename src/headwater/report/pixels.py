"""What differs between sources in size, shape, padding and codec, as they came and as trained on.

A model may tell sources apart by these alone; the one pixel path is to take them away, and what is
left must be said beside the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

from headwater.report.views import NONE, Table

POINTS = 0.1  # shares of images may differ by ten points
FACTOR = 1.1  # sizes by a tenth
DENSITY = 1.5  # bytes per pixel by half: pictures of the same codec differ by what they show

Look = Mapping[str, Any]
Pixels = Mapping[str, Mapping[str, Any]]
"""Source -> its pixels.json, with looks `before` and `after`."""


def pixels_table(pixels: Pixels) -> Table:
    """A row a source: what its images were like as they came, and what they are."""
    head = ["source", "images", *(name for name, _ in CELLS)]
    rows = [
        [source, f"{told['images']:,}", *(_both(told, cell) for _, cell in CELLS)]
        for source, told in pixels.items()
    ]
    return Table(head, rows)


def pixels_sentence(pixels: Pixels) -> str:
    """In what the sources differ beyond the tolerances, before and after.

    Example:
        >>> look = {"short_side": {"p5": 64, "median": 64, "p95": 64}, "not_square": 0.0,
        ...         "padded": 0.0, "padding": None, "codecs": {"PNG": 1.0}, "bytes_per_pixel": 1.0}
        >>> other = {**look, "codecs": {"JPEG": 1.0}}
        >>> pixels_sentence({"a": {"images": 1, "before": look, "after": look},
        ...                  "b": {"images": 1, "before": other, "after": look}})
        'As they came, sources differ in codec; as they are trained on, in nothing.'
    """
    before, after = (_kinds(pixels, when) for when in ("before", "after"))
    return (
        f"As they came, sources differ in {before or 'nothing'}; as they are trained on, in"
        f" {after or 'nothing'}."
    )


def pixels_notes(pixels: Pixels, arm: Sequence[str], against: Sequence[str]) -> list[str]:
    """What must be said of two arms whose images still differ, by the sources of each.

    Bytes per pixel are left out: they depend on what the pictures show.
    """
    pairs = [(a, b) for a in arm for b in against if a != b and a in pixels and b in pixels]
    return [
        f"{a} and {b} images still differ in how they were made into files: {'; '.join(found)}."
        for a, b in pairs
        if (found := _said(pixels[a]["after"], pixels[b]["after"]))
    ]


def unlike(one: Look, other: Look) -> dict[str, str]:
    """In what two sources differ beyond the tolerances: the kind of difference -> in words.

    Args:
        one: a look of pixels.json.
        other: another; an empty set's has no numbers and differs in nothing.
    """
    size, bytes_ = "short_side", "bytes_per_pixel"
    found = {}
    if one[size]["median"] is None or other[size]["median"] is None:
        return {}
    if _apart(one[size]["median"], other[size]["median"]) > FACTOR:
        found["size"] = f"short side {_side(one)} against {_side(other)} px"
    if abs(one["not_square"] - other["not_square"]) > POINTS:
        found["shape"] = f"{_not_square(one)} against {_not_square(other)} not square"
    if abs(one["padded"] - other["padded"]) > POINTS:
        found["padding"] = f"{_percent(one['padded'])} against {_percent(other['padded'])} padded"
    codecs = {*one["codecs"], *other["codecs"]}
    if max(abs(one["codecs"].get(c, 0) - other["codecs"].get(c, 0)) for c in codecs) > POINTS:
        found["codec"] = f"{_codecs(one)} against {_codecs(other)}"
    if _apart(one[bytes_], other[bytes_]) > DENSITY:
        found["bytes per pixel"] = f"{one[bytes_]:.2g} against {other[bytes_]:.2g} bytes per pixel"
    return found


def _said(one: Look, other: Look) -> list[str]:
    return [words for kind, words in unlike(one, other).items() if kind != "bytes per pixel"]


def _kinds(pixels: Pixels, when: str) -> str:
    """The kinds of difference between any two sources, in words."""
    pairs = combinations(pixels.values(), 2)
    found = dict.fromkeys(kind for a, b in pairs for kind in unlike(a[when], b[when]))
    *others, last = found or [""]
    return f"{', '.join(others)} and {last}" if others else last


def _both(told: Mapping[str, Any], cell: Callable[[Look], str]) -> str:
    before, after = cell(told["before"]), cell(told["after"])
    return before if before == after else f"{before} → {after}"


def _apart(one: float, other: float) -> float:
    low, high = sorted((one, other))
    return high / low if low else float("inf") if high else 1.0


def _side(look: Look) -> str:
    p5, median, p95 = (look["short_side"][name] for name in ("p5", "median", "p95"))
    if median is None:
        return NONE
    spread = "" if p5 == p95 else f" ({p5:,.0f} to {p95:,.0f})"
    return f"{median:,.0f}{spread}"


def _not_square(look: Look) -> str:
    return _percent(look["not_square"])


def _padded(look: Look) -> str:
    share = "" if look["padding"] is None else f" ({_percent(look['padding'])} of the picture)"
    return f"{_percent(look['padded'])}{share}"


def _codecs(look: Look) -> str:
    """`JPEG`, or `90 % JPEG, 10 % PNG`."""
    shares: Mapping[str, float] = look["codecs"]
    most = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    if len(most) < 2:
        return most[0][0] if most else NONE
    return ", ".join(f"{_percent(share)} {codec}" for codec, share in most)


def _density(look: Look) -> str:
    return NONE if look["bytes_per_pixel"] is None else f"{look['bytes_per_pixel']:.2f}"


def _percent(share: float | None) -> str:
    """A share in whole percent; what is more than none or less than all is never told as such."""
    if share is None:
        return NONE
    if 0 < share < 0.005:
        return "< 1 %"
    return "> 99 %" if 0.995 < share < 1 else f"{100 * share:.0f} %"


CELLS: Sequence[tuple[str, Callable[[Look], str]]] = (
    ("short side, px", _side),
    ("not square", _not_square),
    ("padded", _padded),
    ("codec", _codecs),
    ("bytes per pixel", _density),
)
