"""`novelty`: a set, a pool -> for each image the nearest pool image, and how new that makes it.

    memorized   a copy: by descriptor above the copy threshold, or the same URL or bytes
    near        by CLIP closer than a pool's own images come to each other (sample.py)
    new         neither

    nearest.parquet   a row a pair of the set: its nearest by both, and its novelty
    novelty.json      the levels, what they come from, and what was compared

How images are seen is in looks.py, the search in nearest.py, the page in page.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from headwater.clip import Clip
from headwater.descriptors import Descriptor
from headwater.errors import InputError, SetError
from headwater.pairs import check_namespace, iter_pairs
from headwater.pool import Pool, count_rows, has_images, open_pool, read_table
from headwater.progress import say
from headwater.steps.novelty.carrier import Carrier, find_vectors
from headwater.steps.novelty.looks import ClipLook, DescriptorLook, Floats, Look, VectorLook
from headwater.steps.novelty.nearest import Nearest, Queries, find_nearest
from headwater.steps.novelty.origins import find_origins
from headwater.steps.novelty.sample import (
    EXACT,
    SAMPLE,
    Sample,
    draw_sample,
    encode_sample,
    near_level,
    place_in,
    vectors_of_sample,
)
from headwater.steps.novelty.settings import BANDS
from headwater.store import Json, read_step, step, write_json, write_table

MEMORIZED, NEAR, NEW = BANDS
NEAREST, RECORD = "nearest.parquet", "novelty.json"

NEAREST_SCHEMA = {
    "id": pl.String,
    "label": pl.String,
    "copy_of": pl.String,
    "similarity": pl.Float32,
    "like": pl.String,
    "clip_similarity": pl.Float32,
    "same_as": pl.String,
    "novelty": pl.String,
}


class Found(NamedTuple):
    """What comes of a comparison: a row a pair of the set, and the record of how."""

    table: pl.DataFrame
    record: Json


def find_novelty(
    source: Path,
    pool_path: str | Path,
    out: Path,
    *,
    descriptor: Descriptor,
    clip: Clip,
    vectors: str | Path | None = None,
    threshold: float | None = None,
    near: float | None = None,
    pool_name: str = "pool",
    seed: int = 0,
    engine: str = "local",
    workers: int | None = None,
) -> Json:
    """Compare every image of a set with every image of a pool, into the folder `out`.

    Args:
        source: a finished set.
        pool_path: the pool its generator was trained on, or any other.
        out: the new folder.
        descriptor: what copies are told by.
        clip: what nearness is told by.
        vectors: a folder of `pool embed` with this model's vectors of the pool; without one, those
            the pool carries itself are used if they are this model's, else images are encoded.
        threshold: similarity above which an image is a copy; the descriptor's own by default.
        near: CLIP similarity above which an image is near; measured on the pool by default.
        pool_name: the namespace of the ids of the pool's pairs.
        seed: which pool images the level of `near` is measured on.
        engine, workers: what compares shards side by side, as `run_shards` takes them.

    Returns:
        Counts: images, memorized, near, new.

    Raises:
        PoolError: neither images nor vectors, vectors of another model, or a broken pool.
        SetError: an image of the set that cannot be decoded.
        InputError: a threshold that no similarity can be held against.
    """
    check_namespace(pool_name)
    pool = open_pool(pool_path, name=pool_name)
    limit = descriptor.threshold if threshold is None else threshold
    _check_levels(limit, near)
    carrier = find_vectors(pool, pool_path, clip, vectors)
    arguments = {"threshold": limit, "near": near, "pool_name": pool_name, "seed": seed}
    inputs = {
        "set": read_step(source)["digest"],
        "pool": pool.digest,
        "descriptor": descriptor.digest,
        "model": clip.digest,
    }
    if carrier is not None and carrier.partial and vectors is not None:
        inputs["vectors"] = read_step(Path(vectors))["digest"]
    # Rejections make a set smaller: it is then compared anew.
    with step(out, "novelty", arguments=arguments, inputs=inputs, may_change=("set",)) as this:
        if not this.finished:
            job = Comparison(source, pool, carrier, descriptor, clip, limit, near, seed)
            found = compare(job, out, engine=engine, workers=workers)
            write_table(out / NEAREST, found.table)
            write_json(out / RECORD, found.record)
            counted = dict(found.table["novelty"].value_counts().iter_rows())
            this.counts = {"images": len(found.table)}
            this.counts |= {band: counted.get(band, 0) for band in BANDS}
        return this.counts


@dataclass(frozen=True)
class Comparison:
    """What is compared with what, by what."""

    source: Path
    pool: Pool
    carrier: Carrier | None
    descriptor: Descriptor
    clip: Clip
    threshold: float
    near: float | None
    seed: int

    @property
    def clip_look(self) -> ClipLook:
        """How CLIP sees the pool."""
        return (
            ClipLook(self.clip)
            if self.carrier is None
            else VectorLook(self.clip, self.carrier.whose)
        )

    @property
    def clip_pool(self) -> Pool:
        """Where CLIP looks."""
        return self.pool if self.carrier is None else self.carrier.pool


def compare(
    job: Comparison, out: Path, *, engine: str = "local", workers: int | None = None
) -> Found:
    """The nearest pool image of each image of a set; what is finished of it is kept in `out`."""
    table = pl.concat(iter_pairs(job.source, ["id", "label", "url", "sha256"]))
    sample = draw_sample(job.clip_pool, size=SAMPLE, seed=job.seed)
    by_clip = _by_clip(job, out, sample)
    by_descriptor = None
    if any(map(has_images, job.pool.shards)):
        own = sample if job.carrier is None else place_in(job.pool, sample)
        by_descriptor = _by_descriptor(job, out, own, engine=engine, workers=workers)
    else:
        say(f"copies are not looked for: pool {job.pool.name} has vectors, but no images")
    level, told = _level(job, by_clip, by_descriptor)
    table = table.with_columns(
        *_nearest_columns(job.pool, by_descriptor, "copy_of", "similarity", len(table)),
        *_nearest_columns(job.clip_pool, by_clip, "like", "clip_similarity", len(table)),
        find_origins(table, job.pool, engine=engine, workers=workers),
    ).with_columns(novelty=_novelty(job.threshold, level))
    return Found(table.select(*NEAREST_SCHEMA), _record(job, level, told, by_clip, by_descriptor))


def _by_clip(job: Comparison, out: Path, sample: Sample) -> Nearest:
    look = job.clip_look
    sampled = (
        encode_sample(job.pool, sample, look)
        if job.carrier is None
        else vectors_of_sample(job.carrier.pool, sample, job.carrier.whose)
    )
    queries = Queries(encode_set(job.source, look), sampled, sample.own)
    # In this process: the model, or the product, has all its cores to itself.
    return find_nearest(out, job.clip_pool.shards, look, queries, workers=1)


def _by_descriptor(
    job: Comparison, out: Path, sample: Sample, *, engine: str, workers: int | None
) -> Nearest:
    look = DescriptorLook(job.descriptor)
    sampled = encode_sample(job.pool, sample, look)
    queries = Queries(encode_set(job.source, look), sampled, sample.own)
    if job.descriptor.name != "builtin":  # a network has all cores, or the GPU, to itself
        engine, workers = "local", 1
    return find_nearest(out, job.pool.shards, look, queries, engine=engine, workers=workers)


def encode_set(source: Path, look: Look) -> Floats:
    """The images of a set as they are seen, (n, d), shard by shard.

    Raises:
        SetError: one that cannot be decoded.
    """
    parts = []
    for table in iter_pairs(source, ["image"]):
        features = look.encode([data or b"" for data in table["image"].struct.field("bytes")])
        parts.append(features)
        broken = int((~features.any(axis=1)).sum())
        if broken:
            raise SetError(
                f"{source} has images that cannot be compared", expected="images that decode",
                seen=f"{broken:,} that do not, or are not there",
                do="Download or curate the set first.",
            )  # fmt: skip
    return np.concatenate(parts)


def _level(
    job: Comparison, by_clip: Nearest, by_descriptor: Nearest | None
) -> tuple[float | None, Json]:
    """Above which CLIP similarity an image is near, and how close the pool's own images come."""
    closest = by_clip.sampled.similarity
    seen = by_clip.seen
    twins = closest >= np.float32(EXACT)
    if by_descriptor is not None:
        twins = by_descriptor.sampled.similarity > np.float32(job.threshold)
        seen = seen & by_descriptor.seen
    level, told = near_level(closest[seen], twins[seen])
    if job.near is not None:
        return job.near, told
    if level is None:
        say(f"nothing is called near: too few images of pool {job.pool.name} to measure it on")
    return level, told


