"""A set of a dozen pairs and what curation made of it, written by hand: every fate there is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import yaml

from headwater.decode import encode_jpeg, encode_png
from headwater.pairs import (
    DECISION_SCHEMA,
    funnel,
    image_column,
    join_decisions,
    sha256_of,
    shard_path,
    to_pairs,
    write_summary,
)
from headwater.store import read_step, step, write_table
from headwater.task import Task, load_task

SOURCED = ["matched", "safe", "decodes"]
GATES = ["pixels", "clip_score", "no_copy", "not_rejected"]
LOW = "below the top 50 % of its class (0.55)"
HOSTILE = 'a <b>rose</b> & "fern" \x1b[31m'


class Row(NamedTuple):
    id: str
    label: str
    caption: str
    clip_score: float | None
    step: str  # that dropped it; the last for those kept
    reason: str
    copy_of: str | None = None
    copy_similarity: float | None = None


ROWS = [
    Row("w:r0", "rose", "a red rose", 0.9, "not_rejected", "kept", "test/rose/1.png", 0.25),
    Row("w:r1", "rose", "ro\u00ebse rose", 0.8, "not_rejected", "kept", "test/rose/0.png", 0.125),
    Row("w:r2", "rose", "rose two", 0.7, "no_copy", "copy of test/rose/1.png (0.970)",
        "test/rose/1.png", 0.97),
    Row("w:r3", "rose", "rose three", 0.6, "not_rejected", "rejected by hand",
        "test/rose/0.png", 0.0),
    Row("w:r4", "rose", HOSTILE, 0.5, "clip_score", LOW),
    Row("w:r5", "rose", "rose " + "and so on " * 200, 0.4, "clip_score", LOW),
    Row("w:r6", "rose", "rose six", 0.3, "clip_score", LOW),
    Row("w:r7", "rose", "rose seven", None, "clip_score", "no score"),
    Row("w:f0", "fern", "a fern", 0.5, "not_rejected", "kept", "test/rose/1.png", 0.5),
    Row("w:r0", "fern", "a red rose", 0.2, "clip_score", LOW),
    Row("w:broken", "fern", "no fern", None, "pixels", "broken image"),
    Row("w:nsfw", "rose", "a rose", None, "safe", "tagged NSFW in the pool"),
]  # fmt: skip
LABELS = ["rose", "fern", "moss"]


def picture(number: int, *, side: int = 24) -> np.ndarray:
    """Four blots of color, like no other number's."""
    blots = np.random.default_rng(number).integers(0, 256, (2, 2, 3), dtype=np.uint8)
    return np.kron(blots, np.ones((side // 2, side // 2, 1), np.uint8))


def tiny_task(root: Path) -> Task:
    for number in range(2):
        path = root / "test" / "rose" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(picture(100 + number)))
    told = {"format": 1, "name": "garden", "classes": LABELS, "images": {"test": "test"}}
    (root / "garden.yaml").write_text(yaml.safe_dump(told))
    return load_task(root / "garden.yaml")


def tiny_sets(root: Path) -> tuple[Path, Path]:
    """The set as it was sourced, and the curated one."""
    source, curated = root / "sourced", root / "kept"
    came = [row for row in ROWS if row.step != "safe"]
    with step(source, "retrieve", arguments={}) as this:
        for number in (0, 1):
            write_table(shard_path(source, number, 2), _pairs(came[number::2]))
        fates = [(*row[:2], row.step != "safe", _gate(row), _why(row), None) for row in ROWS]
        _summary(source, fates, SOURCED)
    with step(curated, "curate", arguments={}, inputs={"set": read_step(source)["digest"]}) as this:
        kept = [row for row in came if row.reason == "kept"]
        scores = pl.Series("clip_score", [row.clip_score for row in kept], dtype=pl.Float32)
        write_table(shard_path(curated, 0, 1), _pairs(kept, side=16).with_columns(scores))
        write_table(curated / "candidates.parquet", _candidates())
        ends = [
            (*row[:2], row.reason == "kept", row.step, row.reason, row.clip_score) for row in ROWS
        ]
        _summary(curated, ends, [*SOURCED, *GATES])
        this.counts = {}
    return source, curated


def _gate(row: Row) -> str:
    return "safe" if row.step == "safe" else "decodes"


def _why(row: Row) -> str:
    return row.reason if row.step == "safe" else "kept"


def _pairs(rows: list[Row], *, side: int = 24) -> pl.DataFrame:
    """Pairs with their image: PNG as it came, JPEG where it was made smaller."""
    encode = encode_png if side == 24 else encode_jpeg
    numbers = [ROWS.index(next(r for r in ROWS if r.id == row.id)) for row in rows]
    images = [
        b"<html>" if row.id == "w:broken" else encode(picture(number, side=side))
        for row, number in zip(rows, numbers, strict=True)
    ]
    matches = [row.caption.encode().find(row.label.encode()) for row in rows]
    table = pl.DataFrame(
        {
            "id": [row.id for row in rows],
            "label": [row.label for row in rows],
            "caption": [row.caption for row in rows],
            "source": "retrieved",
            "pool": "w",
            "query": [row.label for row in rows],
            "start": [start if start >= 0 else None for start in matches],
            "end": [
                start + len(row.label) if start >= 0 else None
                for row, start in zip(rows, matches, strict=True)
            ],
            "found_by": ["captions" if start >= 0 else "image" for start in matches],
            "url": [f"https://example.org/{row.id[2:]}.png" for row in rows],
            "sha256": [sha256_of(image) for image in images],
        }
    )
    return to_pairs(table.with_columns(image_column(images, [None] * len(rows))))


def _candidates() -> pl.DataFrame:
    rows = [row for row in ROWS if row.step not in ("safe", "pixels")]
    known = ["id", "label", "caption", "query", "start", "end", "found_by", "url"]
    return (
        _pairs(rows)
        .select(known)
        .with_columns(
            pl.lit(24, pl.Int32).alias("width"),
            pl.lit(24, pl.Int32).alias("height"),
            pl.lit("PNG").alias("codec"),
            pl.Series("clip_score", [row.clip_score for row in rows], dtype=pl.Float32),
            pl.lit(0.25, pl.Float32).alias("aspect"),
            pl.Series("copy_of", [row.copy_of for row in rows], dtype=pl.String),
            pl.Series("copy_similarity", [row.copy_similarity for row in rows], dtype=pl.Float32),
        )
        .sort("id", "label")
    )


def _summary(folder: Path, fates: Sequence[Sequence[object]], gates: Sequence[str]) -> None:
    decisions = join_decisions([pl.DataFrame(fates, schema=DECISION_SCHEMA, orient="row")])
    counts = funnel(LABELS, gates, decisions)
    write_summary(folder, decisions=decisions, counts=counts, title="a garden", story="By hand.")
