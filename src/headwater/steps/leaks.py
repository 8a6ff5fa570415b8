"""`leaks`: which pairs of a training set are copies of images it will be tested on.

    leaks.parquet     a row a pair: id, label, copy_of (as `test/rose/1.jpg`), similarity
    touched.parquet   a row an evaluation image that has a copy in the set: split, id

What follows from a leak is decided in ../gate.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headwater.curate.copies import nearest
from headwater.decode import Image8
from headwater.descriptors import Descriptor
from headwater.pairs import iter_pairs, sha256_of, shard_paths
from headwater.progress import track
from headwater.splits import read_image, split_files
from headwater.steps.described import References, describe_encoded, describe_kept, describe_splits
from headwater.steps.exam import split_digests
from headwater.store import Json, digest_file, digest_value, read_step, step, write_table
from headwater.task import Task

Floats = NDArray[np.float32]
Described = tuple[pl.DataFrame, Floats]  # id and label of some images, and their descriptors

LEAK_SCHEMA = {
    "id": pl.String,
    "label": pl.String,
    "copy_of": pl.String,
    "similarity": pl.Float32,
}
TOUCHED_SCHEMA = {"split": pl.String, "id": pl.String}
BLOCK = 1000  # images of a split described at once


def find_leaks(
    source: Path,
    task: Task,
    out: Path,
    *,
    splits: Sequence[str],
    descriptor: Descriptor,
    threshold: float | None = None,
) -> Json:
    """Compare every pair of a set with the images of some splits, into the folder `out`.

    Args:
        source: a finished set.
        task: whose splits are read.
        out: the new folder.
        splits: those the set must not hold copies of.
        descriptor: what copies are told by.
        threshold: similarity above which a pair is a copy; the descriptor's own by default.

    Returns:
        Counts: pairs, leaks, touched (evaluation images with a copy in the set), images (of the
        splits).

    Raises:
        TaskError: a split is not where the task says, or cannot be read.
    """
    inputs = {"set": read_step(source)["digest"]}
    images = _of_set(source, descriptor)
    return _compare(images, inputs, task, out, splits, descriptor, threshold)


def find_overlap(
    task: Task,
    out: Path,
    *,
    splits: Sequence[str],
    descriptor: Descriptor,
    threshold: float | None = None,
) -> Json:
    """Compare the task's own train split with others, as `find_leaks` compares a set.

    A linear probe is fitted on the train split, whatever an arm is trained on.
    """
    inputs = {"train": split_digests(task, ("train",))}
    images = _of_split(task, "train", descriptor)
    return _compare(images, inputs, task, out, splits, descriptor, threshold)


def _compare(
    images: Iterator[Described],
    inputs: Json,
    task: Task,
    out: Path,
    splits: Sequence[str],
    descriptor: Descriptor,
    threshold: float | None,
) -> Json:
    limit = descriptor.threshold if threshold is None else threshold
    asked = {"threshold": limit, "splits": list(splits)}
    told = {
        **inputs,
        "task": task.digest,
        "descriptor": descriptor.digest,
        "images": split_digests(task, tuple(splits)),
    }
    looked_at = next(iter(inputs))  # rejections make a set smaller: it is then looked at anew
    with step(out, "leaks", arguments=asked, inputs=told, may_change=(looked_at,)) as this:
        if not this.finished:
            references = _described(task, tuple(splits), descriptor, digest_value(told["images"]))
            pairs, leaks, touched = 0, [], np.zeros(len(references.names), bool)
            for rows, vectors in images:
                found, met = copies_among(rows, vectors, references, limit)
                leaks.append(found)
                touched |= met
                pairs += len(rows)
            table = pl.concat([pl.DataFrame(schema=LEAK_SCHEMA), *leaks]).sort("id", "label")
            write_table(out / "leaks.parquet", table)
            write_table(out / "touched.parquet", _named(references, touched))
            this.counts = {
                "pairs": pairs,
                "leaks": len(table),
                "touched": int(touched.sum()),
                "images": len(references.names),
            }
        return this.counts


@lru_cache(maxsize=2)
def _described(
    task: Task, splits: tuple[str, ...], descriptor: Descriptor, digest: str
) -> References:
    """Kept in memory, since every source is compared with them; `digest` tells splits apart."""
    return describe_splits(task, splits, descriptor)


def copies_among(
    rows: pl.DataFrame, vectors: Floats, references: References, limit: float
) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """The rows that are copies, each with what it is most similar to; which references have any."""
    similarity, index = nearest(vectors, references.descriptors)
    copied = similarity > np.float32(limit)
    names = [references.names[i] for i in index[copied]]
    found = (
        rows.select("id", "label")
        .filter(copied)
        .with_columns(
            pl.Series("copy_of", names, dtype=pl.String),
            pl.Series("similarity", similarity[copied], dtype=pl.Float32),
        )
    )
    if not copied.any():
        return found, np.zeros(len(references.names), bool)
    back, _ = nearest(references.descriptors, vectors[copied])
    return found, back > np.float32(limit)


def _named(references: References, touched: NDArray[np.bool_]) -> pl.DataFrame:
    names = [
        name.partition("/") for name, met in zip(references.names, touched, strict=True) if met
    ]
    return pl.DataFrame([(s, i) for s, _, i in names], schema=TOUCHED_SCHEMA, orient="row")


def _of_set(source: Path, descriptor: Descriptor) -> Iterator[Described]:
    """A set's pairs, shard by shard; the image's own bytes are what it is known by."""
    tables = iter_pairs(source, ["id", "label", "image"])
    label = f"leaks in {source.name}"
    for table in track(tables, label=label, total=len(shard_paths(source)), unit="shards"):
        data = table["image"].struct.field("bytes").to_list()
        digests = [sha256_of(one) for one in data]
        yield table, describe_encoded(descriptor, digests, data)


def _of_split(task: Task, split: str, descriptor: Descriptor) -> Iterator[Described]:
    """A split's images, in blocks."""
    files = split_files(task, split)
    blocks = [files[start : start + BLOCK] for start in range(0, len(files), BLOCK)]
    for block in track(blocks, label=f"leaks in the {split} split", unit="blocks"):
        table = pl.DataFrame(
            [(f"{split}/{name}", task.labels[index]) for name, _, index in block],
            schema={"id": pl.String, "label": pl.String}, orient="row",
        )  # fmt: skip
        digests = [digest_file(path) for _, path, _ in block]
        yield table, describe_kept(descriptor, digests, partial(_picture_at, block))


def _picture_at(files: list[tuple[str, Path, int]], row: int) -> Image8:
    return read_image(files[row][1])
