"""The novelty page: how new a set is to a pool, and the pairs to look at.

Numbers become text and charts here; `novelty.html` lays them out.
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

LETTERS = 160  # of a caption
CLASSES = 40  # in sight; the rest unfold

BANDS = {
    "memorized": "Copies of pool images; the most similar come first",
    "near": "Closer by CLIP than the pool's own images come to each other; the closest come first",
    "new": "Neither; the closest come first",
}


def render_novelty(told: Json, pictures: Sequence[Pictures]) -> str:
    """One self-contained HTML page; the same numbers and pictures give the same text.

    Args:
        told: what `headwater.steps.novelty.page.write_page` returns.
        pictures: of the pairs of the bands, in their order: the image of the set and the pool's
            it is most similar to, as small JPEG, PNG or WebP; None: not to be shown.
    """
    left = iter(pictures)
    return render(
        "novelty.html",
        styles=("page.css", "calibration.css", "novelty.css"),
        told=told,
        sentence=_sentence(told["counts"]),
        shares=[
            (band, f"{told['counts'][band]:,}", _percent(_share(told["counts"], band)))
            for band in BANDS
        ],
        bands=[
            {
                "name": each["band"],
                "what": BANDS[each["band"]],
                "total": f"{each['total']:,}",
                "shown": len(each["pairs"]),
                "is_all": len(each["pairs"]) == each["total"],
                "pairs": [_pair(pair, *next(left)) for pair in each["pairs"]],
            }
            for each in told["bands"]
        ],
        charts=list(_charts(told)),
        quantiles=_quantiles(told["measured"]),
        threshold=_number(told["threshold"]),
        near=_number(told["near"]),
        own_twins=_own_twins(told),
        interval=_interval(told["interval"]),
        classes=[_class(row) for row in told["classes"]],
        classes_shown=CLASSES,
        none_sign=NONE,
    )


def _sentence(counts: Json) -> str:
    """What was found, in one sentence.

    Example:
        >>> _sentence({"images": 9, "memorized": 1, "near": 0, "new": 8})
        'Of 9 images, 1 is memorized, 0 are near a pool image, and 8 are new.'
    """
    memorized, near, new = (
        f"{counts[band]:,} {'is' if counts[band] == 1 else 'are'}" for band in BANDS
    )
    return (
        f"Of {counts['images']:,} images, {memorized} memorized, {near} near a pool image, "
        f"and {new} new."
    )


def _charts(told: Json) -> Any:
    """A chart of each similarity, wide and narrow."""
    median = told["measured"]["quantiles"].get("50")
    by_descriptor = [Line(told["threshold"], f"copies above {_number(told['threshold'])}")]
    by_clip = [Line(told["near"], f"near above {_number(told['near'])}")] if told["near"] else []
    if median is not None:
        by_clip.append(Line(median, f"the pool's own: half above {_number(median)}", DASHED))
    for column, title, threshold, lines in (
        ("similarity", "By copy descriptor", told["threshold"], by_descriptor),
        ("clip_similarity", "By CLIP", told["near"], by_clip),
    ):
        if told["histograms"][column]:
            yield title, [(kind, _chart(told, column, threshold, lines, kind, size))
                          for kind, size in (("wide", WIDE), ("narrow", NARROW))]  # fmt: skip


def _chart(
    told: Json,
    column: str,
    threshold: float | None,
    lines: Sequence[Line],
    kind: str,
    size: tuple[int, int],
) -> Markup:
    chart = histogram(
        told["histograms"][column], threshold=threshold, lines=lines, size=size,
        axis="similarity to the nearest pool image", name=f"{column}-{kind}",
        label=f"Histogram: images by their {column.replace('_', ' ')} to the nearest",
    )  # fmt: skip
    return Markup(chart)


def _pair(pair: Json, *both: bytes | None) -> dict[str, Any]:
    return {
        **pair,
        "similarity": _decimals(pair["similarity"]),
        "clip_similarity": _decimals(pair["clip_similarity"]),
        "captions": [_short(pair["caption"]), _short(pair["other_caption"])],
        "addresses": [Markup(data_address(each)) if each else None for each in both],
    }


def _quantiles(measured: Json) -> list[tuple[str, str]]:
    """Lines of the table of the pool's own similarities."""
    return [(f"{percent} %", _number(value)) for percent, value in measured["quantiles"].items()]


def _own_twins(told: Json) -> str:
    """How many of the pool's own images have a twin in it, which is what to expect by chance."""
    measured = told["measured"]
    if told["descriptor"] is None or not measured["sampled"]:
        return ""
    return _percent(measured["twins"] / measured["sampled"])


def _class(row: Json) -> dict[str, Any]:
    """A line of the table of classes, with the lengths of its bar."""
    return {
        "label": row["label"],
        "images": f"{row['images']:,}",
        "bands": [(band, f"{row[band]:,}", round(100 * _share(row, band), 1)) for band in BANDS],
    }


def _share(row: Json, band: str) -> float:
    return float(row[band] / max(row["images"], 1))


def _interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f"{100 * ends[0]:.2f} to {100 * ends[1]:.2f} %"


def _short(text: str | None) -> str:
    text = text or ""
    return text if len(text) <= LETTERS else f"{text[:LETTERS]} …"


def _number(value: float | None) -> str:
    """A similarity in four digits.

    Example:
        >>> _number(0.2), _number(0.86214), _number(None)
        ('0.2', '0.8621', '\u2013')
    """
    return NONE if value is None else f"{value:.4g}"


def _decimals(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
