"""`retrieve`: real pairs of a pool for every class of a task, as a set.

Three ways to find them, one way to fetch them: `captions` names the class, `neighbors` lie
close to its prompts, `random` is the untargeted control. Then every pair passes the same
gates: tagged unsafe? image there and decodable?
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from headwater.curate.safety import unsafe_rows
from headwater.errors import InputError, PoolError, plain
from headwater.pairs import decide, image_column, sha256_of
from headwater.pool import (
    Pool,
    PoolShard,
    count_rows,
    has_images,
    open_pool,
    read_images,
    read_table,
    read_vectors,
)
from headwater.progress import say
from headwater.prompts import fill
from headwater.retrieve.neighbors import search_neighbors
from headwater.retrieve.sample import random_rows
from headwater.retrieve.words import CaptionMatcher
from headwater.steps.sets import Part, finish_set, make_parts, sift_decodable
from headwater.store import WORK, Json, read_json, step, write_table
from headwater.task import Task

if TYPE_CHECKING:
    from headwater.clip import Clip  # only neighbors need torch

WAYS = ("captions", "neighbors", "random")
GATES = ("found", "safe", "decodes")
UNTARGETED = ""  # the label of a pair that was drawn, not searched for


def retrieve(
    pool_path: str | Path,
    task: Task,
    out: Path,
    *,
    by: str = "captions",
    mode: str = "phrase",
    k: int = 2000,
    n: int = 10_000,
    seed: int = 0,
    pool_name: str = "pool",
    clip: Clip | None = None,
    vectors: str | Path | None = None,
    workers: int | None = None,
) -> Json:
    """Make the set `out` of the pool's pairs for the task's classes.

    Args:
        pool_path: the pool, in any layout `open_pool` reads.
        task: whose classes, queries and retrieval prompts are searched for.
        out: the new set's folder.
        by: "captions", "neighbors" or "random".
        mode: how captions match, as in `match_captions`.
        k: neighbors per prompt, by image and by caption embedding each.
        n: how many pairs `random` draws.
        seed: of the random draw.
        pool_name: the namespace of the ids.
        clip: the model that made the vectors; needed for neighbors.
        vectors: the embedded pool, where the pool does not carry vectors itself.
        workers: processes.

    Returns:
        Pairs left after each gate.

    Raises:
        PoolError, SetError, InputError: see there.
    """
    if by not in WAYS:
        raise InputError("unknown way to retrieve", expected=" or ".join(WAYS), seen=by)
    pool = open_pool(pool_path, name=pool_name)
    arguments, inputs = _asked(by, mode, k, n, seed, pool, task, clip)
    with step(out, "retrieve", arguments=arguments, inputs=inputs) as this:
        if not this.finished:
            _check_images(pool)
            if by == "random":
                _write_hits(out, pool, _random_hits(pool, n, seed))
            if by == "neighbors":
                _write_hits(out, pool, _neighbor_hits(pool, task, clip, vectors, k))
            matcher = CaptionMatcher(task.queries, mode=mode) if by == "captions" else None
            make_parts(
                out,
                partial(_part, pool, matcher, out),
                list(pool.shards),
                label=f"retrieving by {by}",
                workers=workers,
            )
            labels = [UNTARGETED] if by == "random" else task.labels
            story = f"Real pairs of the pool {pool.name}, found by {by} for the task {task.name}."
            finish_set(this, labels=labels, gates=GATES, title=f"{task.name} by {by}", story=story)
            _name_empty_classes(out, labels)
        return this.counts


def _asked(
    by: str, mode: str, k: int, n: int, seed: int, pool: Pool, task: Task, clip: Clip | None
) -> tuple[Json, Json]:
    own: dict[str, Json] = {
        "captions": {"mode": mode},
        "neighbors": {"k": k},
        "random": {"n": n, "seed": seed},
    }
    inputs: Json = {"pool": pool.digest, "task": task.digest}
    if by == "neighbors" and clip is not None:
        inputs["model"] = clip.digest
    return {"by": by, "pool_name": pool.name, **own[by]}, inputs


def _part(pool: Pool, matcher: CaptionMatcher | None, out: Path, shard: PoolShard) -> Part:
    table = read_table(shard)
    if matcher is None:
        hits = pl.read_parquet(_hits_path(out, shard.number))
    else:
        hits = matcher.match(table["caption"]).with_columns(found_by=pl.lit("captions"))
    found = _join(table, hits, pool)
    unsafe = unsafe_rows(found["nsfw"])
    safe = found.filter(~unsafe)
    part = sift_decodable(_with_images(safe, shard), gate="decodes")
    tagged = decide(found.filter(unsafe), kept=False, step="safe", reason="tagged NSFW in the pool")
    return Part(part.pairs.drop("key", "nsfw"), pl.concat([tagged, part.decisions]))


def _join(table: pl.DataFrame, hits: pl.DataFrame, pool: Pool) -> pl.DataFrame:
    rows = table.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    joined = hits.join(rows.drop("sha256"), on="row", how="left", maintain_order="left")
    return joined.with_columns(
        (pl.lit(f"{pool.name}:") + pl.col("key")).alias("id"),
        pl.lit("retrieved").alias("source"),
        pl.lit(pool.name).alias("pool"),
    ).drop("row")


def _with_images(pairs: pl.DataFrame, shard: PoolShard) -> pl.DataFrame:
    found = {
        key: (data, name) for key, name, data in read_images(shard, pairs["key"].unique().to_list())
    }
    got = [found.get(key, (None, None)) for key in pairs["key"]]
    digests = [None if data is None else sha256_of(data) for data, _ in got]
    images = image_column([data for data, _ in got], [name for _, name in got])
    return pairs.with_columns(images, pl.Series("sha256", digests, dtype=pl.String))


def _neighbor_hits(
    pool: Pool, task: Task, clip: Clip | None, vectors: str | Path | None, k: int
) -> pl.DataFrame:
    if clip is None:
        raise InputError("neighbors need a model", do="Name the one that embedded the pool.")
    embedded = pool if vectors is None else open_pool(vectors, name=pool.name)
    _check_in_step(pool, embedded)
    prompts = [(c.label, fill(t, c.name)) for c in task.classes for t in task.prompts.retrieval]
    texts = [text for _, text in prompts]
    return search_neighbors(
        clip.encode_texts(texts, normalize=True),
        texts,
        [label for label, _ in prompts],
        image_shards=[read_vectors(shard, "image") for shard in embedded.shards],
        text_shards=[read_vectors(shard, "text") for shard in embedded.shards],
        k=k,
    )


def _random_hits(pool: Pool, n: int, seed: int) -> pl.DataFrame:
    rows = random_rows(sum(count_rows(shard) for shard in pool.shards), n, seed=seed)
    drawn = pl.DataFrame({"row": np.sort(rows)}, schema={"row": pl.Int64})
    return drawn.with_columns(label=pl.lit(UNTARGETED), found_by=pl.lit("random"))


def _write_hits(out: Path, pool: Pool, hits: pl.DataFrame) -> None:
    """Hits by row of the whole pool, as one file a shard by row of that shard."""
    start = 0
    for shard in pool.shards:
        stop = start + count_rows(shard)
        inside = hits.filter(pl.col("row").is_between(start, stop, closed="left"))
        write_table(_hits_path(out, shard.number), inside.with_columns(pl.col("row") - start))
        start = stop


def _hits_path(out: Path, number: int) -> Path:
    return out / WORK / f"hits-{number:05d}.parquet"


def _check_images(pool: Pool) -> None:
    without = next((shard for shard in pool.shards if not has_images(shard)), None)
    if without is not None:
        raise PoolError(
            f"pool {pool.name} has no images in {without.name}", expected="images beside captions",
            seen="captions and URLs only", do="Download it first, with img2dataset for one.",
        )  # fmt: skip


def _check_in_step(pool: Pool, embedded: Pool) -> None:
    """Vectors belong to rows by position, so both must tell the same keys in the same order."""
    same = len(pool.shards) == len(embedded.shards) and all(
        read_table(a)["key"].equals(read_table(b)["key"])
        for a, b in zip(pool.shards, embedded.shards, strict=True)
    )
    if not same:
        raise PoolError(
            f"the vectors are out of step with pool {pool.name}", expected="the same keys in order",
            seen="other keys", do="Run `headwater pool embed` on this pool again.",
        )  # fmt: skip


def _name_empty_classes(out: Path, labels: list[str]) -> None:
    counts = read_json(out / "funnel.json")["classes"]
    empty = [label for label in labels if not counts[label][GATES[-1]]]
    if empty:
        say(f"{len(empty)} of {len(labels)} classes found nothing: {plain(', '.join(empty[:10]))}")
