"""`evaluate`: a model's predictions on splits of a task, and the metrics that follow from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headwater.adapt.head import zero_shot_head
from headwater.clip import HEAD_NAME, WEIGHTS_NAME, Clip, load_clip, load_head
from headwater.errors import ModelError
from headwater.evaluate import measure
from headwater.steps.agreement import first_difference
from headwater.steps.exam import (
    LINEAR_PROBE,
    METRICS,
    encode,
    encode_once,
    load_sheets,
    possible_metrics,
    predict_sheet,
    score,
    split_digests,
)
from headwater.store import Json, digest_file, step, write_json, write_table
from headwater.task import Task

Opened = tuple[Clip, NDArray[np.float32]]  # a model and its head


def evaluate(
    open_model: Callable[[], Opened],
    digest: str,
    task: Task,
    out: Path,
    *,
    splits: tuple[str, ...] = ("test",),
    metrics: tuple[str, ...] = METRICS,
    kept: bool = False,
) -> Json:
    """Predict the images of some splits and measure the predictions, into the folder `out`.

    Args:
        open_model: gives the model and its head; called only if there is work to do.
        digest: what identifies the model.
        task: whose splits are read.
        out: the new folder: `predictions.parquet` and `metrics.json`.
        splits: to predict.
        metrics: "zero_shot", "linear_probe"; a probe is fitted on train (+ val).
        kept: keep the features for later runs, as of a model that many studies begin with.

    Returns:
        {metric: {split: {"top1": .., ...}}}.
    """
    for split in splits:
        task.folder(split)
    needed = tuple(dict.fromkeys((*splits, "train", "val")))
    arguments = {"splits": list(splits), "metrics": list(metrics)}
    inputs = {"model": digest, "task": task.digest, "splits": split_digests(task, needed)}
    with step(out, "evaluate", arguments=arguments, inputs=inputs) as this:
        if this.finished:
            return this.counts
        clip, head = open_model()
        metrics = possible_metrics(task, metrics)
        sheets = load_sheets(task, clip, needed if LINEAR_PROBE in metrics else splits)
        features = encode_once(clip, task, sheets) if kept else encode(clip, sheets)
        tables = [
            predict_sheet(
                metric, split, sheets[split],
                score(metric, features, sheets, head, split=split, refit=True), task.labels,
            )
            for metric in metrics
            for split in splits
        ]  # fmt: skip
        predictions = pl.concat(tables)
        write_table(out / "predictions.parquet", predictions)
        this.counts = measure_all(predictions)
        write_json(out / "metrics.json", this.counts)
        return this.counts


def measure_all(predictions: pl.DataFrame) -> Json:
    """Every metric of `headwater.evaluate` for each (metric, split) of a predictions table."""
    told: Json = {}
    for (metric, split), table in predictions.group_by("metric", "split", maintain_order=True):
        told.setdefault(str(metric), {})[str(split)] = measure(table)
    return told


def open_folder(folder: Path, task: Task) -> Opened:
    """A model folder's CLIP and head; the zero-shot head of the task where it has none.

    Raises:
        ModelError: the head belongs to other classes than the task's.
    """
    clip = load_clip(folder)
    if not (folder / HEAD_NAME).exists():
        return clip, off_the_shelf_head(clip, task)
    head, labels = load_head(folder)
    differ = first_difference(task.labels, labels) if labels else None
    if not labels and len(head) != len(task.labels):
        differ = f"{len(task.labels):,} classes", f"{len(head):,}"
    if differ:
        raise ModelError(
            f"the head of {folder} was not made for the classes of task {task.name}",
            expected=differ[0], seen=differ[1], do="Name the task it was made for.",
        )  # fmt: skip
    return clip, head


def off_the_shelf_head(clip: Clip, task: Task) -> NDArray[np.float32]:
    """The head the task's evaluation prompts make."""
    texts = clip.class_text_features(task.names, task.prompts.evaluation)
    return zero_shot_head(texts, clip.logit_scale)


def model_digest(folder: Path) -> str:
    """What identifies a model folder: the digest of its weights."""
    weights = folder / WEIGHTS_NAME
    if not weights.is_file():
        raise ModelError(f"no model in {folder}", expected=WEIGHTS_NAME, seen="no such file")
    return digest_file(weights)
