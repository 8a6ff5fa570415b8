"""Novelty: how many images of a set are near-copies of pool images, told by a copy descriptor.

A generator may have memorized what it was trained on; then its images are retrieved ones again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headwater.curate.copies import nearest
from headwater.descriptors import Descriptor
from headwater.pairs import iter_pairs, sha256_of
from headwater.pool import Pool, PoolShard, open_pool, read_images, read_table
from headwater.progress import track
from headwater.steps.described import describe_encoded
from headwater.steps.sets import why_undecodable
from headwater.store import Json, read_step, step, write_table

Floats = NDArray[np.float32]


def find_near_copies(
    source: Path,
    pool_path: str | Path,
    out: Path,
    *,
    descriptor: Descriptor,
    threshold: float | None = None,
) -> Json:
    """Compare every image of a set with every image of a pool, into the folder `out`.

    Args:
        source: a finished set.
        pool_path: the pool its generator was trained on.
        out: the new folder: `nearest.parquet` with id, label and similarity.
        descriptor: what copies are told by.
        threshold: similarity above which an image is a near-copy; the descriptor's own by default.

    Returns:
        Counts: images, near_copies.
    """
    pool = open_pool(pool_path)
    limit = descriptor.threshold if threshold is None else threshold
    inputs = {
        "set": read_step(source)["digest"],
        "pool": pool.digest,
        "descriptor": descriptor.digest,
    }
    with step(out, "novelty", arguments={"threshold": limit}, inputs=inputs) as this:
        if not this.finished:
            table = similarities(source, pool, descriptor)
            write_table(out / "nearest.parquet", table)
            near = int((table["similarity"] > limit).sum())
            this.counts = {"images": len(table), "near_copies": near}
        return this.counts


def similarities(source: Path, pool: Pool, descriptor: Descriptor) -> pl.DataFrame:
    """The similarity of each image of a set to the most similar image of the pool."""
    pairs = pl.concat(iter_pairs(source, ["id", "label", "sha256", "image"]))
    images = pairs["image"].struct.field("bytes").to_list()
    described = describe_encoded(descriptor, pairs["sha256"].to_list(), images)
    best = np.full(len(pairs), -np.inf, np.float32)
    for shard in track(pool.shards, label="looking for near-copies"):
        best = np.maximum(best, nearest(described, describe_shard(shard, descriptor))[0])
    return pairs.select("id", "label", pl.Series("similarity", best, dtype=pl.Float32))


def describe_shard(shard: PoolShard, descriptor: Descriptor) -> Floats:
    """Descriptors of the images of a pool shard that decode."""
    found = read_images(shard, read_table(shard)["key"].to_list())
    images = [data for _, _, data in found if why_undecodable(data) is None]
    return describe_encoded(descriptor, [sha256_of(data) for data in images], images)
