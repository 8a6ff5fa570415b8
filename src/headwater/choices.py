"""Choices: which of several sources an arm is trained on, decided on val before any test is read.

How to source is a hyperparameter like the learning rate: the paper took captions or neighbors,
whichever did better on validation images. Candidates are trained alike, at one scale, with every
seed and rate of the recipe; the arm then stays with the best, and the others are never tested.

    choices.json                  what was chosen, and every candidate's accuracy
    choosing/SOURCE/trials/       the candidates' trials; the chosen one's move to trials/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from headwater.store import read_json, remove_folder, write_json
from headwater.trials import Heat, choose, trial_folder, val_accuracy

CHOICES = "choices.json"
CHOOSING = "choosing"


@dataclass(frozen=True)
class Choice:
    """What an arm is trained on, and why."""

    source: str
    scale: int
    metric: str
    val: dict[str, float]  # source -> mean val accuracy over seeds; empty without a val split

    @property
    def sentence(self) -> str:
        """The choice in words, for outputs.

        Example:
            >>> Choice("captions", 300, "zero_shot", {"captions": 0.71, "neighbors": 0.7}).sentence
            'captions, by val zero_shot at 300 images (captions 71.0 %, neighbors 70.0 %)'
        """
        if not self.val:
            return f"{self.source}, the first named, since there is no val split to choose on"
        told = ", ".join(f"{name} {100 * value:.1f} %" for name, value in self.val.items())
        return f"{self.source}, by val {self.metric} at {self.scale:,} images ({told})"


def read_choices(root: Path) -> dict[str, Choice]:
    """The choices a study has made, by arm."""
    path = root / CHOICES
    told = read_json(path)["choices"] if path.exists() else {}
    return {arm: Choice(**choice) for arm, choice in told.items()}


def write_choices(root: Path, choices: Mapping[str, Choice]) -> None:
    """Write all choices down; they are settled from then on."""
    write_json(root / CHOICES, {"choices": {arm: asdict(c) for arm, c in choices.items()}})


def best_source(candidates: Mapping[str, Sequence[Heat]], metric: str) -> Choice:
    """The source whose trained candidates did best on val, the first named of equals.

    Args:
        candidates: for each source its heats, one a seed, all at one scale.
        metric: by which accuracy.
    """
    heats = next(iter(candidates.values()))
    if "val" not in heats[0].task.images:
        return Choice(next(iter(candidates)), heats[0].n, metric, {})
    val = {source: mean_accuracy(own, metric) for source, own in candidates.items()}
    return Choice(max(val, key=lambda source: val[source]), heats[0].n, metric, val)


def mean_accuracy(heats: Sequence[Heat], metric: str) -> float:
    """Val accuracy over seeds, each at its best rate and epoch."""
    return float(np.mean([val_accuracy(h.folder(choose(h, metric)), metric) for h in heats]))


def adopt(root: Path, arm: str, choice: Choice) -> None:
    """Move the chosen candidate's trials to where the arm's are, and clear the others away."""
    trials = trial_folder(root / CHOOSING / choice.source, arm, choice.scale, 0, 0).parents[1]
    home = root / "trials" / trials.parent.name / trials.name
    if trials.exists() and not home.exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        trials.rename(home)
    for source in choice.val:
        remove_folder(root / CHOOSING / source / "trials" / f"arm={arm}")
