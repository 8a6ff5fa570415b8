"""`adapt`: one trial - CLIP trained on n pairs of one or several sets, with one seed and rate.

After every epoch the val split is predicted; per metric the best epoch's predictions and model
are kept. The test split is never read here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headwater.adapt.finetune import EncoderAndHead, finetune
from headwater.clip import Clip, Geometry, resize_images
from headwater.curate.budget import Budget, draw, share_out
from headwater.decode import Image8, decode_rgb
from headwater.errors import SetError
from headwater.evaluate import accuracy
from headwater.pairs import read_pairs
from headwater.steps.agreement import check_classes, check_mix
from headwater.steps.evaluate import model_digest, off_the_shelf_head
from headwater.steps.exam import (
    METRICS,
    Features,
    Floats,
    Sheets,
    encode,
    load_sheets,
    possible_metrics,
    predict_sheet,
    score,
    split_digests,
)
from headwater.steps.settings import Adaptation
from headwater.store import Json, read_step, step, write_json, write_table, write_text
from headwater.task import Task

MODELS = "models"
EXAM = ("train", "val")  # train for the probe, val to choose on


@dataclass(frozen=True)
class Lesson:
    """What a trial trains on: pixels (n, size, size, 3), class indices (n,), captions."""

    pixels: Image8
    targets: NDArray[np.int64]
    captions: list[str]


@dataclass(frozen=True)
class Best:
    """The best epoch so far by one metric, with its model and val predictions."""

    epoch: int
    val: float | None
    model: EncoderAndHead
    predictions: pl.DataFrame | None


def adapt(
    sets: Mapping[Path, float],
    task: Task,
    out: Path,
    *,
    clip: Clip,
    lr: float,
    n: int | None = None,
    seed: int = 0,
    how: Adaptation | None = None,
    objective: str = "cross_entropy",
    budget: Budget = "as_they_come",
    metrics: tuple[str, ...] = METRICS,
) -> Json:
    """Train `clip` on pairs of some sets and keep the best epoch per metric, in the folder `out`.

    Args:
        sets: finished sets with the share of the n pairs each gives.
        task: whose classes are learned, and whose val split chooses the epoch.
        out: the trial's folder.
        clip: the starting point; it is left as it is.
        lr: peak learning rate.
        n: number of pairs; all of them if None.
        seed: of the draw and of the training.
        how: the other settings of the training.
        objective: "cross_entropy" on labels, or "contrastive" on captions.
        budget: "as_they_come", or "balanced": of every class the same number, while it has them.
        metrics: what the best epoch is chosen by, each for itself.

    Returns:
        {metric: {"epoch": .., "val": accuracy or None}}.

    Raises:
        SetError: fewer pairs than asked for, a set for other classes, or ids that clash.
        RunError: the loss became NaN.
    """
    how = how or Adaptation()
    metrics = possible_metrics(task, metrics)
    arguments = {
        **how.model_dump(mode="json"),
        "lr": lr,
        "n": n,
        "seed": seed,
        "objective": objective,
        "budget": budget,
        "metrics": list(metrics),
    }
    inputs = {
        "sets": [[read_step(folder)["digest"], share] for folder, share in sets.items()],
        "task": task.digest,
        "model": clip.digest,
        "splits": split_digests(task, EXAM),
    }
    with step(out, "adapt", arguments=arguments, inputs=inputs) as this:
        if not this.finished:
            for folder in sets:
                check_classes(folder, task)
            check_mix(list(sets))
            lesson = draw_lesson(sets, task, clip.geometry, n=n, seed=seed, budget=budget)
            best, log = train(lesson, task, clip, metrics, lr, seed, objective, how)
            save(out, best, log, task)
            this.counts = {metric: {"epoch": b.epoch, "val": b.val} for metric, b in best.items()}
        return this.counts


def train(
    lesson: Lesson,
    task: Task,
    clip: Clip,
    metrics: tuple[str, ...],
    lr: float,
    seed: int,
    objective: str,
    how: Adaptation,
) -> tuple[dict[str, Best], list[Json]]:
    """Train on a lesson; the best epoch per metric, and one log row an epoch."""
    sheets = load_sheets(task, clip, EXAM)
    best: dict[str, Best] = {}
    seen: list[Json] = []

    def examine(epoch: int, now: EncoderAndHead) -> None:
        features = encode(now.clip, sheets)
        row: Json = {}
        for metric in metrics:
            predictions = predict_val(metric, features, sheets, now.head, task)
            row[metric] = None if predictions is None else accuracy(predictions)
            earlier = best.get(metric)
            if earlier is None or row[metric] is None or row[metric] > earlier.val:
                kept = EncoderAndHead(now.clip.copy(), now.head)
                best[metric] = Best(epoch, row[metric], kept, predictions)
        seen.append(row)

    _, log = finetune(
        clip,
        lesson.pixels,
        lesson.targets,
        lambda model: off_the_shelf_head(model, task),
        captions=lesson.captions,
        objective=objective,
        lr=lr,
        seed=seed,
        **how.model_dump(),
        on_epoch=examine,
    )
    return best, [{**told, **row} for told, row in zip(log, seen, strict=True)]


def predict_val(
    metric: str, features: Features, sheets: Sheets, head: Floats, task: Task
) -> pl.DataFrame | None:
    """Predictions on val; None where the task has none, so that the last epoch is kept."""
    if "val" not in sheets:
        return None
    scores = score(metric, features, sheets, head, split="val", refit=False)
    return predict_sheet(metric, "val", sheets["val"], scores, task.labels)


def save(out: Path, best: dict[str, Best], log: list[Json], task: Task) -> None:
    """Write what a trial leaves: val predictions, metrics, log, and a model per metric."""
    metrics: Json = {}
    for metric, kept in best.items():
        folder = out / MODELS / metric
        kept.model.clip.save(folder, head=kept.model.head, labels=task.labels)
        metrics[metric] = {"epoch": kept.epoch, "val": kept.val, "model": model_digest(folder)}
    predictions = [kept.predictions for kept in best.values() if kept.predictions is not None]
    if predictions:
        write_table(out / "predictions.parquet", pl.concat(predictions))
    write_json(out / "metrics.json", metrics)
    write_text(out / "log.jsonl", "".join(json.dumps(row) + "\n" for row in log))


def draw_lesson(
    sets: Mapping[Path, float],
    task: Task,
    geometry: Geometry,
    *,
    n: int | None,
    seed: int,
    budget: Budget = "as_they_come",
) -> Lesson:
    """N pairs of some sets, of each its share, in each set's own seeded order; nested over n."""
    labels = tuple(task.labels)
    lessons = [load_lesson(f, read_step(f)["digest"], labels, geometry) for f in sets]
    counts = share_out(n, list(sets.values()), [len(lesson.targets) for lesson in lessons])
    if budget == "balanced":
        refuse_unlabelled(sets, lessons)
    rows = [
        draw(lesson.targets, count, seed=seed, budget=budget)
        for lesson, count in zip(lessons, counts, strict=True)
    ]
    drawn = list(zip(lessons, rows, strict=True))
    return Lesson(
        np.concatenate([lesson.pixels[chosen] for lesson, chosen in drawn]),
        np.concatenate([lesson.targets[chosen] for lesson, chosen in drawn]),
        [lesson.captions[row] for lesson, chosen in drawn for row in chosen],
    )


def refuse_unlabelled(sets: Mapping[Path, float], lessons: list[Lesson]) -> None:
    """Raise `SetError` where classes cannot take turns, since pairs have none."""
    for folder, lesson in zip(sets, lessons, strict=True):
        unlabelled = int((lesson.targets < 0).sum())
        if unlabelled:
            raise SetError(
                f"{folder} cannot be drawn from class by class", expected="a label in every pair",
                seen=f"{unlabelled:,} pairs without", do="Draw them as they come.",
            )  # fmt: skip


@lru_cache(maxsize=8)
def load_lesson(folder: Path, digest: str, labels: tuple[str, ...], geometry: Geometry) -> Lesson:
    """All pairs of a set at the model's input size.

    Kept in memory, since a worker trains many trials on one set; `digest` tells sets apart.
    """
    pairs = read_pairs(folder, ["label", "caption", "image"])
    index = {label: i for i, label in enumerate(labels)}
    targets = np.array([index.get(label, -1) for label in pairs["label"]], np.int64)
    images = [decode_rgb(data) for data in pairs["image"].struct.field("bytes")]
    pixels = resize_images(images, **geometry._asdict())
    return Lesson(pixels, targets, pairs["caption"].fill_null("").to_list())
