"""Sets, task and head mean the same classes, and sets of a mix the same pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.tiny_clip import tiny_clip
from tests.tiny_garden import CLASSES, import_set, make_task

from headwater.errors import ModelError, SetError
from headwater.pairs import read_pairs
from headwater.steps.adapt import adapt
from headwater.steps.agreement import check_classes, check_mix, empty_classes, first_difference
from headwater.steps.evaluate import open_folder
from headwater.steps.settings import Adaptation
from headwater.steps.synthesis.perturb import perturb
from headwater.steps.synthesis.settings import Perturbation
from headwater.task import Task


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return make_task(tmp_path)


@pytest.fixture
def made(tmp_path: Path, task: Task) -> Path:
    return import_set(tmp_path / "made", task, {"rose/1.png": 1, "fern/1.png": 2})


def other_task(classes: list[Any]) -> Task:
    return Task.model_validate({"format": 1, "name": "other", "classes": classes})


@pytest.mark.parametrize(
    ("classes", "why"),
    [
        (["fern", "rose"], "expected class 1 of 2 fern, saw rose"),
        (["rose", "fern", "yew"], "expected class 3 of 3 yew, saw none"),
        (["rose"], "expected no further class, saw fern"),
    ],
)
def test_a_set_for_other_classes_is_refused(made: Path, classes: list[str], why: str) -> None:
    with pytest.raises(SetError, match=why):
        check_classes(made, other_task(classes))


def test_a_set_for_other_classes_is_not_trained_on(tmp_path: Path, made: Path) -> None:
    with pytest.raises(SetError, match="not made for the classes of task other"):
        adapt({made: 1.0}, other_task(["fern", "rose"]), tmp_path / "m", clip=tiny_clip(), lr=1e-3)


def test_lists_that_agree_do_not_differ(task: Task, made: Path) -> None:
    assert first_difference(CLASSES, tuple(CLASSES)) is None
    check_classes(made, task)


def test_a_head_for_other_classes_is_refused(tmp_path: Path, task: Task) -> None:
    clip, head = tiny_clip(), np.zeros((2, 16), np.float32)
    clip.save(tmp_path / "swapped", head=head, labels=["fern", "rose"])
    clip.save(tmp_path / "nameless", head=np.zeros((3, 16), np.float32), labels=[])
    clip.save(tmp_path / "right", head=head, labels=CLASSES)
    with pytest.raises(ModelError, match="expected class 1 of 2 rose, saw fern"):
        open_folder(tmp_path / "swapped", task)
    with pytest.raises(ModelError, match="expected 2 classes, saw 3"):
        open_folder(tmp_path / "nameless", task)
    assert open_folder(tmp_path / "right", task)[1].shape == (2, 16)


def test_an_empty_class_is_named(tmp_path: Path, task: Task) -> None:
    made = import_set(tmp_path / "roses", task, {"rose/1.png": 1, "rose/2.png": 2})
    assert empty_classes(made, task) == ["fern"]


def test_one_id_with_two_images_cannot_be_mixed(tmp_path: Path, task: Task) -> None:
    one = import_set(tmp_path / "one", task, {"rose/1.png": 1, "fern/1.png": 2})
    two = import_set(tmp_path / "two", task, {"rose/1.png": 3, "fern/1.png": 2})
    with pytest.raises(SetError) as caught:
        check_mix([one, two])
    told = str(caught.value)
    assert "saw two to imported:rose/1.png as rose, and 1 such pairs" in told
    assert "another namespace than imported" in told
    with pytest.raises(SetError, match="ids clash"):
        adapt({one: 0.5, two: 0.5}, task, tmp_path / "m", clip=tiny_clip(), lr=1e-3)


def test_the_same_pairs_may_be_in_both_sets(tmp_path: Path, task: Task) -> None:
    one = import_set(tmp_path / "one", task, {"rose/1.png": 1, "fern/1.png": 2})
    two = import_set(tmp_path / "two", task, {"rose/1.png": 1, "rose/2.png": 3})
    assert check_mix([one, two]) == 1
    assert check_mix([one]) == check_mix([]) == 0


def test_a_perturbed_set_may_be_mixed_with_its_parent(tmp_path: Path, task: Task) -> None:
    parent = import_set(tmp_path / "one", task, {"rose/1.png": 1, "fern/1.png": 2})
    how = Perturbation(source="one", gamma=0, size=32, save_size=32)
    perturb(parent, task, tmp_path / "child", generator=None, how=how)
    ids = [read_pairs(f, ["id"])["id"].to_list() for f in (parent, tmp_path / "child")]
    assert ids[0] == ids[1]
    assert check_mix([parent, tmp_path / "child"]) == 0


def test_a_balanced_budget_trains_and_is_on_record(tmp_path: Path, task: Task) -> None:
    pictures = {f"rose/{i}.png": i for i in range(6)} | {"fern/1.png": 20, "fern/2.png": 21}
    made = import_set(tmp_path / "one", task, pictures)
    how = Adaptation(epochs=1, batch_size=4)
    told = {"clip": tiny_clip(), "lr": 1e-3, "n": 4, "how": how, "metrics": ("zero_shot",)}
    adapt({made: 1.0}, task, tmp_path / "m", budget="balanced", **told)
    arguments = json.loads((tmp_path / "m" / "step.json").read_text())["arguments"]
    assert (arguments["budget"], arguments["n"]) == ("balanced", 4)
    with pytest.raises(SetError, match=r"arguments\.budget as_they_come, saw balanced"):
        adapt({made: 1.0}, task, tmp_path / "m", **told)
