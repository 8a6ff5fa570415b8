"""`curate --calibrate`: set, task -> a page that shows where copies begin.

Every image of the set is compared with the evaluation images; the pairs around the threshold stand
side by side on the page. Where the task has a train split, some of its images are changed in the
ways copies are, which tells what a threshold would catch, and suggests one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from headwater.curate.calibration import calibrate_threshold, closest_others
from headwater.curate.changes import CHANGES
from headwater.curate.copies import nearest
from headwater.decode import Image8, encode_png
from headwater.descriptors import Descriptor
from headwater.errors import SetError, TaskError
from headwater.features import KeptFeatures
from headwater.pairs import read_shard, shard_paths
from headwater.progress import track
from headwater.report.calibration import render_calibration
from headwater.splits import read_image, split_files
from headwater.steps.curation.candidates import PIXELS
from headwater.steps.described import References, describe_encoded, describe_kept, describe_splits
from headwater.steps.sets import sift_decodable
from headwater.steps.thumbnails import thumbnails, thumbnails_of_task
from headwater.store import Json, check_page, digest_file, write_text
from headwater.task import Task

Floats = NDArray[np.float32]

SHOWN = 20  # pairs on either side of the threshold
SAMPLE = 200  # train images that are changed
SIDE = 160  # of a picture on the page, pixels
STEPS = (-0.15, -0.1, -0.05, 0.05, 0.1, 0.15)  # further thresholds that are counted
BINS = 60
BLOCK = 32  # changed pictures held at once
PAIR = ("id", "label", "copy_of", "similarity")


@dataclass(frozen=True)
class Measured:
    """Train images whose likeness to others and to their own copies is known."""

    images: int
    own: dict[str, Floats]  # per change, of each image to itself after it
    others: Floats  # of each image to the most similar evaluation image
    suggested: float

    def caught(self, threshold: float) -> dict[str, float]:
        """The share of the copies of each kind above a threshold."""
        limit = np.float32(threshold)
        return {change: float((own > limit).mean()) for change, own in self.own.items()}

    def mistaken(self, threshold: float) -> float:
        """The share of images that are no copies above a threshold."""
        return float((self.others > np.float32(threshold)).mean())


def calibrate(
    folder: Path,
    task: Task,
    page: Path,
    *,
    descriptor: Descriptor,
    threshold: float | None = None,
    splits: Sequence[str] = ("test",),
    shown: int = SHOWN,
    seed: int = 0,
) -> Json:
    """Write a page with the pairs around the threshold that makes a copy.

    Args:
        folder: a finished set, sourced or curated; its images are compared as they are in it.
        task: whose evaluation images nothing may be a copy of.
        page: the HTML file to write.
        descriptor: what copies are told by.
        threshold: similarity above which an image is a copy; the descriptor's own by default.
        splits: what to compare with; those the task lacks are left out.
        shown: pairs shown on either side of the threshold.
        seed: which train images are changed.

    Returns:
        What the page tells: task, set, descriptor, splits, references, images (distinct ones that
        decode), threshold, copies; `thresholds`, how many images each would drop; `suggested` and
        `measured`, null without a train split; `above` and `below`, the pairs shown; `histogram`.

    Raises:
        SetError: an unfinished set, or one without an image.
        TaskError: no split to compare with, or a broken image in one.
        InputError: no place for the page.
    """
    check_page(page)
    chosen = [split for split in splits if split in task.images]
    if not chosen:
        raise TaskError(
            f"task {task.name} has no {' or '.join(splits)} images",
            expected="images to compare with", seen=", ".join(task.images) or "no images at all",
        )  # fmt: skip
    shards = shard_paths(folder)
    references = describe_splits(task, chosen, descriptor)
    table = pl.concat(_compare(shards, references, descriptor))
    table = table.unique("sha256", keep="first", maintain_order=True)
    if not len(table):
        raise SetError(f"{folder} has nothing to compare", expected="images", seen="none")
    measured = _measure(task, references, descriptor, seed) if "train" in task.images else None
    limit = descriptor.threshold if threshold is None else threshold
    told = {
        "task": task.name,
        "set": folder.name,
        "splits": chosen,
        "references": len(references.names),
        "descriptor": {"name": descriptor.name, "threshold": descriptor.threshold},
        **_tell(table, limit, descriptor.threshold, measured, shown),
    }
    pictures = _pictures(folder, task, [*told["above"], *told["below"]])
    write_text(page, render_calibration(told, pictures))
    return told


def _compare(
    shards: Sequence[Path], references: References, descriptor: Descriptor
) -> Iterator[pl.DataFrame]:
    """Each image with its most similar reference, shard by shard."""
    for path in track(shards, label="comparing images", unit="shards"):
        pairs = sift_decodable(
            read_shard(path, ["id", "label", "image", "sha256"]), gate=PIXELS
        ).pairs
        data = pairs["image"].struct.field("bytes").to_list()
        described = describe_encoded(descriptor, pairs["sha256"].to_list(), data)
        similarity, index = nearest(described, references.descriptors)
        names = [references.names[i] for i in index]
        yield pairs.select("id", "label", "sha256").with_columns(
            pl.Series("copy_of", names, dtype=pl.String),
            pl.Series("similarity", similarity, dtype=pl.Float32),
        )


def _measure(
    task: Task, references: References, descriptor: Descriptor, seed: int
) -> Measured | None:
    """Some train images against evaluation images that are not train, and against their copies."""
    files = [path for _, path, _ in split_files(task, "train")]
    if len(files) < 2:
        return None
    chosen = np.random.default_rng(seed).permutation(len(files))[:SAMPLE]
    paths = [files[row] for row in np.sort(chosen)]
    digests = [digest_file(path) for path in paths]
    originals = describe_kept(descriptor, digests, lambda row: read_image(paths[row]))
    changes = track(list(CHANGES), label="changing train images", unit="changes")
    copies = {change: _describe_changed(change, paths, descriptor) for change in changes}
    apart = [not name.startswith("train/") for name in references.names]
    others = references.descriptors[apart] if any(apart) else None
    return Measured(
        images=len(paths),
        own={c: np.einsum("nd,nd->n", originals, changed) for c, changed in copies.items()},
        others=closest_others(originals) if others is None else nearest(originals, others)[0],
        suggested=round(calibrate_threshold(originals, list(copies.values()), others=others), 4),
    )


def _describe_changed(change: str, paths: Sequence[Path], descriptor: Descriptor) -> Floats:
    """Descriptors of pictures after a change; what they are kept by is the pixels it left."""

    def changed(row: int) -> Image8:
        return np.asarray(CHANGES[change](Image.fromarray(read_image(paths[row]))).convert("RGB"))

    digests = [hashlib.sha256(encode_png(changed(row))).hexdigest() for row in range(len(paths))]
    return KeptFeatures(descriptor.digest).of(
        digests,
        lambda rows: descriptor.describe(changed(row) for row in rows.tolist()),
        block=BLOCK,
    )


def _tell(
    table: pl.DataFrame, limit: float, published: float, measured: Measured | None, shown: int
) -> Json:
    """The numbers of the page."""
    similarity = table["similarity"].to_numpy()
    order = ["similarity", "id", "label"]
    copies = similarity > np.float32(limit)
    above = table.filter(copies).sort(order).head(shown).reverse()
    below = table.filter(~copies).sort(order, descending=[True, False, False]).head(shown)
    return {
        "images": len(table),
        "threshold": limit,
        "copies": int(copies.sum()),
        "suggested": measured.suggested if measured else None,
        "thresholds": [
            {"threshold": value, "in_use": value == limit, **_effect(value, similarity, measured)}
            for value in _thresholds(limit, published, measured)
        ],
        "measured": _told_changes(measured, limit) if measured else None,
        "above": above.select(PAIR).to_dicts(),
        "below": below.select(PAIR).to_dicts(),
        "histogram": _histogram(similarity),
    }


def _thresholds(limit: float, published: float, measured: Measured | None) -> list[float]:
    """The threshold in use, those that could be, and some around; rising."""
    around = [round(limit + step, 4) for step in STEPS]
    own = [limit, published, *([measured.suggested] if measured else [])]
    return sorted({value for value in (*around, *own) if -1 < value < 1})


def _effect(threshold: float, similarity: Floats, measured: Measured | None) -> Json:
    """What a threshold would drop of the set, and catch and mistake of what was measured."""
    caught = measured.caught(threshold).values() if measured else ()
    return {
        "copies": int((similarity > np.float32(threshold)).sum()),
        "caught": min(caught, default=None),
        "mistaken": measured.mistaken(threshold) if measured else None,
    }


def _told_changes(measured: Measured, limit: float) -> Json:
    now, then = measured.caught(limit), measured.caught(measured.suggested)
    return {
        "images": measured.images,
        "mistaken": {
            "threshold": measured.mistaken(limit),
            "suggested": measured.mistaken(measured.suggested),
        },
        "changes": [
            {"change": change, "threshold": now[change], "suggested": then[change]}
            for change in measured.own
        ],
    }


def _histogram(similarity: Floats) -> list[Json]:
    """How many images lie in each of some equal stretches of similarity."""
    values = similarity.astype(np.float64)
    low, high = min(0.0, np.floor(values.min() * 10) / 10), max(1.0, values.max())
    counts, ends = np.histogram(values, bins=BINS, range=(low, high))
    edges = ends.round(4).tolist()
    stretches = zip(edges[:-1], edges[1:], counts.tolist(), strict=True)
    return [{"from": left, "to": right, "images": n} for left, right, n in stretches]


def _pictures(
    folder: Path, task: Task, pairs: Sequence[Json]
) -> list[tuple[bytes | None, bytes | None]]:
    """Each pair as two small JPEGs: the image of the set, and its reference."""
    schema = {"id": pl.String, "label": pl.String}
    wanted = pl.DataFrame([(pair["id"], pair["label"]) for pair in pairs], schema, orient="row")
    small = thumbnails(folder, wanted, side=SIDE)
    references = thumbnails_of_task(task, [pair["copy_of"] for pair in pairs], side=SIDE)
    return [
        (small.get((pair["id"], pair["label"])), references.get(pair["copy_of"])) for pair in pairs
    ]
