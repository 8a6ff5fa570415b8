"""`curate`: a set -> a set of its best pairs, free of copies of the evaluation images.

    pixels      every image passes one pixel path: same size, same codec for every source
    top_scored  per class, by CLIP similarity to the class's texts
    no_copy     not a copy of an image of the splits it will be tested on

Each gate writes a decision for every pair it drops.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headwater.clip import Clip, resize_images
from headwater.curate.copies import find_copies
from headwater.curate.score import class_scores
from headwater.curate.select import explain_top
from headwater.decode import decode_rgb, encode_jpeg
from headwater.descriptors import describe
from headwater.errors import SetError
from headwater.pairs import (
    WAITING,
    decide,
    image_column,
    join_decisions,
    read_decisions,
    read_funnel,
    read_shard,
    sha256_of,
    shard_paths,
)
from headwater.progress import say, track
from headwater.splits import load_split, split_digest
from headwater.steps.sets import Part, finish_set, make_parts, sift_decodable
from headwater.steps.settings import Curation
from headwater.store import WORK, Json, read_step, replacing, step, write_table
from headwater.task import Task

GATES = ("pixels", "top_scored", "no_copy")
USUAL_SPLITS = ("train", "val", "test")  # a task may do without any of them


def curate(source: Path, task: Task, out: Path, *, clip: Clip, how: Curation | None = None) -> Json:
    """Make the set `out` of the best pairs of the set `source`.

    Args:
        source: a finished set.
        task: whose filter prompts score, and whose splits must not leak in.
        out: the new set's folder.
        clip: the model that scores.
        how: the settings; the paper's constants by default.

    Returns:
        Pairs left after each gate, those of the source first.

    Raises:
        SetError: the source is unfinished, or holds a label the task does not have.
    """
    how = how or Curation()
    splits = known_splits(task, how.against)
    earlier_gates = read_funnel(source)["steps"]
    if GATES[-1] in earlier_gates:
        raise SetError(
            f"{source} is curated already", expected="a set as it was sourced",
            seen=", ".join(earlier_gates), do="Curate the set it was made from.",
        )  # fmt: skip
    refuse_waiting(source)
    inputs = {
        "set": read_step(source)["digest"],
        "task": task.digest,
        "model": clip.digest,
        "splits": {split: split_digest(task, split) for split in splits},
    }
    with step(out, "curate", arguments=how.model_dump(mode="json"), inputs=inputs) as this:
        if this.finished:
            return this.counts
        shards = shard_paths(source)
        for number, path in enumerate(track(shards, label="one pixel path, features")):
            prepare(path, number, out, clip=clip, how=how)
        verdicts = judge(out, len(shards), task=task, splits=splits, clip=clip, how=how)
        earlier = read_decisions(source).filter(~pl.col("kept"))
        jobs = [
            (out, number, verdicts[number], earlier if number == 0 else earlier.clear())
            for number in range(len(shards))
        ]
        make_parts(out, _part, jobs, label="writing the set", workers=1)
        gates = [*earlier_gates, *GATES]
        labels = list(read_funnel(source)["classes"])
        title = f"{task.name}: curated"
        finish_set(this, labels=labels, gates=gates, title=title, story=_story(how, splits))
        return this.counts


def refuse_waiting(source: Path) -> None:
    """Raise `SetError` if pairs of a set are URLs only, since a curated set is one with images."""
    rows = read_funnel(source)["classes"].values()
    waiting = sum(row.get(WAITING, 0) for row in rows)
    if waiting:
        raise SetError(
            f"{source} has pairs that are URLs only", expected="an image in every pair",
            seen=f"{waiting:,} pairs without",
            do="Download them, with img2dataset for one, and retrieve from the result.",
        )  # fmt: skip


def known_splits(task: Task, against: Sequence[str]) -> list[str]:
    """The splits to compare with, of those asked for; one the task may lack is told, not refused.

    Raises:
        TaskError: a split that neither the task nor anybody else has.
    """
    for split in against:
        if split not in task.images and split not in USUAL_SPLITS:
            task.folder(split)
    splits = [split for split in against if split in task.images]
    if against and not splits:
        say(f"task {task.name} has no {' or '.join(against)} images: no decontamination")
    return splits


def prepare(path: Path, number: int, out: Path, *, clip: Clip, how: Curation) -> None:
    """One shard through the pixel path: images, features and dropped rows wait in `work/`."""
    features = _features_path(out, number)
    if features.exists():
        return
    part = sift_decodable(read_shard(path), gate="pixels")
    pairs, broken = part.pairs, part.decisions.filter(~pl.col("kept"))
    pictures = [decode_rgb(data) for data in pairs["image"].struct.field("bytes")]
    square = resize_images(pictures, how.size)
    data = [encode_jpeg(image, quality=how.quality) for image in square]
    names = [f"{Path(name or 'image').stem}.jpg" for name in pairs["image"].struct.field("path")]
    digests = pl.Series("sha256", [sha256_of(d) for d in data], dtype=pl.String)
    write_table(_pixels_path(out, number), pairs.with_columns(image_column(data, names), digests))
    write_table(_broken_path(out, number), broken)
    seen = [decode_rgb(d) for d in data]
    vectors = clip.encode_images(seen) if seen else np.zeros((0, clip.dim), np.float32)
    with replacing(features) as beside, beside.open("wb") as file:
        np.save(file, vectors, allow_pickle=False)


def judge(
    out: Path, shards: int, *, task: Task, splits: list[str], clip: Clip, how: Curation
) -> list[pl.DataFrame]:
    """What becomes of every prepared pair: per shard, the columns step, reason (null: kept), score.

    The rules look at whole classes, so all shards are judged together.
    """
    rows = [_labels(out, number) for number in range(shards)]
    table = pl.concat(
        [labels.with_columns(shard=pl.lit(number)) for number, labels in enumerate(rows)]
    )
    features = np.concatenate([np.load(_features_path(out, n)) for n in range(shards)])
    if how.score:
        scores, reasons = score_and_select(features, table["label"].to_list(), task, clip, how)
    else:
        scores, reasons = np.full(len(table), np.nan, np.float32), [None] * len(table)
    table = table.with_columns(
        pl.Series("score", scores, dtype=pl.Float32).fill_nan(None),
        pl.Series("reason", reasons, dtype=pl.String),
    ).with_columns(step=pl.when(pl.col("reason").is_not_null()).then(pl.lit("top_scored")))
    references, names = describe_splits(task, splits)
    judged = []
    for number in range(shards):
        part = table.filter(pl.col("shard") == number).drop("shard")
        judged.append(drop_copies(out, number, part, references, names, how.copy_threshold))
    return judged


def score_and_select(
    features: NDArray[np.float32], labels: list[str], task: Task, clip: Clip, how: Curation
) -> tuple[NDArray[np.float32], list[str | None]]:
    """CLIP similarity of each image to its class, and why a pair is dropped (None: kept)."""
    index = {label: i for i, label in enumerate(task.labels)}
    unknown = next((label for label in labels if label not in index), None)
    if unknown is not None:
        raise SetError(
            f"the set has a label that task {task.name} lacks", expected=", ".join(task.labels[:5]),
            seen=unknown or "pairs without a label", do="Curate it with `score: false`.",
        )  # fmt: skip
    classes = np.array([index[label] for label in labels], np.int64)
    texts = clip.class_text_features(task.names, task.prompts.filter)
    scores = class_scores(features, classes, texts, aggregate=how.aggregate)
    reasons = explain_top(
        scores, classes, fraction=how.fraction, cap=how.cap, threshold=how.threshold
    )
    return scores, reasons


def describe_splits(task: Task, splits: list[str]) -> tuple[NDArray[np.float32], list[str]]:
    """Copy descriptors of evaluation images, and what each is called."""
    described, names = [], []
    for split in splits:
        images = load_split(task, split)
        described.append(describe(images.images))
        names += [f"{split}/{name}" for name in images.ids]
    if not described:
        return np.zeros((0, 0), np.float32), []
    return np.concatenate(described), names


def drop_copies(
    out: Path,
    number: int,
    judged: pl.DataFrame,
    references: NDArray[np.float32],
    names: list[str],
    threshold: float | None,
) -> pl.DataFrame:
    """Mark the still kept pairs of a shard that are copies of a reference."""
    kept = judged["reason"].is_null()
    if not names or not kept.any():
        return judged
    images = read_shard(_pixels_path(out, number), ["image"]).filter(kept)
    pictures = [decode_rgb(data) for data in images["image"].struct.field("bytes")]
    copied = np.full(len(judged), -1, np.int64)
    copied[kept.to_numpy()] = find_copies(describe(pictures), references, threshold=threshold)
    reasons = [f"copy of {names[i]}" if i >= 0 else None for i in copied]
    found = pl.Series("copy", reasons, dtype=pl.String)
    return judged.with_columns(
        reason=pl.coalesce("reason", found),
        step=pl.when(found.is_not_null()).then(pl.lit("no_copy")).otherwise("step"),
    )


def _part(job: tuple[Path, int, pl.DataFrame, pl.DataFrame]) -> Part:
    out, number, judged, earlier = job
    pairs = read_shard(_pixels_path(out, number)).with_columns(
        judged["score"].alias("clip_score"), judged["step"], judged["reason"]
    )
    dropped = pairs.filter(pl.col("reason").is_not_null())
    kept = pairs.filter(pl.col("reason").is_null()).drop("step", "reason")
    decisions = [
        earlier,
        read_shard(_broken_path(out, number)),
        *(
            decide(rows, kept=False, step=str(gate[0]), reason=pl.col("reason"), score="clip_score")
            for gate, rows in dropped.group_by("step", maintain_order=True)
        ),
        decide(kept, kept=True, step="no_copy", reason="kept", score="clip_score"),
    ]
    return Part(kept, join_decisions(decisions))


def _story(how: Curation, splits: list[str]) -> str:
    pixels = f"Every image is {how.size} x {how.size} pixels, JPEG quality {how.quality}."
    share = "all" if how.fraction is None else f"the top {how.fraction:.0%}"
    scored = f"Of each class {share} by CLIP score are kept." if how.score else "Nothing is scored."
    if splits:
        copies = f"Copies of the {' and '.join(splits)} images are dropped."
    elif how.against:
        copies = "Decontamination was not possible: the task has no such images."
    else:
        copies = "Nothing is compared with evaluation images."
    return " ".join((pixels, scored, copies))


def _labels(out: Path, number: int) -> pl.DataFrame:
    return read_shard(_pixels_path(out, number), ["id", "label"])


def _pixels_path(out: Path, number: int) -> Path:
    return out / WORK / f"pixels-{number:05d}.parquet"


def _broken_path(out: Path, number: int) -> Path:
    return out / WORK / f"broken-{number:05d}.parquet"


def _features_path(out: Path, number: int) -> Path:
    return out / WORK / f"features-{number:05d}.npy"
