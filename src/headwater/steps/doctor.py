"""`doctor`: what a task's class names would find in a pool, before anything is spent.

Every caption is read once, shard by shard; nothing is written but the page, if asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from headwater.engine import run_shards
from headwater.errors import InputError, PoolError
from headwater.pool import PoolShard, iter_captions, open_pool
from headwater.report.doctor import render_doctor
from headwater.retrieve.doctor.chart import Chart, merge
from headwater.retrieve.doctor.diagnosis import diagnose
from headwater.retrieve.doctor.examine import Block, Doctor
from headwater.store import Json, write_text
from headwater.task import Task

LOTS = 64  # a chart a lot of shards, so that few are held at once however large the pool


def doctor(
    pool_path: str | Path,
    task: Task,
    *,
    mode: str = "phrase",
    synonyms: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
    engine: str = "local",
    workers: int | None = None,
) -> Json:
    """Read a pool's captions and say what a task's queries would find there.

    Args:
        pool_path: the pool; it needs captions only.
        task: whose queries are tried.
        mode: how captions match, as in `match_captions`.
        synonyms: further names of a class, by its label or display name.
        seed: of the sampled captions.
        engine, workers: what runs side by side, as `run_shards` takes them.

    Returns:
        As `headwater.retrieve.doctor.diagnosis.diagnose`, with `task` and `pool` before it.

    Raises:
        PoolError: no pool, or one without a single pair.
        QueryError, InputError: as `match_captions`, or no synonym is for a class of the task.
    """
    pool = open_pool(pool_path)
    physician = Doctor(task.queries, synonyms=_by_label(task, synonyms or {}), mode=mode, seed=seed)
    lots = [pool.shards[i::LOTS] for i in range(min(LOTS, len(pool.shards)))]
    work = partial(_examine, physician)
    charts = run_shards(work, lots, engine=engine, workers=workers, label="reading captions")
    chart = merge(charts)
    if not chart.captions:
        raise PoolError("the pool has no pair", expected="captions", seen="tables without rows")
    has_vectors = pool.shards[0].image_vectors is not None
    told = diagnose(physician, chart, names=task.name_of, has_vectors=has_vectors)
    about = {"layout": pool.layout, "shards": len(pool.shards)}
    return {"task": task.name, "pool": about, **told}


def read_synonyms(path: Path) -> dict[str, list[str]]:
    """Names of classes from a JSON file: {"hog": ["pig", "Sus scrofa"]}.

    Raises:
        InputError: unreadable, or anything else than lists of names by label.
    """
    expected = 'JSON like {"hog": ["pig", "Sus scrofa"]}'
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path}", expected=expected, seen=str(error)) from None
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no synonyms", expected=expected, seen=type(value).__name__)
    for label, names in value.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(
                f"{path}: the synonyms of {label} are no list of names", expected=expected,
                seen=repr(names)[:60],
            )  # fmt: skip
    return value


def write_page(told: Json, path: Path) -> None:
    """What `doctor` returned, as one HTML page."""
    write_text(path, render_doctor(told))


def _examine(physician: Doctor, shards: Sequence[PoolShard]) -> Chart:
    return physician.examine(_blocks(shards))


def _blocks(shards: Sequence[PoolShard]) -> Iterator[Block]:
    for shard in shards:
        for first_row, captions in iter_captions(shard):
            yield Block(shard.name, first_row, captions)


def _by_label(task: Task, synonyms: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Synonyms under labels; those of classes the task does not have are left out."""
    found = {c.label: [*synonyms.get(c.label, []), *synonyms.get(c.name, [])] for c in task.classes}
    if synonyms and not any(found.values()):
        raise InputError(
            f"no synonym is for a class of task {task.name}",
            expected=f"labels such as {task.labels[0]}", seen=", ".join(list(synonyms)[:5]),
        )  # fmt: skip
    return found
