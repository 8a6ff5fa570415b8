"""Novelty: how many images of a set are near-copies of pool images, told by the copy descriptor.

A generator may have memorized what it was trained on; then its images are retrieved ones again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headwater.curate.copies import nearest
from headwater.decode import Image8, decode_rgb
from headwater.descriptors import COPY_THRESHOLD, describe
from headwater.errors import DecodeError
from headwater.pairs import iter_pairs
from headwater.pool import Pool, PoolShard, open_pool, read_images, read_table
from headwater.progress import track
from headwater.store import Json, read_step, step, write_table

Floats = NDArray[np.float32]


def find_near_copies(
    source: Path, pool_path: str | Path, out: Path, *, threshold: float | None = None
) -> Json:
    """Compare every image of a set with every image of a pool, into the folder `out`.

    Args:
        source: a finished set.
        pool_path: the pool its generator was trained on.
        out: the new folder: `nearest.parquet` with id, label and similarity.
        threshold: similarity above which an image is a near-copy; the descriptor's own by default.

    Returns:
        Counts: images, near_copies.
    """
    pool = open_pool(pool_path)
    limit = COPY_THRESHOLD if threshold is None else threshold
    inputs = {"set": read_step(source)["digest"], "pool": pool.digest}
    with step(out, "novelty", arguments={"threshold": limit}, inputs=inputs) as this:
        if not this.finished:
            table = compare_with_pool(source, pool)
            write_table(out / "nearest.parquet", table)
            near = int((table["similarity"] > limit).sum())
            this.counts = {"images": len(table), "near_copies": near}
        return this.counts


def compare_with_pool(source: Path, pool: Pool) -> pl.DataFrame:
    """The similarity of each image of a set to the most similar image of the pool."""
    tables = list(iter_pairs(source, ["id", "label", "image"]))
    images = [decode_rgb(d) for table in tables for d in table["image"].struct.field("bytes")]
    described = describe(images)
    best = np.full(len(images), -np.inf, np.float32)
    for shard in track(pool.shards, label="looking for near-copies"):
        best = np.maximum(best, nearest(described, describe(list(pool_images(shard))))[0])
    rows = pl.concat(tables).select("id", "label")
    return rows.with_columns(pl.Series("similarity", best, dtype=pl.Float32))


def pool_images(shard: PoolShard) -> Iterator[Image8]:
    """The images of a pool shard that decode."""
    for _, _, data in read_images(shard, read_table(shard)["key"].to_list()):
        try:
            yield decode_rgb(data)
        except DecodeError:
            continue
