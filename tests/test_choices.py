"""Which source an arm takes: by val, the first named of equals, settled once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from headwater.choices import Choice, adopt, best_source, read_choices, write_choices
from headwater.recipe import ModelPlace
from headwater.steps.settings import Adaptation
from headwater.store import write_json
from headwater.task import Task
from headwater.trials import Heat, trial_folder

TASK = Task.model_validate(
    {"format": 1, "name": "garden", "classes": ["rose", "fern"], "images": {"val": "val"}}
)


def candidates(root: Path, reached: dict[str, list[float]], task: Task = TASK) -> dict:
    """Heats of some sources, one a seed, whose only trial reached these val accuracies."""
    heats: dict[str, list[Heat]] = {}
    for source, values in reached.items():
        for seed, value in enumerate(values):
            heat = Heat(
                root / "choosing" / source, "retrieved", 40, seed, (1e-3,), (), "cross_entropy",
                task, ModelPlace(model="m"), Adaptation(), ("zero_shot",), "none",
            )  # fmt: skip
            write_json(heat.folder(1e-3) / "metrics.json", {"zero_shot": {"val": value}})
            heats.setdefault(source, []).append(heat)
    return heats


@pytest.mark.parametrize(
    ("reached", "best"),
    [
        ({"captions": [0.5, 0.7], "neighbors": [0.6, 0.7]}, "neighbors"),
        ({"captions": [0.9, 0.3], "neighbors": [0.6, 0.5]}, "captions"),
        ({"captions": [0.5], "neighbors": [0.5]}, "captions"),
    ],
)
def test_the_best_mean_over_seeds_wins(
    tmp_path: Path, reached: dict[str, list[float]], best: str
) -> None:
    choice = best_source(candidates(tmp_path, reached), "zero_shot")
    assert (choice.source, choice.scale, list(choice.val)) == (best, 40, list(reached))
    assert choice.val[best] == pytest.approx(sum(reached[best]) / len(reached[best]))


def test_without_val_the_first_is_taken_and_said(tmp_path: Path) -> None:
    blind = TASK.model_copy(update={"images": {}})
    choice = best_source(candidates(tmp_path, {"b": [0.1], "a": [0.9]}, blind), "zero_shot")
    assert choice == Choice("b", 40, "zero_shot", {})
    assert choice.sentence == "b, the first named, since there is no val split to choose on"


def test_choices_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert read_choices(tmp_path) == {}
    choices = {"retrieved": Choice("a", 40, "zero_shot", {"a": 0.5, "b": 0.25})}
    write_choices(tmp_path, choices)
    assert read_choices(tmp_path) == choices


def test_the_winners_trials_move_and_the_others_go(tmp_path: Path) -> None:
    reached = {"captions": [0.5, 0.6], "neighbors": [0.4, 0.4]}
    choice = best_source(candidates(tmp_path, reached), "zero_shot")
    for _ in range(2):  # a run that was killed in between does it again
        adopt(tmp_path, "retrieved", choice)
        trials = [trial_folder(tmp_path, "retrieved", 40, seed, 1e-3) for seed in (0, 1)]
        assert all((trial / "metrics.json").exists() for trial in trials)
        assert not list((tmp_path / "choosing").rglob("metrics.json"))


def test_a_scale_that_was_trained_already_stays(tmp_path: Path) -> None:
    choice = best_source(candidates(tmp_path, {"a": [0.5], "b": [0.4]}), "zero_shot")
    mine = trial_folder(tmp_path, "retrieved", 40, 0, 1e-3) / "metrics.json"
    write_json(mine, {"zero_shot": {"val": 0.125}})
    before = mine.read_bytes()
    adopt(tmp_path, "retrieved", replace(choice, source="a"))
    assert mine.read_bytes() == before
