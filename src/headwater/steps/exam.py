"""What a model is examined on: the task's splits as pixels, and the two ways to score it.

`zero_shot` uses the model's own head; `linear_probe` fits a new head on the frozen encoder's
features of the train split. Both give scores (images, classes), from which everything follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headwater.adapt.probe import linear_probe
from headwater.clip import Clip, Geometry, resize_images
from headwater.decode import Image8
from headwater.errors import InputError
from headwater.evaluate import predictions_table
from headwater.features import KeptFeatures
from headwater.splits import load_split, split_digest, split_files
from headwater.store import digest_file
from headwater.task import Task

Floats = NDArray[np.float32]

ZERO_SHOT, LINEAR_PROBE = "zero_shot", "linear_probe"
METRICS = (ZERO_SHOT, LINEAR_PROBE)


@dataclass(frozen=True)
class Sheet:
    """One split at a model's input size: ids, class indices (n,), pixels (n, size, size, 3)."""

    ids: list[str]
    targets: NDArray[np.int64]
    pixels: Image8


Sheets = Mapping[str, Sheet]
Features = Mapping[str, Floats]


def load_sheets(task: Task, clip: Clip, splits: tuple[str, ...]) -> dict[str, Sheet]:
    """The named splits the task has, at the model's input size."""
    return {s: _sheet(task, s, clip.geometry) for s in splits if s in task.images}


def encode(clip: Clip, sheets: Sheets) -> dict[str, Floats]:
    """Features of every image of every split: {split: (n, d)}."""
    return {split: clip.encode_images(sheet.pixels) for split, sheet in sheets.items()}


def encode_once(clip: Clip, task: Task, sheets: Sheets) -> dict[str, Floats]:
    """The same features, kept for later steps and runs: for a model that is asked again."""
    kept = KeptFeatures(clip.features_digest)

    def look_up(split: str, sheet: Sheet) -> Floats:
        digests = [digest_file(path) for _, path, _ in split_files(task, split)]
        return kept.of(digests, lambda rows: clip.encode_images(sheet.pixels[rows]))

    return {split: look_up(split, sheet) for split, sheet in sheets.items()}


def possible_metrics(task: Task, metrics: tuple[str, ...]) -> tuple[str, ...]:
    """The metrics that can be measured: a probe needs train images."""
    return tuple(m for m in metrics if m != LINEAR_PROBE or "train" in task.images)


def score(
    metric: str, features: Features, sheets: Sheets, head: Floats, *, split: str, refit: bool
) -> Floats:
    """Scores (n, classes) of the images of one split.

    Args:
        metric: "zero_shot" or "linear_probe".
        features: of the split asked for, and for the probe of train and (if there) val.
        sheets: the targets that belong to the features.
        head: the zero-shot head (classes, d).
        split: whose scores.
        refit: probe on train + val once its strength is chosen, as for a test number.
    """
    if metric == ZERO_SHOT:
        return features[split] @ head.T
    if metric != LINEAR_PROBE:
        raise InputError("unknown metric", expected=" or ".join(METRICS), seen=metric)
    val = "val" if "val" in features else None
    probe = linear_probe(
        features["train"],
        sheets["train"].targets,
        features[split],
        val_x=features[val] if val else None,
        val_y=sheets[val].targets if val else None,
        classes=len(head),
        refit=refit,
    )
    return probe.scores


def predict_sheet(
    metric: str, split: str, sheet: Sheet, scores: Floats, labels: list[str]
) -> pl.DataFrame:
    """The predictions on a split: metric, split, id, label, predicted, score ..."""
    names = [labels[target] for target in sheet.targets]
    table = predictions_table(sheet.ids, names, scores, labels)
    return table.select(pl.lit(metric).alias("metric"), pl.lit(split).alias("split"), pl.all())


def split_digests(task: Task, splits: tuple[str, ...]) -> dict[str, str]:
    """Digests of the named splits the task has, for records."""
    return {split: _digest(task, split) for split in splits if split in task.images}


@lru_cache(maxsize=16)
def _digest(task: Task, split: str) -> str:
    return split_digest(task, split)


@lru_cache(maxsize=16)
def _sheet(task: Task, split: str, geometry: Geometry) -> Sheet:
    # Kept in memory, since a worker runs many trials of one task.
    images = load_split(task, split)
    return Sheet(images.ids, images.targets, resize_images(images.images, **geometry._asdict()))
