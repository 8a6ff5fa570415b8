"""The gate before any training: sets mean what the task means, and hold none of its test images.

    leaks/SOURCE/    copies of test images in a training set (steps/leaks.py)
    overlap/         copies of test images in the task's own train split
    allowed.json     leaks that somebody let through with --allow-leaks

A leak in a set that was sourced stops the run. Copies between the splits of an official benchmark,
and in sets made from curated ones, which are filtered no second time, are told and do not stop it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from headwater.errors import SetError
from headwater.pairs import read_shard
from headwater.progress import say
from headwater.recipe import Recipe
from headwater.steps.agreement import check_classes, check_mix, empty_classes
from headwater.steps.curation.copies import copy_descriptor, copy_threshold
from headwater.steps.curation.settings import Curation
from headwater.steps.exam import LINEAR_PROBE
from headwater.steps.leaks import find_leaks, find_overlap
from headwater.store import DONE, Json, read_json, read_step, write_json
from headwater.task import Task
from headwater.trials import test_splits

LEAKS, OVERLAP, ALLOWED = "leaks", "overlap", "allowed.json"
SHOWN = 3  # leaks that an error names


@dataclass(frozen=True)
class Gate:
    """What a study's training sets are held against; `sets` has the set of every source."""

    root: Path
    recipe: Recipe
    task: Task
    sets: Mapping[str, Path]

    @cached_property
    def sources(self) -> list[str]:
        """Every source an arm may be trained on, and what those were made from."""
        names = list(dict.fromkeys(s for arm in self.recipe.arms.values() for s in arm.sources))
        for name in names:  # which grows: parents have parents
            told = self.recipe.sources[name]
            names += [p for p in told.parents if not told.is_curated and p not in names]
        return names

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits nothing may leak from."""
        return test_splits(self.task)

    @property
    def probes_train(self) -> bool:
        """Whether the task's own train split is learned from."""
        own = any(self.recipe.sources[name].split for name in self.sources)
        return "train" in self.task.images and (own or LINEAR_PROBE in self.recipe.metrics)

    def stops(self, source: str) -> bool:
        """Whether a leak in a source stops the run: not where the rules leave nothing to do."""
        told = self.recipe.sources[source]
        return told.split is None and told.is_curated

    def folder(self, source: str) -> Path:
        """Where the leaks of a source are told."""
        return self.root / LEAKS / source

    def counts(self, folder: Path) -> Json:
        """What was counted in a folder of leaks; nothing where it was not made."""
        done = (folder / DONE).exists()
        return read_step(folder)["counts"] if done else {"pairs": 0, "leaks": 0, "touched": 0}

    def leaking(self) -> dict[str, int]:
        """Leaks of the sources that have any."""
        told = {name: int(self.counts(self.folder(name))["leaks"]) for name in self.sources}
        return {name: leaks for name, leaks in told.items() if leaks}


def pass_gate(gate: Gate, *, allow_leaks: bool = False) -> None:
    """Check every training set of a study before anything is trained.

    Args:
        gate: of the study.
        allow_leaks: go on in spite of leaks; that is written down and told in the report. It holds
            for this call: the next one asks again.

    Raises:
        SetError: a set for other classes, a mix with clashing ids, or a leak that is not allowed.
        TaskError: a test split that is not where the task says.
    """
    for name in gate.sources:
        check_classes(gate.sets[name], gate.task)
    for arm in gate.recipe.arms.values():
        check_mix([gate.sets[name] for name in arm.shares])
    if gate.splits:
        look_for_leaks(gate)
        judge_leaks(gate, allow=allow_leaks)


def look_for_leaks(gate: Gate) -> None:
    """Compare what is learned from with every test split."""
    usual, splits = gate.recipe.curate, gate.splits
    for name in gate.sources:
        how = gate.recipe.curation(name)
        find_leaks(
            gate.sets[name], gate.task, gate.folder(name), splits=splits,
            descriptor=copy_descriptor(how), threshold=loosest_threshold(how, usual, splits=splits),
        )  # fmt: skip
    if gate.probes_train:
        find_overlap(
            gate.task, gate.root / OVERLAP, splits=splits, descriptor=copy_descriptor(usual),
            threshold=loosest_threshold(usual, splits=splits),
        )  # fmt: skip


def loosest_threshold(*curations: Curation, splits: Sequence[str]) -> float:
    """The highest of the thresholds of some splits: what the rules leave is no leak."""
    own = copy_descriptor(curations[0]).threshold
    told = [copy_threshold(*curations, split=split) for split in splits]
    return max(own if threshold is None else threshold for threshold in told)


