"""`retrieve`: real pairs of a pool for every class of a task, as a set.

Four ways to find them, one way to fetch them: `captions` name the class, `neighbors` lie close to
its prompts, `both` is the union, `random` the untargeted control (all in `hits.py`). Then every
pair passes the same gates: tagged unsafe? image there? decodable? A pair of a pool without images
waits behind the second gate, kept, until somebody downloads it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from headwater.curate.safety import unsafe_rows
from headwater.errors import InputError, plain
from headwater.pairs import WAITING, check_namespace, decide, image_column, sha256_of
from headwater.pool import (
    Pool,
    PoolShard,
    come_first,
    has_images,
    open_pool,
    read_images,
    read_table,
)
from headwater.progress import say
from headwater.retrieve.doctor.diagnosis import FEW
from headwater.retrieve.words import CaptionMatcher
from headwater.splits import split_digest
from headwater.steps.hits import (
    EXAMPLES,
    NONE,
    UNTARGETED,
    caption_hits,
    check_model,
    merge_hits,
    neighbor_hits,
    random_hits,
    split_hits,
    with_examples,
)
from headwater.steps.sets import Part, finish_set, make_parts, sift, sift_decodable
from headwater.steps.settings import Retrieval
from headwater.store import WORK, Json, read_json, step, write_table
from headwater.task import Task

if TYPE_CHECKING:
    from headwater.clip import Clip  # only neighbors need torch

GATES = ("matched", "unique", "safe", "has_image", "decodes")
LOOKALIKE = "looks like a better result of the same query"


def retrieve(
    pool_path: str | Path,
    task: Task,
    out: Path,
    *,
    how: Retrieval,
    seed: int = 0,
    pool_name: str = "pool",
    clip: Clip | None = None,
    vectors: str | Path | None = None,
    engine: str = "local",
    workers: int | None = None,
) -> Json:
    """Make the set `out` of the pool's pairs for the task's classes.

    Args:
        pool_path: the pool, in any layout `open_pool` reads.
        task: whose classes, queries and retrieval prompts are searched for.
        out: the new set's folder.
        how: by captions, neighbors, both or random, and what each may be told.
        seed: of the random draw.
        pool_name: the namespace of the ids.
        clip: the model that made the vectors; needed for neighbors.
        vectors: the embedded pool, where the pool does not carry vectors itself.
        engine, workers: what runs side by side, as `run_shards` takes them.

    Returns:
        Pairs left after each gate, and how many wait to be downloaded.

    Raises:
        PoolError, SetError, InputError: see there.
    """
    check_namespace(pool_name)
    pool = open_pool(pool_path, name=pool_name)
    inputs: Json = {"pool": pool.digest, "task": task.digest}
    arguments = {**how.arguments, "pool_name": pool.name}
    if how.asks_a_model:
        inputs |= _asked_with(task, how, clip, vectors or pool_path)
    if how.by == "random":
        arguments["seed"] = seed
    with step(out, "retrieve", arguments=arguments, inputs=inputs) as this:
        if this.finished:
            return this.counts
        # Hits of the whole pool are found once; the last of their files means that all are there.
        if how.by != "captions" and not _hits_path(out, pool.shards[-1].number).exists():
            embedded = None if vectors is None else open_pool(vectors)
            _write_hits(out, pool, _whole_hits(pool, task, how, clip, embedded, seed))
        matcher = CaptionMatcher(task.queries, mode=how.mode) if "mode" in how.arguments else None
        work = partial(_part, pool, task.labels, matcher, how.unsafe_above, out)
        label = f"retrieving by {how.by}"
        make_parts(out, work, pool.shards, label=label, engine=engine, workers=workers)
        labels = [UNTARGETED] if how.by == "random" else task.labels
        story = f"Real pairs of the pool {pool.name}, found by {how.by} for the task {task.name}."
        title = f"{task.name} by {how.by}"
        finish_set(this, labels=labels, gates=GATES, waiting=True, title=title, story=story)
        _tell(out, labels)
        return this.counts


def _asked_with(task: Task, how: Retrieval, clip: Clip | None, vectors: str | Path) -> Json:
    """Digests of what neighbors are asked with."""
    if clip is None:
        raise InputError("neighbors need a model", do="Name the one that embedded the pool.")
    check_model(Path(vectors), clip)
    if how.examples is None:
        return {"model": clip.digest}
    examples = split_digest(with_examples(task, how.examples), EXAMPLES)
    return {"model": clip.digest, "examples": examples}


def _whole_hits(
    pool: Pool, task: Task, how: Retrieval, clip: Clip | None, embedded: Pool | None, seed: int
) -> pl.DataFrame:
    if clip is None or not how.asks_a_model:
        return random_hits(pool, how.n, seed=seed)
    return neighbor_hits(pool, task, clip, how, embedded=embedded)


def _part(
    pool: Pool,
    labels: list[str],
    matcher: CaptionMatcher | None,
    unsafe_above: float,
    out: Path,
    shard: PoolShard,
) -> Part:
    path = _hits_path(out, shard.number)
    hits = pl.read_parquet(path) if path.exists() else NONE
    if matcher is not None:
        hits = merge_hits(caption_hits(shard, matcher), hits, labels)
    found, twins = _apart(_with_columns(hits, shard, pool), shard)
    unsafe = unsafe_rows(found["nsfw"], above=unsafe_above)
    unsafe |= unsafe_rows(found["punsafe"], above=unsafe_above)
    safe = found.filter(~unsafe).drop("key", "nsfw", "punsafe")
    tagged = decide(found.filter(unsafe), kept=False, step="safe", reason="tagged NSFW in the pool")
    part = _fetched(safe, shard) if has_images(shard) else _waiting(safe)
    return Part(part.pairs, pl.concat([twins, tagged, part.decisions]))


def _apart(found: pl.DataFrame, shard: PoolShard) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Hits that stand for themselves, and decisions on those that another one stands for.

    Some pools number their pairs carelessly; of a key only the first pair can be told again.
    """
    first = come_first(shard, found)
    twins = found.filter(~first).with_columns(pl.format("{}#{}", "id", "row").alias("id"))
    alike = pl.col("lookalike").fill_null(False)
    told = [
        decide(twins, kept=False, step="unique", reason="another pair of the shard has its key"),
        decide(found.filter(first & alike), kept=False, step="unique", reason=LOOKALIKE),
    ]
    return found.filter(first & ~alike).drop("row", "lookalike"), pl.concat(told)


