"""How every verb fills a set: part by part, each written whole, then the summary.

A part is one shard of the output with its decisions. Parts are made side by side and
survive a kill; the decisions of unfinished sets wait in `work/`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from headwater.decode import decode_rgb
from headwater.engine import run_shards
from headwater.errors import DecodeError
from headwater.pairs import (
    WAITING,
    decide,
    funnel,
    join_decisions,
    shard_path,
    to_pairs,
    total,
    write_summary,
)
from headwater.store import WORK, Step, write_table

Job = TypeVar("Job")


@dataclass(frozen=True)
class Part:
    """Kept pairs, and a decision for every pair considered."""

    pairs: pl.DataFrame
    decisions: pl.DataFrame


def make_parts(
    folder: Path,
    work: Callable[[Job], Part],
    jobs: Sequence[Job],
    *,
    label: str,
    unit: str = "shards",
    size: Callable[[Job], int] | None = None,
    engine: str = "local",
    workers: int | None = None,
    gpu: bool = False,
) -> None:
    """Make the parts of a set that are not there yet.

    Args:
        folder: the set.
        work: makes one part; picklable, and pure but for reading its input.
        jobs: what each part is made from; their number is the number of shards.
        label: what the progress bar says.
        unit, size: what it counts, and how many of them a job stands for; shards if not given.
        engine, workers, gpu: what runs side by side, as `run_shards` takes them.
    """
    missing = [
        (number, job) for number, job in enumerate(jobs) if not _is_made(folder, number, len(jobs))
    ]
    _drop_others(folder, len(jobs))
    make = partial(_make, folder, work, len(jobs))
    run_shards(
        make, missing, engine=engine, workers=workers, label=label, unit=unit,
        size=(lambda numbered: size(numbered[1])) if size else None, gpu=gpu,
    )  # fmt: skip


def finish_set(
    this: Step,
    *,
    labels: Sequence[str],
    gates: Sequence[str],
    title: str,
    story: str,
    waiting: bool = False,
) -> None:
    """Write decisions, funnel and card of a set whose parts are all there.

    Args:
        this: the step that fills the set.
        labels: the classes, in order.
        gates: what a pair passes, in order.
        title: of the card.
        story: what was done, in a sentence.
        waiting: whether pairs may be kept that wait before a gate to be downloaded.
    """
    decisions = parts_decisions(this.folder)
    counts = funnel(labels, gates, decisions, waiting=waiting)
    write_summary(this.folder, decisions=decisions, counts=counts, title=title, story=story)
    told = [*gates, WAITING] if waiting else gates
    this.counts = {name: total(counts, name) for name in told}


def parts_decisions(folder: Path) -> pl.DataFrame:
    """The decisions of the parts that are there, of a set that is not finished."""
    parts = sorted((folder / WORK).glob("decisions-*.parquet"))
    return join_decisions(pl.read_parquet(path) for path in parts)


def sift(pairs: pl.DataFrame, reasons: Sequence[str | None], *, gate: str) -> Part:
    """Keep the pairs without a reason against them; a decision on each.

    Example:
        >>> part = sift(pl.DataFrame({"id": ["w:1", "w:2"], "label": "rose"}), [None, "blank"],
        ...             gate="valid")
        >>> part.pairs["id"].to_list(), part.decisions["reason"].to_list()
        (['w:1'], ['kept', 'blank'])
    """
    marked = pairs.with_columns(pl.Series("reason", reasons, dtype=pl.String))
    kept = marked.filter(pl.col("reason").is_null()).drop("reason")
    dropped = marked.filter(pl.col("reason").is_not_null())
    decisions = [
        decide(kept, kept=True, step=gate, reason="kept"),
        decide(dropped, kept=False, step=gate, reason=pl.col("reason")),
    ]
    return Part(kept, pl.concat(decisions))


def sift_decodable(pairs: pl.DataFrame, *, gate: str) -> Part:
    """Keep the pairs whose image can be decoded; a decision on each."""
    reasons: dict[str | None, str | None] = {}
    images = pairs["image"].struct.field("bytes")
    for digest, data in zip(pairs["sha256"], images, strict=True):
        if digest not in reasons:
            reasons[digest] = why_undecodable(data)
    return sift(pairs, [reasons[digest] for digest in pairs["sha256"]], gate=gate)


def why_undecodable(data: bytes | None) -> str | None:
    """The reason an image cannot be decoded, or None if it can.

    Example:
        >>> why_undecodable(b"<html>")
        'not an image'
    """
    if data is None:
        return "no image in the pool"
    try:
        decode_rgb(data)
    except DecodeError as error:
        return str(error)
    return None


def _make(
    folder: Path, work: Callable[[Any], Part], shards: int, numbered: tuple[int, Any]
) -> None:
    number, job = numbered
    part = work(job)
    # Decisions come last: a set that begins anew has its old shards still, but no decisions.
    write_table(shard_path(folder, number, shards), to_pairs(part.pairs))
    write_table(_decisions_path(folder, number), part.decisions)


def _drop_others(folder: Path, shards: int) -> None:
    """Delete shards of another number of them, which a set that begins anew may still have."""
    own = {shard_path(folder, number, shards) for number in range(shards)}
    for path in (folder / "data").glob("pairs-*.parquet"):
        if path not in own:
            path.unlink()


def _is_made(folder: Path, number: int, shards: int) -> bool:
    both = (_decisions_path(folder, number), shard_path(folder, number, shards))
    return all(path.exists() for path in both)


def _decisions_path(folder: Path, number: int) -> Path:
    return folder / WORK / f"decisions-{number:05d}.parquet"