def judge_leaks(gate: Gate, *, allow: bool) -> None:
    """Refuse leaks that stop the run, or write down that they were let through."""
    leaking = {name: n for name, n in gate.leaking().items() if gate.stops(name)}
    if leaking and not allow:
        raise _refusal(gate, leaking)
    if leaking:
        told = ", ".join(f"{n:,} in {name}" for name, n in leaking.items())
        say(f"copies of test images are trained on, as --allow-leaks says: {told}")
        write_json(gate.root / ALLOWED, {"leaks": leaking})


def _refusal(gate: Gate, leaking: Mapping[str, int]) -> SetError:
    first = next(iter(leaking))
    table = read_shard(gate.folder(first) / "leaks.parquet")
    shown = table.sort("similarity", "id", "label", descending=[True, False, False])[:SHOWN]
    some = ", ".join(f"{pair} = {copy}" for pair, copy in shown["id", "copy_of"].iter_rows())
    splits = ", ".join(dict.fromkeys(name.split("/")[0] for name in table["copy_of"]))
    sets = ", ".join(f"{n:,} in {name}" for name, n in leaking.items())
    files = ", ".join(f"{LEAKS}/{name}/leaks.parquet" for name in leaking)
    return SetError(
        "test images leak into training", expected="no copy of a test image in any set",
        seen=f"{sets} ({some}{', ...' if len(table) > SHOWN else ''}; all in {files})",
        do=f"Curate with the rule `copies: [{splits}]`, or go on with --allow-leaks.",
    )  # fmt: skip


def gate_notes(gate: Gate) -> list[str]:
    """What must be said of the training sets: leaks, what they share, classes that are empty."""
    said = [note for name in gate.sources for note in _notes_of(gate, name)]
    overlap = gate.counts(gate.root / OVERLAP)
    if overlap["touched"]:
        touched = f"{overlap['touched']:,} of {overlap['images']:,}"
        said.append(f"Test images with a copy in the task's own train split: {touched}.")
    for name, arm in gate.recipe.arms.items():
        shared = check_mix([gate.sets[source] for source in arm.shares])
        if shared:
            said.append(f"{name}: pairs that are in two of its sets: {shared:,}.")
    checked = gate.splits and all((gate.folder(n) / DONE).exists() for n in gate.sources)
    if checked and not gate.leaking():
        said.append("No training set holds a copy of a test image.")
    return said


def _notes_of(gate: Gate, source: str) -> list[str]:
    said = []
    told = gate.counts(gate.folder(source))
    if told["leaks"]:
        share = f"{told['leaks']:,} of {told['pairs']:,} pairs"
        said.append(f"{source}: copies of test images in {share}; {_why(gate, source)}.")
    empty = empty_classes(gate.sets[source], gate.task)
    if empty:
        some = ", ".join(gate.task.name_of[label] for label in empty[:5])
        more = ", ..." if len(empty) > 5 else ""
        classes = f"{len(empty):,} of {len(gate.task.labels):,} classes"
        said.append(f"{source} has no pairs of {classes}: {some}{more}.")
    return said


def _why(gate: Gate, source: str) -> str:
    """Why a source's leaks did not stop the run."""
    if gate.recipe.sources[source].split:
        return "both are the task's own, so they stay"
    if not gate.recipe.sources[source].is_curated:
        return "what it was made from was checked, and such sets are not filtered again"
    path = gate.root / ALLOWED
    allowed = read_json(path)["leaks"] if path.exists() else {}
    return "let through by --allow-leaks" if source in allowed else "not let through"


def leak_table(gate: Gate) -> pl.DataFrame:
    """A row a set with leaks: source, pairs, copies, test images touched, why they stay."""
    rows = [
        (name, told["pairs"], told["leaks"], told["touched"], _why(gate, name))
        for name in gate.leaking()
        for told in [gate.counts(gate.folder(name))]
    ]
    overlap = gate.counts(gate.root / OVERLAP)
    if overlap["leaks"]:
        why = "both are the task's own, so they stay"
        counted = (overlap[key] for key in ("pairs", "leaks", "touched"))
        rows.append(("the train split", *counted, why))
    columns = {
        "source": pl.String, "pairs": pl.Int64, "copies": pl.Int64, "test images": pl.Int64,
        "why they stay": pl.String,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=columns, orient="row")


def touched_ids(gate: Gate, split: str) -> set[str]:
    """The images of a split that have a copy in anything that is learned from."""
    folders: Sequence[Path] = [*map(gate.folder, gate.sources), gate.root / OVERLAP]
    done = [read_shard(f / "touched.parquet") for f in folders if (f / DONE).exists()]
    return {name for table in done for name in table.filter(pl.col("split") == split)["id"]}
