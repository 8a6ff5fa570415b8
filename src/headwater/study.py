"""The study: a recipe run from task to report, resuming what was started, extending what is done.

    sourced/ -> curated/ -> trials/ -> results.parquet -> verdict.json -> report.html

This file orders steps and nothing else: what a step does is in `steps/`, how a source becomes a set
in `sourcing.py`, what a trial does in `trials.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl
import yaml

from headwater.choices import (
    CHOOSING,
    Choice,
    adopt,
    best_source,
    read_choices,
    write_choices,
)
from headwater.clip import Clip
from headwater.engine import run_shards
from headwater.errors import RunError, SetError
from headwater.findings import TEST, judge, tell_results, without_copies
from headwater.gate import Gate, pass_gate, touched_ids
from headwater.pairs import set_size
from headwater.recipe import Arm, Recipe, load_recipe, move, refuse_other_study
from headwater.report import render_report
from headwater.sourcing import Sourcing
from headwater.steps.evaluate import evaluate, off_the_shelf_head
from headwater.store import DONE, Json, write_json, write_table, write_text
from headwater.summary import Telling, costs, report_data, summarize
from headwater.task import Task
from headwater.topped_up import tell_topped_up
from headwater.trials import Heat, reference_folder, rehearse, run_heat, test_splits


@dataclass(frozen=True)
class Study:
    """A recipe and the folder it is run in."""

    root: Path
    recipe: Recipe
    engine: str = "local"
    workers: int | None = None

    @cached_property
    def sourcing(self) -> Sourcing:
        """The sets of the study, and how they are made."""
        return Sourcing(self.root, self.recipe, self.engine, self.workers)

    @property
    def task(self) -> Task:
        """The recipe's task."""
        return self.sourcing.task

    @property
    def clip(self) -> Clip:
        """The learner as it comes, before any training."""
        return self.sourcing.clip

    def training_set(self, source: str) -> Path:
        """The set of a source that is trained on."""
        return self.sourcing.training_set(source)

    @cached_property
    def choices(self) -> dict[str, Choice]:
        """Which source each choosing arm has settled on; those that have not are missing."""
        return read_choices(self.root)

    @property
    def arms(self) -> dict[str, Arm]:
        """The recipe's arms that are ready to be trained: the source of each is settled."""
        arms = self.recipe.arms.items()
        settled = {n: a.settled(self.choices[n].source) for n, a in arms if n in self.choices}
        return {name: settled.get(name, a) for name, a in arms if name in settled or not a.choose}

    def heats(self) -> Iterator[Heat]:
        """All trials of the recipe, grouped by arm, scale and seed; what is too large is left."""
        for name, arm in self.arms.items():
            for n in self.scales(name):
                for seed in self.recipe.seeds:
                    yield self.heat(name, arm, n, seed)

    def heat(self, name: str, arm: Arm, n: int, seed: int, *, root: Path | None = None) -> Heat:
        """The trials of one arm at one scale with one seed; `root` is where, if not here."""
        recipe = self.recipe
        sets = tuple((self.training_set(s), share) for s, share in arm.shares.items())
        return Heat(
            root or self.root, name, n, seed, recipe.lr, sets, arm.objective, self.task,
            recipe.learner, recipe.adapt, recipe.metrics, recipe.keep_models, recipe.budget,
        )  # fmt: skip

    def sourced_fully(self, arm: str) -> bool:
        """Whether the sets of an arm are finished."""
        sources = self.recipe.arms[arm].sources
        return all((self.training_set(source) / DONE).exists() for source in sources)

    def available(self, arm: str) -> int:
        """The most pairs an arm can be trained on."""
        shares = self.arms[arm].shares.items()
        return min(int(set_size(self.training_set(s)) / share) for s, share in shares)

    def candidates(self, name: str) -> dict[str, list[Heat]]:
        """What an arm is chosen from: the heats of each source, at the largest common scale."""
        arm = self.recipe.arms[name]
        most = min(set_size(self.training_set(source)) for source in arm.choose)
        n = max((n for n in self.recipe.scales if n <= most), default=most)
        return {
            source: [
                self.heat(name, arm.settled(source), n, seed, root=self.root / CHOOSING / source)
                for seed in self.recipe.seeds
            ]
            for source in arm.choose
        }

    def scales(self, arm: str) -> list[int]:
        """The scales an arm has enough pairs for; a reference arm is trained on all it has."""
        most = self.available(arm)
        if self.recipe.arms[arm].reference:
            return [most]
        return [n for n in self.recipe.scales if n <= most]

    def run(
        self, work: Callable[[Heat], str | None], heats: Sequence[Heat], *, label: str
    ) -> list[str | None]:
        """Work on heats side by side; what went wrong with each."""
        return run_shards(work, heats, engine=self.engine, workers=self.workers, label=label)

    def finish(self) -> None:
        """From the finished trials to results, verdict, report and cost."""
        self.report()
        write_table(self.root / "cost.parquet", costs(self.root))

    def results(self) -> pl.DataFrame:
        """Write `results.parquet` from the finished trials."""
        table = tell_results(self.root, self.finished())
        write_table(self.root / "results.parquet", table)
        return table

    def compare(self) -> list[Json]:
        """Write `verdict.json` from the finished trials; its entries."""
        entries = judge(self.root, self.recipe, self.task, self.finished())
        write_json(self.root / "verdict.json", {"comparisons": entries})
        return entries

    def report(self) -> Path:
        """Write `report.html` from the finished trials; where it is."""
        path = self.root / "report.html"
        write_text(path, render_report(report_data(self.telling)))
        return path

    def summary(self) -> Json:
        """What the terminal shows of a finished study."""
        return summarize(self.telling)

    @cached_property
    def gate(self) -> Gate:
        """What training sets are held against before any training."""
        sets = {name: self.training_set(name) for name in self.recipe.sources}
        return Gate(self.root, self.recipe, self.task, sets)

    def without_copies(self) -> pl.DataFrame:
        """Test accuracy with and without the test images that were learned from."""
        return without_copies(self.root, self.finished(), touched_ids(self.gate, TEST))

    def topped_up(self) -> pl.DataFrame:
        """Topped-up classes apart from the others, on the test split."""
        return tell_topped_up(self.root, self.recipe, self.task, self.finished(), self.gate.sets)

    @cached_property
    def telling(self) -> Telling:
        """Results and verdict of the finished trials, with what they came from."""
        available = {arm: self.available(arm) for arm in self.arms}
        return Telling(
            self.root, self.recipe, self.task, self.gate.sets, available, self.choices,
            self.results(), self.compare(), self.gate, self.without_copies(), self.topped_up(),
        )  # fmt: skip

    def finished(self) -> list[Heat]:
        """The heats that are trained and tested."""
        return [heat for heat in self.heats() if heat.finished]

    def status(self) -> list[Json]:
        """What is done and what is left: a row a set, then a row an arm and scale."""
        rows = [
            {"what": f"set {name}", "images": None, "done": int(done), "left": int(not done)}
            for name in self.recipe.sources
            for done in [(self.training_set(name) / DONE).exists()]
        ]
        for name, arm in self.recipe.arms.items():
            ready = name in self.arms and self.sourced_fully(name)
            for n in self.scales(name) if ready else self.recipe.scales:
                heats = [self.heat(name, arm, n, seed) for seed in self.recipe.seeds]
                trials = [heat.folder(lr) / DONE for heat in heats for lr in heat.lrs]
                done = sum(trial.exists() for trial in trials)
                left = len(trials) - done
                rows.append({"what": f"arm {name}", "images": n, "done": done, "left": left})
        return rows


