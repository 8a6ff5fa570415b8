"""Tables and bars as the page shows them: every number already text, every bar already a length."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from headwater.errors import InputError, plain

MINUS, NONE = "\u2212", "\u2013"
SIGNS = {
    "better": "▲",
    "worse": "▼",
    "matched": "=",
    "not worse": "≥",
    "not better": "≤",
    "undecided": "?",
}
IMAGE_HEADS = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"GIF8": "gif",
    b"RIFF": "webp",
}
TOPPED = "topped up"  # of `ReportData.topped_up`: the group of classes, and the roles of arms
FAMILY = ("top_up", "spread", "repeat")
METRICS = {"zero_shot": "Zero-shot accuracy", "linear_probe": "Linear-probe accuracy"}


@dataclass(frozen=True)
class Axis:
    """The common axis of all interval pictures: `reach` points to each side of zero."""

    reach: float
    margin: float

    def at(self, share: float) -> float:
        """Where a difference lies on a picture 200 wide.

        Example:
            >>> Axis(reach=10, margin=1).at(0.05)
            150.0
        """
        return round(100 + 100 * max(-1.0, min(1.0, 100 * share / self.reach)), 2)


@dataclass(frozen=True)
class VerdictRow:
    """One comparison as text, and its interval as places on the axis (None: not measured)."""

    metric: str
    scale: str
    arm: str
    against: str
    difference: str
    interval: str
    p: str
    p_holm: str
    call: str
    sign: str
    seeds: str
    test_images: str
    primary: bool
    p_text: str
    places: tuple[float, float, float] | None


@dataclass(frozen=True)
class Table:
    """A head and rows of cells; the first cell of a row names it."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Bar:
    """A name, its number as text, and lengths from 0 to 100 of a pale and a full bar."""

    name: str
    text: str
    pale: float
    full: float


@dataclass(frozen=True)
class Funnel:
    """A source: pairs left after each step over all classes, and the same per class."""

    source: str
    steps: Sequence[Bar]
    classes: Sequence[Bar]
    table: Table


@dataclass(frozen=True)
class Strip:
    """The images of one class from one source, as data addresses; the name of the source."""

    row: str
    images: Sequence[str]


@dataclass(frozen=True)
class Card:
    """One class of the gallery."""

    label: str
    strips: Sequence[Strip]


def metric_name(metric: str) -> str:
    """What a reader calls a metric.

    Example:
        >>> metric_name("zero_shot"), metric_name("mean_recall")
        ('Zero-shot accuracy', 'Mean recall')
    """
    return METRICS.get(metric, metric.replace("_", " ").capitalize())


def points(share: float | None, *, sign: bool = True) -> str:
    """A share as points with one decimal; a dash where there is none.

    Example:
        >>> points(0.0321), points(0.5, sign=False), points(-0.0321) == MINUS + "3.2"
        ('+3.2', '50.0', True)
    """
    if share is None:
        return NONE
    value = round(100 * share, 1) + 0.0
    return f"{value:{'+' if sign else ''}.1f}".replace("-", MINUS)


def probability(p: float | None) -> str:
    """A p-value as text.

    Example:
        >>> probability(0.0321), probability(0.00002)
        ('0.032', '< 0.001')
    """
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def verdict_axis(verdict: Sequence[Mapping[str, Any]], *, margin: float) -> Axis:
    """The axis on which every interval has room, up to a tidy number of points."""
    ends = [abs(e[side]) for e in verdict for side in ("low", "high") if e[side] is not None]
    most = 100 * max([*ends, 2 * margin, 0.001])
    tidy = next((t for t in (1, 2, 3, 5, 8, 10, 15, 20, 30, 40, 60) if t >= most), 100)
    return Axis(reach=float(tidy), margin=100 * margin)


def verdict_row(entry: Mapping[str, Any], axis: Axis) -> VerdictRow:
    """One entry of verdict.json, ready to print."""
    low, difference, high = (entry[side] for side in ("low", "difference", "high"))
    known = difference is not None
    p = probability(entry["p"])
    return VerdictRow(
        metric=metric_name(entry["metric"]),
        scale=f"{entry['scale']:,}" if entry["scale"] else NONE,
        arm=entry["arm"],
        against=entry["against"],
        difference=points(difference),
        interval=f"{points(low)} to {points(high)}" if known else NONE,
        p=p,
        p_holm=probability(entry["p_holm"]),
        call=entry["call"],
        sign=SIGNS.get(entry["call"], NONE),
        seeds=" / ".join(str(n) for n in entry["seeds"]),
        test_images=f"{entry['test_images']:,}",
        primary=bool(entry["primary"]),
        places=(axis.at(low), axis.at(difference), axis.at(high)) if known else None,
        p_text=p if p.startswith("<") else f"= {p}",
    )