def _with_columns(hits: pl.DataFrame, shard: PoolShard, pool: Pool) -> pl.DataFrame:
    """What the pool tells of each hit, beside how it was found."""
    rows = read_table(shard, rows=hits["row"].to_numpy()).drop("sha256")
    joined = hits.join(rows, on="row", how="left", maintain_order="left")
    return joined.with_columns(
        (pl.lit(f"{pool.name}:") + pl.col("key")).alias("id"),
        pl.lit("retrieved").alias("source"),
        pl.lit(pool.name).alias("pool"),
    )


def _fetched(pairs: pl.DataFrame, shard: PoolShard) -> Part:
    """The pairs whose image is in the shard and can be decoded."""
    keys = pairs["id"].str.splitn(":", 2).struct.field("field_1")
    found = {key: (data, name) for key, name, data in read_images(shard, keys.unique().to_list())}
    got = [found.get(key, (None, None)) for key in keys]
    images = image_column([data for data, _ in got], [name for _, name in got])
    digests = [None if data is None else sha256_of(data) for data, _ in got]
    fetched = pairs.with_columns(images, pl.Series("sha256", digests, dtype=pl.String))
    missing = ["no image in the pool" if data is None else None for data, _ in got]
    here = sift(fetched, missing, gate="has_image")
    decoded = sift_decodable(here.pairs, gate="decodes")
    gone = here.decisions.filter(~pl.col("kept"))
    return Part(decoded.pairs, pl.concat([gone, decoded.decisions]))


def _waiting(pairs: pl.DataFrame) -> Part:
    """The pairs of a shard without images: those with a URL wait, the others are lost."""
    waits = pl.col("url").is_not_null()
    waiting, lost = pairs.filter(waits), pairs.filter(~waits)
    decisions = [
        decide(waiting, kept=True, step="safe", reason="needs download"),
        decide(lost, kept=False, step="has_image", reason="neither image nor URL in the pool"),
    ]
    return Part(waiting, pl.concat(decisions))


def _write_hits(out: Path, pool: Pool, hits: pl.DataFrame) -> None:
    for shard, part in zip(pool.shards, split_hits(hits, pool), strict=True):
        write_table(_hits_path(out, shard.number), part)


def _hits_path(out: Path, number: int) -> Path:
    return out / WORK / f"hits-{number:05d}.parquet"


def _tell(out: Path, labels: list[str]) -> None:
    """Name the classes with nothing or little, and say what is still to be fetched."""
    classes = read_json(out / "funnel.json")["classes"]
    left = {label: classes[label][GATES[-1]] + classes[label][WAITING] for label in labels if label}
    empty = [label for label, count in left.items() if not count]
    few = [f"{label} ({count})" for label, count in left.items() if 0 < count < FEW]
    for names, fate in ((empty, "found nothing"), (few, f"found fewer than {FEW} pairs")):
        if names:
            some = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
            say(plain(f"{len(names)} of {len(labels)} classes {fate}: {some}"))
    waiting = sum(row[WAITING] for row in classes.values())
    if waiting:
        say(f"pairs with a URL and no image: {waiting:,}; img2dataset fetches them, then curate")
