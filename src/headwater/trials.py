"""Trials: one arm at one scale with one seed, at every learning rate; chosen on val, tested once.

    trials/arm=../n=../seed=../lr=../    val predictions, metrics, log (steps/adapt.py)
                                 test/METRIC/ predictions of the chosen rate (steps/evaluate.py)
                                 models/METRIC/ the chosen model, if kept

A heat is what one worker does: the trials of one (arm, n, seed), which differ in their rate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from headwater.clip import Clip, load_clip
from headwater.curate.budget import Budget
from headwater.errors import HeadwaterError
from headwater.recipe import OFF_THE_SHELF, ModelPlace
from headwater.steps.adapt import MODELS, adapt
from headwater.steps.evaluate import evaluate, open_folder
from headwater.steps.exam import possible_metrics
from headwater.steps.settings import Adaptation
from headwater.store import DONE, read_json, remove_folder
from headwater.task import Task


@dataclass(frozen=True)
class Heat:
    """The trials of one arm at one scale with one seed."""

    root: Path
    arm: str
    n: int
    seed: int
    lrs: tuple[float, ...]
    sets: tuple[tuple[Path, float], ...]
    objective: str
    task: Task
    learner: ModelPlace
    how: Adaptation
    metrics: tuple[str, ...]
    keep_models: str
    budget: Budget = "as_they_come"

    def folder(self, lr: float) -> Path:
        """The folder of the trial at one learning rate."""
        return trial_folder(self.root, self.arm, self.n, self.seed, lr)

    @property
    def measured(self) -> tuple[str, ...]:
        """The metrics the task's images allow."""
        return possible_metrics(self.task, self.metrics)

    @property
    def finished(self) -> bool:
        """Whether every rate is trained and the chosen ones are tested."""
        if not all((self.folder(lr) / DONE).exists() for lr in self.lrs):
            return False
        if not test_splits(self.task):
            return True
        return all((test_folder(self, metric) / DONE).exists() for metric in self.measured)


def trial_folder(root: Path, arm: str, n: int, seed: int, lr: float) -> Path:
    """Where a trial lies.

    Example:
        >>> trial_folder(Path("s"), "captions", 300, 0, 1e-5).as_posix()
        's/trials/arm=captions/n=300/seed=0/lr=1e-05'
    """
    return root / "trials" / f"arm={arm}" / f"n={n}" / f"seed={seed}" / f"lr={lr:g}"


def run_heat(heat: Heat) -> str | None:
    """Train at every rate, choose per metric on val, test the chosen once; the error, if any."""
    return rehearse(heat) or _error_of(heat, test_chosen)


def rehearse(heat: Heat) -> str | None:
    """Train at every rate and test nothing; the error, if any."""
    torch.set_num_threads(heat.how.threads)
    return _error_of(heat, train_all)


def train_all(heat: Heat) -> None:
    """Run the trials of every rate."""
    for lr in heat.lrs:
        train(heat, lr)


def test_chosen(heat: Heat) -> None:
    """Test the chosen trial of each metric, and keep the models that are to be kept."""
    for metric in heat.measured:
        test(heat, metric, choose(heat, metric))
    prune(heat)


def train(heat: Heat, lr: float) -> None:
    """Run one trial, unless it is done."""
    adapt(
        dict(heat.sets),
        heat.task,
        heat.folder(lr),
        clip=open_learner(heat.learner),
        n=heat.n,
        seed=heat.seed,
        lr=lr,
        how=heat.how,
        objective=heat.objective,
        budget=heat.budget,
        metrics=heat.metrics,
    )


def choose(heat: Heat, metric: str) -> float:
    """The learning rate with the best val accuracy; the lower one of equals.

    Without a val split nothing can be chosen: it is the first rate of the recipe.
    """
    if "val" not in heat.task.images:
        return heat.lrs[0]
    return max(sorted(heat.lrs), key=lambda lr: val_accuracy(heat.folder(lr), metric))


def val_accuracy(trial: Path, metric: str) -> float:
    """A trial's val accuracy at its best epoch."""
    return float(read_json(trial / "metrics.json")[metric]["val"])


def test(heat: Heat, metric: str, lr: float) -> None:
    """Predict every split but train and val with the chosen trial's model, once."""
    trial = heat.folder(lr)
    splits = test_splits(heat.task)
    if splits:
        digest = read_json(trial / "metrics.json")[metric]["model"]
        model = trial / MODELS / metric
        evaluate(
            lambda: open_folder(model, heat.task), digest, heat.task, test_folder(heat, metric),
            splits=splits, metrics=(metric,),
        )  # fmt: skip


def test_folder(heat: Heat, metric: str) -> Path:
    """Where the test predictions of the chosen trial lie."""
    return heat.folder(choose(heat, metric)) / "test" / metric


def test_splits(task: Task) -> tuple[str, ...]:
    """The splits that are never trained or chosen on."""
    return tuple(split for split in task.images if split not in ("train", "val"))


def prune(heat: Heat) -> None:
    """Delete the models that the recipe does not keep."""
    if heat.keep_models == "all":
        return
    chosen = {metric: choose(heat, metric) for metric in heat.measured}
    for lr in heat.lrs:
        for metric, best in chosen.items():
            if heat.keep_models == "none" or lr != best:
                remove_folder(heat.folder(lr) / MODELS / metric)


def reference_folder(root: Path) -> Path:
    """Where the predictions of the learner as it comes lie."""
    return trial_folder(root, OFF_THE_SHELF, 0, 0, 0.0)


@lru_cache(maxsize=2)
def open_learner(place: ModelPlace) -> Clip:
    """The learner, opened once a process."""
    return load_clip(
        place.model, pretrained=place.pretrained, config=place.config, activation=place.activation
    )


def _error_of(heat: Heat, work: Callable[[Heat], None]) -> str | None:
    try:
        work(heat)
    except HeadwaterError as error:
        return f"{heat.arm}, n={heat.n}, seed={heat.seed}: {error}"
    return None
