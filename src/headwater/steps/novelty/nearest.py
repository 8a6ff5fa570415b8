"""The nearest pool image of every image of a set, exact: shard by shard, memory bounded by a block.

    work/LOOK/asked.npy       features of the set's images
    work/LOOK/sampled.npy     features of some of the pool's own images, see sample.py
    work/LOOK/own.npy         where these lie in the pool: shard, row
    work/LOOK/00000.parquet   what the first shard has nearest to each of both; then it is done

A sampled image is compared with all images but itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headwater.curate.copies import nearest
from headwater.engine import run_shards
from headwater.pool import PoolShard, count_rows
from headwater.steps.novelty.looks import Block, Floats, Ints, Look
from headwater.store import WORK, replacing, write_table
from headwater.topk import search

FEW = 20_000  # pairs of a pool that are compared sooner than workers are started


class Queries(NamedTuple):
    """What is asked for its nearest: (n, d) features of a set, (s, d) of images of the pool.

    own: (s, 2) int64, shard and row where the latter lie.
    """

    asked: Floats
    sampled: Floats
    own: Ints


class Nearest(NamedTuple):
    """The nearest pool image of each: similarity (float32; -inf for none), shard and row (or -1).

    asked, sampled: as in `Queries`.
    seen: (s,) bool, which sampled images could be seen.
    images: how many of the pool were compared.
    """

    asked: Best
    sampled: Best
    seen: NDArray[np.bool_]
    images: int


class Best:
    """The most similar image that each of some queries has met: the first of equals."""

    def __init__(self, size: int) -> None:
        self.similarity = np.full(size, -np.inf, np.float32)
        self.shard = np.full(size, -1, np.int64)
        self.row = np.full(size, -1, np.int64)

    def offer(self, similarity: Floats, shard: int, row: Ints) -> None:
        """Take what is more similar than what is there, or as similar and of a lower row."""
        same = (similarity == self.similarity) & (shard == self.shard) & (row < self.row)
        better = (row >= 0) & ((similarity > self.similarity) | same)
        self.similarity[better] = similarity[better]
        self.shard[better] = shard
        self.row[better] = row[better]


def find_nearest(
    out: Path,
    shards: Sequence[PoolShard],
    look: Look,
    queries: Queries,
    *,
    engine: str = "local",
    workers: int | None = None,
) -> Nearest:
    """Compare queries with every image of some shards; shards that were finished before are kept.

    Args:
        out: the step's folder; what is found waits in its `work/`.
        shards: of a pool, in order.
        look: how images are seen.
        queries: seen in the same way.
        engine, workers: what runs side by side, as `run_shards` takes them.
    """
    folder = out / WORK / look.name
    _save(folder, queries)
    left = [shard for shard in shards if not _part(folder, shard.number).exists()]
    work = partial(compare_shard, folder, look)
    run_shards(
        work, left, engine=engine, workers=worth_starting(left, engine, workers),
        label=f"nearest by {look.name}", unit="shards",
    )  # fmt: skip
    return _merge(folder, shards, queries)


def worth_starting(shards: Sequence[PoolShard], engine: str, workers: int | None) -> int | None:
    """The workers that were asked for; 1 on this machine where the pairs are few."""
    is_few = engine == "local" and sum(map(count_rows, shards)) < FEW
    return 1 if is_few else workers


def compare_shard(folder: Path, look: Look, shard: PoolShard) -> None:
    """What one shard has nearest to each query, into its part."""
    asked, sampled, own = _load(folder)
    own_rows = np.where(own[:, 0] == shard.number, own[:, 1], -1)
    best, others = Best(len(asked)), Best(len(sampled))
    images = 0
    for block in look.blocks(shard):
        if not len(block.rows):
            continue
        images += len(block.rows)
        similarity, index = nearest(asked, block.features)
        best.offer(similarity, shard.number, block.rows[index])
        others.offer(*_nearest_other(sampled, own_rows, block, shard.number))
    table = pl.DataFrame(
        {
            "similarity": np.concatenate([best.similarity, others.similarity]),
            "row": np.concatenate([best.row, others.row]),
        }
    )
    write_table(_part(folder, shard.number), table.with_columns(images=pl.lit(images, pl.Int64)))


def _nearest_other(
    sampled: Floats, own_rows: Ints, block: Block, shard: int
) -> tuple[Floats, int, Ints]:
    """The nearest image of a block that is not the sampled image itself."""
    if not len(sampled):  # of a pool without a pair that can be drawn
        return np.zeros(0, np.float32), shard, np.zeros(0, np.int64)
    scores, ids, _ = search(sampled, [block.features], 2)
    rows = np.where(ids >= 0, block.rows[ids], -1)
    is_own = (rows == own_rows[:, None]) & (rows >= 0)
    first = is_own[:, 0].astype(np.int64)  # the second where the first is itself
    at = np.arange(len(sampled))
    return scores[at, first], shard, rows[at, first]


def _merge(folder: Path, shards: Sequence[PoolShard], queries: Queries) -> Nearest:
    size = len(queries.asked)
    best, others, images = Best(size), Best(len(queries.sampled)), 0
    for shard in shards:
        table = pl.read_parquet(_part(folder, shard.number))
        similarity, row = table["similarity"].to_numpy(), table["row"].to_numpy()
        best.offer(similarity[:size], shard.number, row[:size])
        others.offer(similarity[size:], shard.number, row[size:])
        images += table["images"][0] if len(table) else 0
    seen = queries.sampled.any(axis=1) & (others.row >= 0)
    return Nearest(best, others, seen, images)


def _save(folder: Path, queries: Queries) -> None:
    for name, array in queries._asdict().items():
        with replacing(folder / f"{name}.npy") as beside, beside.open("wb") as file:
            np.save(file, array)


def _load(folder: Path) -> Queries:
    """Mapped into memory: workers on one machine share the pages."""
    arrays: list[NDArray[np.float32]] = [
        np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        for name in Queries._fields
    ]
    return Queries(*arrays)  # type: ignore[arg-type]


def _part(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.parquet"
