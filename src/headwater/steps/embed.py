"""`pool embed`: CLIP embeddings of a pool's images and captions, in clip-retrieval's layout.

One row a pair, in the pool's own order, with its key, so that vectors and pairs do not get out of
step; a row whose image cannot be decoded is NaN and is never found by its image. The metadata of a
shard is written last and means done.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headwater.clip import Clip, Floats
from headwater.clip.encoder import Encoder
from headwater.clip.precision import choose_precision
from headwater.errors import InputError, PoolError
from headwater.pool import (
    Pool,
    PoolShard,
    come_first,
    count_rows,
    has_images,
    metadata_path,
    open_pool,
    read_images,
    read_table,
)
from headwater.progress import say, track
from headwater.steps.selection import Selection, measure, save_sample, select, tell_prefilter
from headwater.store import Json, replacing, step, write_table
from headwater.task import Task

KINDS = ("images", "captions")
FOLDERS = {"images": "img_emb", "captions": "text_emb"}
FEW = 1_000  # pairs that are decoded sooner than workers are started

Vectors = NDArray[np.float16]
Rows = NDArray[np.int64]


class Done(NamedTuple):
    """How far a shard has come since: pairs of the pool dealt with, rows embedded."""

    pairs: int
    rows: int


def embed(
    pool_path: str | Path,
    out: Path,
    *,
    clip: Clip,
    only: str | None = None,
    prefilter: Task | None = None,
    sample: int = 2_000,
    seed: int = 0,
    batch_size: int = 256,
    precision: str = "auto",
    workers: int | None = None,
) -> Json:
    """Embed the images and captions of a pool into the folder `out`.

    Args:
        pool_path: the pool, with images unless only captions are embedded.
        out: the new folder; itself a pool in the `laion` layout, without images.
        clip: the model.
        only: "images" or "captions"; both if not given.
        prefilter: embed only the pairs whose caption shares a word with a class of this task.
        sample: pairs of the whole pool that the prefilter's recall is measured on.
        seed: of the sample.
        batch_size: images at a time.
        precision: float32, bf16, or auto: bf16 on a GPU that has it, float32 elsewhere.
        workers: processes that decode; None is one per core, or none for a small pool; 0 none.

    Returns:
        Counts: pairs, images and captions embedded, what cannot be decoded, pairs left out since an
        earlier one has their key, seconds, images per second; with a prefilter also the pairs of
        the pool and the recall.

    Raises:
        InputError: an `only` or a precision that does not exist, or a batch of nothing.
        PoolError: no images here, or a pool that cannot be read.
    """
    kinds = _kinds(only)
    _check_counts(batch_size, workers)
    pool = open_pool(pool_path)
    if "images" in kinds:
        _check_images(pool)
    arguments: Json = {"only": only, "batch_size": batch_size}
    arguments["precision"] = choose_precision(precision, clip.device)
    inputs = {"pool": pool.digest, "model": clip.digest}
    if prefilter is not None:
        arguments |= {"sample": sample, "seed": seed}
        inputs["task"] = prefilter.digest
    with step(out, "embed", arguments=arguments, inputs=inputs) as this:
        if this.finished:
            return this.counts
        sizes = [count_rows(shard) for shard in pool.shards]
        encoder = Encoder(
            clip, batch_size=batch_size, precision=arguments["precision"],
            workers=0 if workers is None and sum(sizes) < FEW else workers,
        )  # fmt: skip
        selection = select(prefilter, sizes, sample=sample, seed=seed)
        speed = _embed_shards(pool, sizes, out, encoder, kinds, selection)
        this.counts = _count(out, kinds, len(sizes)) | speed
        if prefilter is None:
            this.counts["repeated_keys"] = sum(sizes) - this.counts["pairs"]
        else:
            told = measure(prefilter, out, len(sizes), clip=clip, kinds=kinds)
            this.counts = {"pool_pairs": sum(sizes)} | this.counts | told
            say(tell_prefilter(this.counts))
        return this.counts


def embed_shard(
    shard: PoolShard,
    out: Path,
    *,
    encoder: Encoder,
    kinds: tuple[str, ...] = KINDS,
    selection: Selection | None = None,
) -> Iterator[Done]:
    """Embed one shard, yielding how far it has come; its metadata is written last."""
    kept, sampled = (selection or Selection()).rows(shard)
    table = read_table(shard, rows=np.union1d(kept, sampled))
    table = table.filter(come_first(shard, table))  # a key tells one image
    kept, sampled = (np.intersect1d(rows, table["row"].to_numpy()) for rows in (kept, sampled))
    places = [_places(table["row"].to_numpy(), rows) for rows in (kept, sampled)]
    measured: dict[str, Vectors] = {}
    left = count_rows(shard)
    for kind in reversed(kinds):  # captions first: they keep a GPU busy while images are decoded
        measured[kind] = np.full((len(sampled), encoder.clip.dim), np.nan, np.float16)
        with _vectors(out, kind, shard.number, (len(kept), encoder.clip.dim)) as vectors:
            for rows, features in _features(shard, table, encoder, kind):
                for array, place in zip((vectors, measured[kind]), places, strict=True):
                    _put(array, place[rows], features)
                counted = len(rows) if kind == kinds[0] else 0
                left -= counted
                yield Done(counted, counted)
    if len(sampled):
        save_sample(out, shard.number, measured, np.isin(sampled, kept))
    write_table(metadata_path(out, shard.number), _metadata(table.filter(places[0] >= 0)))
    yield Done(left, 0)


def _embed_shards(
    pool: Pool, sizes: list[int], out: Path, encoder: Encoder, kinds: tuple[str, ...],
    selection: Selection,
) -> Json:  # fmt: skip
    left = [shard for shard in pool.shards if not metadata_path(out, shard.number).exists()]
    done = (
        done
        for shard in left
        for done in embed_shard(shard, out, encoder=encoder, kinds=kinds, selection=selection)
    )
    unit = "pairs" if selection.words else kinds[0]
    total = sum(sizes[shard.number] for shard in left)
    began, rows = time.monotonic(), 0
    for part in track(done, label="embedding", total=total, unit=unit, size=lambda d: d.pairs):
        rows += part.rows
    seconds = time.monotonic() - began
    return {
        "seconds": round(seconds, 1),
        f"{kinds[0]}_per_second": round(rows / max(seconds, 1e-9), 1),
    }


def _features(
    shard: PoolShard, table: pl.DataFrame, encoder: Encoder, kind: str
) -> Iterator[tuple[Rows, Floats]]:
    if kind == "captions":
        yield from encoder.captions(enumerate(table["caption"].fill_null("").to_list()))
        return
    row = {key: number for number, key in enumerate(table["key"])}
    yield from encoder.images((row[key], data) for key, _, data in read_images(shard, list(row)))


def _places(rows: Rows, chosen: Rows) -> Rows:
    """Where each of the rows stands among the chosen ones, -1 if it is not chosen."""
    place = np.searchsorted(chosen, rows)
    place[~np.isin(rows, chosen)] = -1
    return place


def _put(array: Vectors, place: Rows, features: Floats) -> None:
    array[place[place >= 0]] = features[place >= 0]


@contextmanager
def _vectors(out: Path, kind: str, number: int, shape: tuple[int, int]) -> Iterator[Vectors]:
    """A float16 array on disk to be filled, NaN where it is not; whole or not there at all."""
    name = FOLDERS[kind]
    with replacing(out / name / f"{name}_{number:04d}.npy") as beside:
        array: Any = np.lib.format.open_memmap(beside, "w+", np.float16, shape)
        array[:] = np.nan
        yield array
        array.flush()


def _metadata(table: pl.DataFrame) -> pl.DataFrame:
    extra = [] if table["punsafe"].dtype == pl.Null else ["punsafe"]
    return table.select("key", "caption", "url", "nsfw", "sha256", *extra)


def _count(out: Path, kinds: tuple[str, ...], shards: int) -> Json:
    counts: Json = {}
    for kind in kinds:
        name = FOLDERS[kind]
        files = [out / name / f"{name}_{number:04d}.npy" for number in range(shards)]
        arrays = [np.load(path, mmap_mode="r", allow_pickle=False) for path in files]
        blank = sum(int(np.isnan(array[:, 0]).sum()) for array in arrays)
        counts["pairs"] = sum(len(array) for array in arrays)
        counts[kind] = counts["pairs"] - blank
    if "images" in kinds:
        counts["undecodable"] = counts["pairs"] - counts["images"]
    return counts


def _kinds(only: str | None) -> tuple[str, ...]:
    if only is None:
        return KINDS
    if only not in KINDS:
        raise InputError("unknown kind of embedding", expected=" or ".join(KINDS), seen=only)
    return (only,)


def _check_counts(batch_size: int, workers: int | None) -> None:
    if batch_size < 1 or (workers or 0) < 0:
        raise InputError(
            "nothing to embed with", expected="batches of 1 or more, 0 workers or more",
            seen=f"batches of {batch_size}, {workers} workers",
        )  # fmt: skip


def _check_images(pool: Pool) -> None:
    # Before anything is embedded: captions come first, and may take hours.
    for shard in pool.shards:
        if not has_images(shard):
            raise PoolError(
                f"{shard.name} has no images", expected="images beside captions",
                seen="captions and URLs only", do="Download it first, or embed --only captions.",
            )  # fmt: skip
