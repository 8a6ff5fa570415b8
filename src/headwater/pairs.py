"""The set: a folder of image-text pairs for one task that any tool can open.

    data/pairs-00000-of-00004.parquet   one row a pair; key (id, label)
    decisions.parquet                   every pair ever considered, kept or not, and why
    candidates.parquet                  curated: what was found out about every pair judged
    funnel.json                         pairs left after each step, per class
    README.md                           the data card; `datasets.load_dataset(folder)` works
    step.json                           what made it, written last (see store.py)

Scores are further columns. docs/formats.md tells every column.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from headwater.card import card
from headwater.errors import InputError, SetError
from headwater.store import Json, read_json, read_step, write_json, write_table, write_text

IMAGE = pl.Struct({"bytes": pl.Binary, "path": pl.String})

PAIR_SCHEMA: dict[str, Any] = {
    "id": pl.String,
    "label": pl.String,
    "image": IMAGE,
    "caption": pl.String,
    "source": pl.String,
    "pool": pl.String,
    "query": pl.String,
    "start": pl.Int64,
    "end": pl.Int64,
    "found_by": pl.String,
    "url": pl.String,
    "sha256": pl.String,
}
"""Columns every set has, in this order; score columns (Float32) follow."""

DECISION_SCHEMA: dict[str, Any] = {
    "id": pl.String,
    "label": pl.String,
    "kept": pl.Boolean,
    "step": pl.String,
    "reason": pl.String,
    "score": pl.Float32,
}

CANDIDATES = "candidates.parquet"
DECISIONS = "decisions.parquet"

NOT_OF_CANDIDATES = ("image", "source", "pool", "sha256")
CANDIDATE_SCHEMA: dict[str, Any] = {
    **{name: PAIR_SCHEMA[name] for name in PAIR_SCHEMA if name not in NOT_OF_CANDIDATES},
    "width": pl.Int32,
    "height": pl.Int32,
    "codec": pl.String,
    "copy_of": pl.String,
    "copy_similarity": pl.Float32,
}
"""What stands in `candidates.parquet` beside the scores."""

SCHEMAS = {DECISIONS: DECISION_SCHEMA, CANDIDATES: CANDIDATE_SCHEMA}

WAITING = "needs_download"
"""What a funnel calls kept pairs whose image nobody has fetched yet."""


def to_pairs(table: pl.DataFrame) -> pl.DataFrame:
    """The table with every column of a set: missing ones null, extra (score) columns last.

    Example:
        >>> row = to_pairs(pl.DataFrame({"id": ["w:1"], "label": ["rose"], "sharpness": [0.5]}))
        >>> row.columns[-1], row["caption"].to_list()
        ('sharpness', [None])
    """
    known = [
        (pl.col(name) if name in table.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in PAIR_SCHEMA.items()
    ]
    scores = [pl.col(name) for name in table.columns if name not in PAIR_SCHEMA]
    return table.select(known + scores)


def image_column(images: Sequence[bytes | None], paths: Sequence[str | None]) -> pl.Series:
    """Image bytes and the names they had, as the struct column `image`.

    Example:
        >>> image_column([b"x"], ["a.jpg"]).to_list()
        [{'bytes': b'x', 'path': 'a.jpg'}]
    """
    rows = [{"bytes": b, "path": p} for b, p in zip(images, paths, strict=True)]
    return pl.Series("image", rows, dtype=IMAGE)


def sha256_of(data: bytes) -> str:
    """The sha256 of bytes, in hex.

    Example:
        >>> sha256_of(b"")[:8]
        'e3b0c442'
    """
    return hashlib.sha256(data).hexdigest()


def check_namespace(name: str) -> None:
    """Raise `InputError` unless a name may stand before the colon of an id.

    Example:
        >>> check_namespace("web-2.3")
    """
    if not re.fullmatch(r"[\w.-]+", name):
        raise InputError(
            "a name that ids cannot begin with", expected="letters, digits, '-', '_' and '.'",
            seen=repr(name),
        )  # fmt: skip


def decide(
    pairs: pl.DataFrame, *, kept: bool, step: str, reason: str | pl.Expr, score: str | None = None
) -> pl.DataFrame:
    """Decisions on all rows of `pairs`, one reason (or an expression giving it) for all.

    Example:
        >>> rows = pl.DataFrame({"id": ["w:1"], "label": ["rose"]})
        >>> decide(rows, kept=False, step="safety", reason="tagged NSFW").row(0)
        ('w:1', 'rose', False, 'safety', 'tagged NSFW', None)
    """
    why = pl.lit(reason) if isinstance(reason, str) else reason
    value = pl.col(score) if score else pl.lit(None)
    return pairs.select(
        "id",
        "label",
        pl.lit(kept).alias("kept"),
        pl.lit(step).alias("step"),
        why.cast(pl.String).alias("reason"),
        value.cast(pl.Float32).alias("score"),
    )


def join_decisions(parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """All decisions in one table, ordered by id and label."""
    empty = pl.DataFrame(schema=DECISION_SCHEMA)
    return pl.concat([empty, *parts]).sort("id", "label", maintain_order=True)


def funnel(
    labels: Sequence[str],
    steps: Sequence[str],
    decisions: pl.DataFrame,
    *,
    waiting: bool = False,
) -> Json:
    """Pairs left per class after each step, counted from the decisions alone.

    Args:
        labels: the task's labels, in order; classes with nothing are shown with 0.
        steps: names of the steps in order; the first lets everything through.
        decisions: every pair considered; a dropped one names the step that dropped it, a kept one
            the last step it passed.
        waiting: whether kept pairs that have not passed the last step are counted as `WAITING`.

    Example:
        >>> rows = pl.DataFrame({"id": ["w:1", "w:2"], "label": ["rose", "rose"]})
        >>> kept = decide(rows[:1], kept=True, step="safe", reason="kept")
        >>> dropped = decide(rows[1:], kept=False, step="safe", reason="tagged NSFW")
        >>> funnel(["rose"], ["found", "safe"], join_decisions([kept, dropped]))["classes"]
        {'rose': {'found': 2, 'safe': 1}}
    """
    place = pl.col("step").replace_strict(steps, range(len(steps)), return_dtype=pl.Int64)
    counted = decisions.group_by("label", "kept", (place + pl.col("kept")).alias("passed")).len()
    by_class = {label: [0] * len(steps) for label in labels}
    waits = dict.fromkeys(labels, 0)
    for label, kept, passed, count in counted.iter_rows():
        row = by_class.setdefault(label, [0] * len(steps))
        for index in range(passed):
            row[index] += count
        if kept and passed < len(steps):
            waits[label] = waits.get(label, 0) + count
    classes = {label: dict(zip(steps, row, strict=True)) for label, row in by_class.items()}
    if waiting:
        for label, left in classes.items():
            left[WAITING] = waits.get(label, 0)
    return {"steps": list(steps), "classes": classes}


def total(counts: Json, step: str) -> int:
    """Pairs left after `step`, over all classes.

    Example:
        >>> total({"steps": ["matched"], "classes": {"a": {"matched": 2}}}, "matched")
        2
    """
    return sum(row.get(step, 0) for row in counts["classes"].values())


def shard_path(folder: Path, number: int, shards: int) -> Path:
    """Where shard `number` of `shards` lies.

    Example:
        >>> shard_path(Path("roses"), 0, 4).name
        'pairs-00000-of-00004.parquet'
    """
    return folder / "data" / f"pairs-{number:05d}-of-{shards:05d}.parquet"


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a finished set, in order.

    Raises:
        SetError: the folder is missing, unfinished or not a set.
    """
    read_step(folder)
    paths = sorted((folder / "data").glob("pairs-*.parquet"))
    if not paths:
        raise SetError(f"{folder} holds no pairs", expected="data/pairs-*.parquet", seen="none")
    of = int(found[1]) if (found := re.search(r"-of-(\d{5})\.parquet$", paths[0].name)) else 0
    gone = [p.name for n in range(of) if (p := shard_path(folder, n, of)) not in paths]
    if gone or len(paths) != of:
        raise SetError(
            f"{folder} is not whole", expected=f"{of} shards", seen=f"{len(paths)}",
            do=f"Copy {gone[0]} there, or make the set again." if gone else "Make the set again.",
        )  # fmt: skip
    return paths