def _nearest_columns(
    pool: Pool, found: Nearest | None, of: str, similarity: str, size: int
) -> list[pl.Series]:
    """The id of the nearest pool image of each, and how similar it is; null where there is none."""
    if found is None:
        nothing = [None] * size
        return [pl.Series(of, nothing, pl.String), pl.Series(similarity, nothing, pl.Float32)]
    best = found.asked
    ids: list[str | None] = [None] * size
    for shard in pool.shards:
        at = np.flatnonzero(best.shard == shard.number)
        if len(at):
            table = read_table(shard, rows=best.row[at]).select("row", "key")
            key_of = dict(table.iter_rows())
            for i in at:
                ids[i] = f"{pool.name}:{key_of[best.row[i]]}"
    alike = [
        value if name else None for value, name in zip(best.similarity.tolist(), ids, strict=True)
    ]
    return [pl.Series(of, ids, pl.String), pl.Series(similarity, alike, pl.Float32)]


def _novelty(threshold: float, level: float | None) -> pl.Expr:
    """What an image is, from its nearest."""
    copied = pl.col("same_as").is_not_null() | _above("similarity", threshold)
    close = pl.lit(False) if level is None else _above("clip_similarity", level)
    return (
        pl.when(copied).then(pl.lit(MEMORIZED))
        .when(close).then(pl.lit(NEAR))
        .otherwise(pl.lit(NEW))
    )  # fmt: skip


def _above(similarity: str, level: float) -> pl.Expr:
    return (pl.col(similarity) > pl.lit(level, pl.Float32)).fill_null(False)


def _record(
    job: Comparison,
    level: float | None,
    told: Json,
    by_clip: Nearest,
    by_descriptor: Nearest | None,
) -> Json:
    """How the novelty came about: levels, the pool's own images, what was compared."""
    descriptor = None
    if by_descriptor is not None:
        descriptor = {"name": job.descriptor.name, "images": by_descriptor.images}
    return {
        "pool": job.pool.name,
        "pairs": sum(map(count_rows, job.pool.shards)),
        "threshold": job.threshold,
        "near": level,
        "measured": told,
        "descriptor": descriptor,
        "clip": {"images": by_clip.images, "vectors": job.carrier is not None},
    }


def _check_levels(*levels: float | None) -> None:
    for level in levels:
        if level is not None and not -1 <= level <= 1:
            raise InputError("a level out of range", expected="-1 to 1", seen=f"{level:g}")
