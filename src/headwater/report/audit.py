"""The audit page: what each score of a curated set would keep, and pictures on which they disagree.

Numbers become text and bars here; `audit.html` lays them out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from operator import itemgetter
from typing import Any

from markupsafe import Markup

from headwater.report.frame import render
from headwater.report.views import MINUS, NONE, data_address

Json = Mapping[str, Any]
Images = Mapping[tuple[str, str], bytes]

LOT = "none"  # what the audit calls the kept set that no score chose
HEIGHT = 26  # of a histogram; one of its bins is 3 wide

FAILURES = [("misfits", "clip_score"), ("wrong", "clip_score")]
"""The galleries on the known failure, which have a section of their own."""

TITLES = {
    "misfits": "Kept by clip_score, fitting their own caption least",
    "wrong": "Known to show something else, placed highest by {}",
    "kept": "Kept by {}, and by few others or none",
    "dropped": "Dropped by {}, kept by most others",
}


def render_audit(told: Json, images: Images) -> str:
    """One self-contained HTML page; the same findings give the same text.

    Args:
        told: what `curate --audit --json` prints.
        images: a small JPEG or PNG by id and label; a pair without one is shown without.
    """
    names = [line["score"] for line in told["scores"]]
    galleries = [_gallery(each, told, images) for each in told["examples"]]
    return render(
        "audit.html",
        styles=("page.css", "doctor.css", "audit.css"),
        told=told,
        share=_percent(told["fraction"]),
        sentence=_sentence(told),
        known=told["known"] > 0,
        right=_percent(_ratio(told["right"], told["known"])),
        curated=_percent(_ratio(told["curated"]["right"], told["curated"]["known"])),
        scores=[_score(line, told) for line in told["scores"]],
        names=names,
        overlap=[_cells(told["overlap"][a], names, a) for a in names],
        correlation=[
            _cells(row, list(told["correlation"]), a) for a, row in told["correlation"].items()
        ],
        failures=[each for each in galleries if each["about"] in FAILURES],
        galleries=_by_score(galleries),
        none_sign=NONE,
        lot=LOT,
    )


def _sentence(told: Json) -> str:
    """What the audit found, in one sentence."""
    lines = {line["score"]: line for line in told["scores"]}
    share = _percent(told["fraction"])
    if told["known"]:
        rates = [
            f"{_percent(_ratio(line['right'], line['known']))} by {'lot' if name == LOT else name}"
            for name, line in lines.items()
            if name in ("clip_score", LOT) or len(lines) <= 4
        ]
        listed = ", ".join(rates[:-1]) + f" and {rates[-1]}" if len(rates) > 1 else rates[0]
        return f"Of the best {share} of each class, {listed} show their class."
    pairs = [
        (value, a, b)
        for a, b in combinations([name for name in lines if name != LOT], 2)
        if (value := told["overlap"][a][b]) is not None
    ]
    if not pairs:
        return f"The best {share} of each class, by one score and by lot."
    value, a, b = min(pairs, key=itemgetter(0))
    return (
        f"{a} and {b} agree least: of the pairs that either puts among the best {share} of their "
        f"class, {_percent(value)} are chosen by both."
    )


def _score(line: Json, told: Json) -> dict[str, Any]:
    """A line of the table of scores."""
    rate = _ratio(line["right"], line["known"])
    return {
        "name": line["score"],
        "kept": f"{line['kept']:,}",
        "unscored": f"{line['unscored']:,}" if line["unscored"] else "",
        "rate": _percent(rate, digits=1),
        "interval": _interval(line["interval"]),
        "length": round(100 * (rate or 0), 1),
        "of": f"{line['right']:,} of {line['known']:,}",
        "alone": f"{line['alone']:,}",
        "missed": f"{line['missed']:,}",
        "histogram": _histogram(told["histograms"].get(line["score"])),
    }


def _histogram(told: Json | None) -> dict[str, Any] | None:
    """Bars of all pairs and of the kept ones, on the scale of the fullest bin."""
    if told is None or not told["all"]:
        return None
    most = max(told["all"])

    def bars(counts: Sequence[int]) -> list[tuple[int, float, float]]:
        heights = [round(HEIGHT * count / most, 2) for count in counts]
        return [(3 * i, round(HEIGHT - h, 2), h) for i, h in enumerate(heights) if h]

    return {
        "width": 3 * len(told["all"]),
        "height": HEIGHT,
        "all": bars(told["all"]),
        "kept": bars(told["kept"]),
        "low": _number(told["low"]),
        "high": _number(told["high"]),
    }


def _cells(row: Mapping[str, float | None], names: Sequence[str], own: str) -> list[dict[str, Any]]:
    """A row of a square table: text, and how strongly its cell is shaded."""
    values = [row[name] for name in names]
    return [
        {
            "text": NONE if value is None else f"{value:.2f}".replace("-", MINUS),
            "shade": round(0.5 * abs(value or 0), 3) if name != own else 0,
            "sign": "against" if (value or 0) < 0 else "with",
            "own": name == own,
        }
        for name, value in zip(names, values, strict=True)
    ]


def _gallery(each: Json, told: Json, images: Images) -> dict[str, Any]:
    return {
        "about": (each["kind"], each["score"]),
        "score": each["score"],
        "title": TITLES[each["kind"]].format(each["score"]),
        "pairs": [_pair(pair, images) for pair in each["pairs"]],
    }


def _pair(pair: Json, images: Images) -> dict[str, Any]:
    image = images.get((pair["id"], pair["label"]))
    return {
        **pair,
        "address": Markup(data_address(image)) if image else None,
        "verdict": {None: None, True: "right", False: "wrong"}[pair["right"]],
        "bars": [
            {
                "name": name,
                "length": round(100 * (place or 0), 1),
                "text": _number(pair["scores"][name]),
                "kept": name in pair["kept_by"],
            }
            for name, place in pair["places"].items()
        ],
    }


def _by_score(galleries: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The galleries that are not about the known failure, under their scores."""
    found: dict[str, list[dict[str, Any]]] = {}
    for gallery in galleries:
        if gallery["about"] not in FAILURES and gallery["pairs"]:
            found.setdefault(gallery["score"], []).append(gallery)
    return found


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"


def _number(value: float | None) -> str:
    """A score in about three figures.

    Example:
        >>> _number(12070.3), _number(-0.12345), _number(None)
        ('12,070', '\u22120.123', '\u2013')
    """
    if value is None:
        return NONE
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", MINUS)


def _percent(share: float | None, *, digits: int = 0) -> str:
    return NONE if share is None else f"{100 * share:.{digits}f} %"