def read_pairs(folder: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """All pairs of a finished set in one table; name the columns to leave the images out."""
    tables = [read_shard(path, columns) for path in shard_paths(folder)]
    return pl.concat(tables, how="diagonal")


def iter_pairs(folder: Path, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
    """The shards of a finished set, one table at a time."""
    for path in shard_paths(folder):
        yield read_shard(path, columns)


def read_shard(
    path: Path, columns: Sequence[str] | None = None, *, rows: range | None = None
) -> pl.DataFrame:
    """One Parquet file of a set, or some rows of it that follow each other.

    Raises:
        SetError: the file is broken, or lacks a column.
    """
    check_columns(path, columns)
    try:
        if rows is not None:
            some = pl.scan_parquet(path).slice(rows.start, len(rows))
            return (some.select(columns) if columns else some).collect()
        return pl.read_parquet(path, columns=list(columns) if columns else None)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(path, error) from None


def scan_shard(path: Path, which: pl.Expr, *, leave_out: Sequence[str] = ()) -> pl.DataFrame:
    """Some rows of a Parquet file of a set, without loading the others.

    Args:
        path: the file.
        which: of which rows, by their columns.
        leave_out: columns that are not wanted, if they are there.

    Raises:
        SetError: the file is broken, or lacks a column.
    """
    check_columns(path)
    try:
        return pl.scan_parquet(path).filter(which).drop(leave_out, strict=False).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(path, error) from None


def check_columns(path: Path, columns: Sequence[str] | None = None) -> None:
    """Raise `SetError` unless a file of a set has its columns, and each is of its kind.

    Args:
        path: the file; its name says which columns it has to have.
        columns: those that are wanted; all by default.
    """
    try:
        found = pl.read_parquet_schema(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(path, error) from None
    schema = PAIR_SCHEMA if path.name.startswith("pairs-") else SCHEMAS.get(path.name, {})
    for name in columns or schema:
        seen, kind = found.get(name), schema.get(name)
        if seen is None or (kind is not None and seen != kind):
            raise SetError(
                f"the column {name} of {path}", expected=str(kind or "one"),
                seen=str(seen or "none"), do="Make the set again.",
            )  # fmt: skip


def _unreadable(path: Path, error: Exception) -> SetError:
    return SetError(f"cannot read {path}", seen=str(error).split("\n")[0])


def read_decisions(folder: Path) -> pl.DataFrame:
    """Every decision of a finished set."""
    read_step(folder)
    return read_shard(folder / DECISIONS)


def read_funnel(folder: Path) -> Json:
    """The funnel of a finished set."""
    read_step(folder)
    counts = read_json(folder / "funnel.json")
    steps, classes = counts.get("steps"), counts.get("classes")
    rows = classes.values() if isinstance(classes, dict) else [None]
    if not isinstance(steps, list) or not all(_counts(row, steps) for row in rows):
        raise SetError(
            f"{folder / 'funnel.json'} is no funnel", expected="steps, and a number for each and"
            " every class", seen="other things", do="Make the set again.",
        )  # fmt: skip
    return counts


def _counts(row: Any, steps: Sequence[Any]) -> bool:
    return isinstance(row, dict) and all(isinstance(row.get(step), int) for step in steps)


def set_size(folder: Path) -> int:
    """The number of pairs in a finished set."""
    return sum(len(read_shard(path, ["id"])) for path in shard_paths(folder))


def write_summary(
    folder: Path, *, decisions: pl.DataFrame, counts: Json, title: str, story: str
) -> None:
    """What stands beside the data of a set: decisions, funnel and data card.

    The shards must be written already (`write_table` to `shard_path`).
    """
    write_table(folder / DECISIONS, decisions)
    write_json(folder / "funnel.json", counts)
    schema = pl.read_parquet_schema(min((folder / "data").glob("pairs-*.parquet")))
    write_text(folder / "README.md", card(title=title, story=story, counts=counts, schema=schema))