def open_study(root: Path) -> Study:
    """A study that was begun in `root`, by the recipe it holds."""
    if not (root / "recipe.yaml").is_file():
        raise SetError(f"{root} is not a study", expected="recipe.yaml", seen="no such file")
    return Study(root, load_recipe(root / "recipe.yaml"))


def run_study(
    recipe: Recipe,
    out: Path,
    *,
    engine: str = "local",
    workers: int | None = None,
    allow_leaks: bool = False,
) -> Study:
    """Run a recipe in the folder `out`, or go on with it.

    Args:
        recipe: with paths that hold from here.
        out: the study's folder. Seeds, scales, learning rates and arms may grow between runs.
        engine, workers: what runs shards and trials side by side, as `run_shards` takes them.
        allow_leaks: train although a set holds copies of test images; the report will say so.

    Raises:
        SetError: copies of test images in a set, or a set for other classes.
        RunError: some trials failed; the others are done and told of.
        InputError: the task, pool, learner or generator cannot be used, or `out` holds a study
            that settled otherwise.

    Example:
        >>> from headwater import load_recipe, run_study
        >>> study = run_study(load_recipe("roses.yaml"), Path("out/roses"))  # doctest: +SKIP
    """
    study = Study(out, settle(recipe, out), engine, workers)
    study.sourcing.make_all()
    pass_gate(study.gate, allow_leaks=allow_leaks)
    examine_off_the_shelf(study)
    errors = choose_sources(study)
    heats = list(study.heats())
    errors += run_heats(study, heats)
    study.finish()
    if errors:
        raise RunError(
            f"{len(errors)} of {len(heats)} heats failed, first {errors[0]}",
            do="Mend it and run the same command again; the others are done.",
        )
    return study


