"""A model before the task's splits: what is encoded once, and that keeping changes no number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import polars as pl
import pytest
from tests.tiny_clip import save_tiny_clip
from tests.tiny_garden import make_task

from headwater.clip import Clip, load_clip
from headwater.errors import TaskError
from headwater.steps.evaluate import evaluate, off_the_shelf_head
from headwater.store import read_json
from headwater.task import Task


class Watched(Clip):
    """A model that tells how many images it was shown at a time."""

    shown: ClassVar[list[int]] = []

    def encode_images(self, images, batch_size=None):
        self.shown.append(len(images))
        return super().encode_images(images, batch_size)


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """Six images to train on, four to choose by, six to test on."""
    return make_task(tmp_path)


@pytest.fixture
def clip(tmp_path: Path) -> Watched:
    plain = load_clip(save_tiny_clip(tmp_path / "clip"))
    Watched.shown = []
    return Watched(**{name: getattr(plain, name) for name in plain.__dataclass_fields__})


def evaluated(
    clip: Clip, task: Task, out: Path, *, kept: bool, **how: Sequence[str]
) -> pl.DataFrame:
    evaluate(lambda: (clip, off_the_shelf_head(clip, task)), "digest", task, out, kept=kept, **how)
    return pl.read_parquet(out / "predictions.parquet")


def test_every_image_is_encoded_once_for_all_metrics(
    clip: Watched, task: Task, tmp_path: Path
) -> None:
    evaluated(clip, task, tmp_path / "out", kept=False, splits=("val", "test"))
    assert sorted(clip.shown) == [4, 6, 6]
    measured = read_json(tmp_path / "out" / "metrics.json")
    assert set(measured) >= {"zero_shot", "linear_probe"}
    assert all(set(measured[m]) == {"val", "test"} for m in ("zero_shot", "linear_probe"))


def test_what_no_metric_needs_is_not_encoded(clip: Watched, task: Task, tmp_path: Path) -> None:
    evaluated(clip, task, tmp_path / "out", kept=False, metrics=("zero_shot",))
    assert clip.shown == [6]


def test_kept_features_give_the_same_predictions(
    clip: Watched, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_CACHE", str(tmp_path / "cache"))
    made = evaluated(clip, task, tmp_path / "made", kept=False)
    first = evaluated(clip, task, tmp_path / "first", kept=True)
    seen = len(clip.shown)
    again = evaluated(clip, task, tmp_path / "again", kept=True)
    assert len(clip.shown) == seen
    assert made.equals(first)
    assert made.equals(again)


def test_a_model_that_is_trained_keeps_nothing(
    clip: Watched, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_CACHE", str(tmp_path / "cache"))
    evaluated(replace(clip, digest=None), task, tmp_path / "out", kept=True)
    assert not (tmp_path / "cache").exists()


def test_a_split_the_task_lacks_is_refused_before_anything_is_written(
    clip: Watched, task: Task, tmp_path: Path
) -> None:
    with pytest.raises(TaskError, match="no holes split"):
        evaluated(clip, task, tmp_path / "out", kept=False, splits=("holes",))
    assert not (tmp_path / "out").exists()
