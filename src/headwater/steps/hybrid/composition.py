"""`composition`: how many captions of a pool name each class, and each class with an attribute.

    composition.parquet   label, attribute ("": the class, whatever else is said), captions

One pass over the captions looks for all classes and attributes at once. What is missing there
cannot be retrieved: `top_up.py` fills it, `report/composition.py` draws it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import polars as pl

from headwater.engine import run_shards
from headwater.errors import InputError, PoolError, SetError
from headwater.pairs import read_shard
from headwater.pool import PoolShard, iter_captions, open_pool
from headwater.report.composition import render_composition
from headwater.retrieve.queries import Query
from headwater.retrieve.words import CaptionMatcher
from headwater.store import (
    WORK,
    Json,
    read_json,
    read_step,
    step,
    write_json,
    write_table,
    write_text,
)
from headwater.task import Task

COMPOSITION = "composition.parquet"
ANY = ""  # the attribute of captions that name a class, whatever else they say
SCHEMA = {"label": pl.String, "attribute": pl.String, "captions": pl.Int64}


def chart(
    pool_path: str | Path,
    task: Task,
    out: Path,
    *,
    attributes: Sequence[str] = (),
    mode: str = "phrase",
    engine: str = "local",
    workers: int | None = None,
) -> Json:
    """Count the captions of a pool per class and attribute, into the folder `out`.

    Args:
        pool_path: the pool; it needs captions only.
        task: whose queries name the classes.
        out: the new folder; a killed count goes on with the shards that are left.
        attributes: phrases, such as "in snow".
        mode: how captions match, as in `match_captions`.
        engine, workers: what runs side by side, as `run_shards` takes them.

    Returns:
        Counts: captions read, matched (they name a class), cells (of class and attribute, or of
        classes where there are no attributes), empty (cells without any caption).

    Raises:
        PoolError: no pool, or one without a single pair.
        QueryError: as `match_captions`.
        InputError: an attribute that is empty or stands there twice.
    """
    _check_attributes(attributes)
    pool = open_pool(pool_path)
    asked: Json = {"attributes": list(attributes), "mode": mode}
    inputs = {"pool": pool.digest, "task": task.digest}
    with step(out, "composition", arguments=asked, inputs=inputs) as this:
        if not this.finished:
            matcher = word_matcher(task, attributes, mode=mode)
            left = [shard for shard in pool.shards if not _part_path(out, shard).exists()]
            work = partial(_count_shard, matcher, len(task.labels), out)
            run_shards(work, left, engine=engine, workers=workers, label="counting captions")
            parts = [read_json(_part_path(out, shard)) for shard in pool.shards]
            table = lay_out(parts, task.labels, attributes)
            write_table(out / COMPOSITION, table)
            this.counts = _counts(parts, table, attributes)
        return this.counts


def word_matcher(task: Task, attributes: Sequence[str], *, mode: str) -> CaptionMatcher:
    """A matcher of classes and attributes at once; each is called by its number, classes first."""
    wanted: list[Sequence[Query]] = [*task.queries.values(), *([phrase] for phrase in attributes)]
    return CaptionMatcher({str(number): query for number, query in enumerate(wanted)}, mode=mode)


def count_words(found: pl.DataFrame, classes: int) -> Json:
    """What some captions say, counted: matched, and [class, attribute or None, captions] of each.

    Args:
        found: row, label: what `word_matcher` found in them.
        classes: how many of the numbers are classes.

    Example:
        >>> found = pl.DataFrame({"row": [0, 0, 1], "label": ["0", "1", "0"]})
        >>> count_words(found, 1)
        {'matched': 2, 'cells': [[0, None, 2], [0, 0, 1]]}
    """
    said = found.select("row", number=pl.col("label").cast(pl.Int64))
    named = said.filter(pl.col("number") < classes).rename({"number": "class"})
    told = said.filter(pl.col("number") >= classes)
    told = told.select("row", attribute=pl.col("number") - classes)
    alone = named.with_columns(attribute=pl.lit(None, pl.Int64))
    cells = pl.concat([alone, named.join(told, on="row")]).group_by("class", "attribute").len()
    ordered = cells.sort("class", "attribute")
    return {"matched": named["row"].n_unique(), "cells": [list(row) for row in ordered.rows()]}


def lay_out(
    parts: Iterable[Json], labels: Sequence[str], attributes: Sequence[str]
) -> pl.DataFrame:
    """The sum of some counts as a table: a row a class and attribute, zeros included.

    Example:
        >>> part = {"cells": [[1, None, 5], [1, 0, 2]]}
        >>> lay_out([part, part], ["rose", "fern"], ["in snow"]).rows()[2:]
        [('fern', '', 10), ('fern', 'in snow', 4)]
    """
    wide = 1 + len(attributes)
    counts = [0] * (len(labels) * wide)
    for part in parts:
        for place, attribute, captions in part["cells"]:
            counts[place * wide + (0 if attribute is None else 1 + attribute)] += captions
    names = [(label, attribute) for label in labels for attribute in (ANY, *attributes)]
    rows = [(*name, count) for name, count in zip(names, counts, strict=True)]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def read_composition(folder: Path, task: Task) -> tuple[pl.DataFrame, Json]:
    """What `chart` counted: its table, and its record (arguments, counts, digest).

    Raises:
        SetError: unfinished, no composition, or one of another task.
    """
    record = read_step(folder)
    if record["verb"] != "composition" or record["inputs"].get("task") != task.digest:
        what = f"a {record['verb']}" if record["verb"] != "composition" else "one of another task"
        raise SetError(
            f"{folder} does not count captions for task {task.name}", expected="a composition",
            seen=what, do="Make one with `headwater composition`.",
        )  # fmt: skip
    table = read_shard(folder / COMPOSITION, list(SCHEMA))
    return table, record


def composition_facts(folder: Path, task: Task, *, target: int) -> Json:
    """A composition as plain values, for the page, the terminal and `--json`.

    Args:
        folder: made by `chart`.
        task: the same.
        target: captions below which a class or a (class, attribute) is a hole.

    Returns:
        task, target, captions, matched, attributes, holes, empty, and `classes`: label, name,
        captions, and the captions of each attribute in order.
    """
    table, record = read_composition(folder, task)
    attributes = list(record["arguments"]["attributes"])
    counts = {(label, attribute): n for label, attribute, n in table.iter_rows()}
    cells = table if not attributes else table.filter(pl.col("attribute") != ANY)
    return {
        "task": task.name,
        "target": target,
        "captions": record["counts"]["captions"],
        "matched": record["counts"]["matched"],
        "attributes": attributes,
        "holes": int((cells["captions"] < target).sum()),
        "empty": int((cells["captions"] == 0).sum()),
        "classes": [
            {
                "label": label,
                "name": name,
                "captions": counts[label, ANY],
                "with": [counts[label, attribute] for attribute in attributes],
            }
            for label, name in task.name_of.items()
        ],
    }


def write_map(told: Json, path: Path) -> None:
    """What `composition_facts` told, as one HTML page."""
    write_text(path, render_composition(told))


def _check_attributes(attributes: Sequence[str]) -> None:
    if not all(phrase.strip() for phrase in attributes):
        raise InputError("an attribute is empty", expected="a phrase such as 'in snow'")
    twice = next((a for at, a in enumerate(attributes) if a in attributes[:at]), None)
    if twice is not None:
        raise InputError("an attribute is named twice", expected="each once", seen=repr(twice))


def _count_shard(matcher: CaptionMatcher, classes: int, out: Path, shard: PoolShard) -> None:
    sizes: list[int] = []
    told = [count_words(found, classes) for found in matcher.match_many(_captions(shard, sizes))]
    counts = {
        "captions": sum(sizes),
        "matched": sum(part["matched"] for part in told),
        "cells": [cell for part in told for cell in part["cells"]],
    }
    write_json(_part_path(out, shard), counts)


def _captions(shard: PoolShard, sizes: list[int]) -> Iterator[pl.Series]:
    """The captions of a shard in batches; the size of each is noted down."""
    for _, batch in iter_captions(shard):
        sizes.append(len(batch))
        yield batch


def _part_path(out: Path, shard: PoolShard) -> Path:
    return out / WORK / f"counts-{shard.number:05d}.json"


def _counts(parts: Sequence[Json], table: pl.DataFrame, attributes: Sequence[str]) -> Json:
    captions = sum(part["captions"] for part in parts)
    if not captions:
        raise PoolError("the pool has no pair", expected="captions", seen="tables without rows")
    cells = table.filter(pl.col("attribute") != ANY) if attributes else table
    return {
        "captions": captions,
        "matched": sum(part["matched"] for part in parts),
        "cells": len(cells),
        "empty": int((cells["captions"] == 0).sum()),
    }