def by_metric(rows: Iterable[VerdictRow]) -> dict[str, list[VerdictRow]]:
    """Rows under the metric they are of, in their order."""
    groups: dict[str, list[VerdictRow]] = {}
    for row in rows:
        groups.setdefault(row.metric, []).append(row)
    return groups


def is_largest(entry: Mapping[str, Any], verdict: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an entry stands at the largest scale of its pair and metric."""
    kin = ("metric", "arm", "against")
    scales = [e["scale"] or 0 for e in verdict if all(e[k] == entry[k] for k in kin)]
    return (entry["scale"] or 0) == max(scales)


def accuracy_table(measured: pl.DataFrame) -> Table:
    """Arms down, numbers of images across; mean and sd over seeds in percent.

    Args:
        measured: from `data.measured`.
    """
    scales = sorted(measured["scale"].unique().to_list())
    cells = {
        (arm, scale): _mean_and_sd(mean, sd)
        for arm, scale, mean, sd in measured.select("arm", "scale", "mean", "sd").iter_rows()
    }
    arms = measured["arm"].unique(maintain_order=True)
    head = ["images", *(f"{n:,}" for n in scales)]
    return Table(head, [[arm, *(cells.get((arm, n), "") for n in scales)] for arm in arms])


def funnel(source: str, counts: Mapping[str, Any], names: Mapping[str, str]) -> Funnel:
    """The funnel of one source, in whole and per class.

    Args:
        source: its name.
        counts: funnel.json.
        names: label -> name shown.
    """
    steps = list(counts["steps"])
    classes: Mapping[str, Mapping[str, int]] = counts["classes"]
    whole = [sum(row.get(step, 0) for row in classes.values()) for step in steps]
    most = max([row.get(step, 0) for row in classes.values() for step in steps], default=0)
    first, last = (steps[0], steps[-1]) if steps else ("", "")
    return Funnel(
        source=source,
        steps=[
            Bar(step, f"{n:,}", 100.0 if whole[0] else 0.0, _length(n, whole[0]))
            for step, n in zip(steps, whole, strict=True)
        ],
        classes=[
            Bar(
                names.get(label, label),
                f"{row.get(last, 0):,}",
                _length(row.get(first, 0), most),
                _length(row.get(last, 0), most),
            )
            for label, row in classes.items()
        ],
        table=Table(
            ["class", *steps],
            [
                [names.get(label, label), *(f"{row.get(step, 0):,}" for step in steps)]
                for label, row in classes.items()
            ],
        ),
    )


def cards(
    gallery: Mapping[str, Mapping[str, Sequence[bytes]]], names: Mapping[str, str]
) -> list[Card]:
    """The gallery class by class, every row of it side by side.

    Args:
        gallery: row -> label -> encoded images.
        names: label -> name shown; its order is kept, other labels follow.
    """
    seen = [label for row in gallery.values() for label in row]
    labels = [label for label in dict.fromkeys([*names, *seen]) if label in seen]
    return [Card(names.get(label, label), list(_strips(gallery, label))) for label in labels]


def data_address(image: bytes) -> str:
    """An encoded image as an address that holds it whole.

    Raises:
        InputError: not PNG, JPEG, GIF or WebP.

    Example:
        >>> data_address(bytes.fromhex("89504e470d0a1a0a"))
        'data:image/png;base64,iVBORw0KGgo='
    """
    kind = next((k for head, k in IMAGE_HEADS.items() if image.startswith(head)), None)
    if kind is None:
        raise InputError(
            "an image of the gallery cannot be shown",
            expected="encoded PNG, JPEG, GIF or WebP",
            seen=f"bytes that start with {image[:8].hex() or 'nothing'}",
        )
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def copies_tables(frame: pl.DataFrame) -> dict[str, Table]:
    """Per metric: accuracy in percent on all test images and on those without a copy.

    Args:
        frame: `ReportData.without_copies`.
    """
    tables: dict[str, list[list[str]]] = {}
    for row in frame.iter_rows(named=True):
        without, scale = row["without"], row["scale"]
        cells = [
            row["arm"],
            f"{scale:,}" if scale else NONE,
            points(row["accuracy"], sign=False),
            points(without, sign=False),
            points(None if without is None else without - row["accuracy"]),
        ]
        tables.setdefault(metric_name(row["metric"]), []).append(cells)
    images, left = frame.select("images", "left").row(0)
    head = ["arm", "images", f"all {images:,}", f"{left:,} without", "points"]
    return {metric: Table(head, rows) for metric, rows in tables.items()}


def topped_up(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Per top-up: what its tables are about, and a table a metric.

    Args:
        frame: `ReportData.topped_up`; shown at the largest scale that the top-up and its controls
            share, other arms at the largest they have up to there.
    """
    shown = []
    for hybrid in frame["hybrid"].unique(maintain_order=True):
        own = _at_largest(frame.filter(pl.col("hybrid") == hybrid))
        sides = {row["classes"]: row for row in own.iter_rows(named=True)}
        labels = {side: row["labels"] for side, row in sides.items()}
        images = {side: row["images"] for side, row in sides.items()}
        tables = {
            metric_name(m): _topped_up_table(own.filter(pl.col("metric") == m))
            for m in own["metric"].unique(maintain_order=True)
        }
        classes = f"{labels[TOPPED]:,} of {sum(labels.values()):,} classes"
        tested = f"{images[TOPPED]:,} of {sum(images.values()):,} test images"
        shown.append({"hybrid": hybrid, "classes": classes, "images": tested, "tables": tables})
    return shown


def _at_largest(frame: pl.DataFrame) -> pl.DataFrame:
    """Each arm at one scale: the largest that the top-up and its controls share, or below it."""
    family = frame.filter(pl.col("role").is_in(FAMILY))
    by_arm = family.group_by("arm").agg("scale")["scale"].to_list()
    common = set.intersection(*map(set, by_arm)) if by_arm else set()
    upto = frame.filter(pl.col("scale") <= max(common)) if common else frame
    return upto.filter(pl.col("scale") == pl.col("scale").max().over("arm"))


def _topped_up_table(frame: pl.DataFrame) -> Table:
    rows = []
    for arm in frame["arm"].unique(maintain_order=True):
        groups = {row["classes"]: row for row in frame.filter(arm=arm).iter_rows(named=True)}
        topped, others = groups[TOPPED], groups["others"]
        shares = [topped["accuracy"], others["accuracy"], topped["share"]]
        *accuracy, share = (points(value, sign=False) for value in shares)
        scale = f"{topped['scale']:,}" if topped["scale"] else NONE
        taken = f"{topped['false_positives']:,.1f}".removesuffix(".0")
        rows.append([arm, scale, *accuracy, taken, share])
    return Table(["arm", "images", "topped up", "others", "false positives", "of others"], rows)


def flat(settings: Mapping[str, Any]) -> list[list[str]]:
    """Nested settings as rows of dotted key and value.

    Example:
        >>> flat({"adapt": {"lr": [0.1, 0.2]}, "name": "x"})
        [['adapt.lr', '0.1, 0.2'], ['name', 'x']]
    """
    return [[key, text] for key, text in _leaves(settings, "")]


def frame_table(frame: pl.DataFrame) -> Table:
    """A polars table as text."""
    return Table(frame.columns, [[_text(cell) for cell in row] for row in frame.iter_rows()])


def _strips(gallery: Mapping[str, Mapping[str, Sequence[bytes]]], label: str) -> Iterator[Strip]:
    for row, images in gallery.items():
        yield Strip(row, [data_address(image) for image in images.get(label, ())])


def _leaves(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, _text(value)


def _text(value: Any) -> str:
    if value is None or value in ({}, [], ()):
        return NONE
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Iterable):
        return ", ".join(_text(v) for v in value)
    return str(value)


def _mean_and_sd(mean: float, sd: float | None) -> str:
    spread = "" if sd is None else f" ± {100 * sd:.1f}"
    return f"{100 * mean:.1f}{spread}"


def _length(part: int, whole: int) -> float:
    return round(100 * part / whole, 2) if whole else 0.0