def choose_sources(study: Study) -> list[str]:
    """Settle every choosing arm that is not settled yet; what went wrong."""
    candidates = {
        name: study.candidates(name)
        for name, arm in study.recipe.arms.items()
        if arm.choose and name not in study.choices
    }
    heats = [h for by_source in candidates.values() for own in by_source.values() for h in own]
    seen = heats if "val" in study.task.images else []
    told = study.run(rehearse, seen, label="choosing sources")
    if candidates and not any(told):
        for name, by_source in candidates.items():
            study.choices[name] = best_source(by_source, study.recipe.primary.metric)
        write_choices(study.root, study.choices)
    for name, choice in study.choices.items():
        adopt(study.root, name, choice)
    return [error for error in told if error]


def run_heats(study: Study, heats: list[Heat]) -> list[str]:
    """Run what is left, side by side; what went wrong.

    Finished heats are only looked through, for which no process need be started.
    """
    left = [heat for heat in heats if not heat.finished]
    told = [run_heat(heat) for heat in heats if heat.finished]
    told += study.run(run_heat, left, label="training")
    return [error for error in told if error]


def settle(recipe: Recipe, out: Path) -> Recipe:
    """Write the recipe down in the study's folder, unless it contradicts the one that is there.

    What it leaves open, which copy descriptor, is settled; the recipe as it is run is returned.
    """
    path = out / "recipe.yaml"
    before = load_recipe(path, base=Path()) if path.exists() else None
    recipe = recipe.settle_descriptor(before)
    now = move(recipe, Path(), relative_to=out)
    if before is not None:
        refuse_other_study(before, Recipe.model_validate(yaml.safe_load(now.dump())), out)
    write_text(path, now.dump())
    return recipe


def examine_off_the_shelf(study: Study) -> None:
    """Examine the learner before any training: the line every arm is compared with."""
    task, clip = study.task, study.clip
    splits = ("val", *test_splits(task)) if "val" in task.images else test_splits(task)
    if splits:
        evaluate(
            lambda: (clip, off_the_shelf_head(clip, task)), str(clip.digest), task,
            reference_folder(study.root), splits=splits, metrics=study.recipe.metrics, kept=True,
        )  # fmt: skip
