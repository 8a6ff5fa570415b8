"""How a curation tells copies: of which splits, by what descriptor, above which similarity."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from headwater.descriptors import Descriptor, open_descriptor
from headwater.progress import say
from headwater.steps.curation.settings import (
    CopiesRule,
    Curation,
    DuplicatesRule,
    Rules,
    compared_splits,
)
from headwater.store import DONE, STARTED, Json, read_json
from headwater.task import Task

USUAL_SPLITS = ("train", "val", "test")  # a task may do without any of them


def known_splits(task: Task, rules: Rules) -> list[str]:
    """The splits the rules compare with; one the task may lack is told, not refused.

    Raises:
        TaskError: a split that neither the task nor anybody else has.
    """
    against = compared_splits(rules)
    for split in against:
        if split not in task.images and split not in USUAL_SPLITS:
            task.folder(split)
    copies = [rule for rule in rules if isinstance(rule, CopiesRule)]
    splits = list(dict.fromkeys(split for rule in copies for split in rule.among(task.images)))
    if against and not splits:
        say(f"task {task.name} has no {' or '.join(against)} images: no decontamination")
    return splits


def choose_descriptor(how: Curation, rules: Rules, out: Path) -> Descriptor | None:
    """What copies are told by, where a rule asks; `auto` stays with what `out` was begun with."""
    if not any(isinstance(rule, CopiesRule | DuplicatesRule) for rule in rules):
        return None
    begun = next((out / file for file in (DONE, STARTED) if (out / file).exists()), None)
    if how.descriptor == "auto" and begun is not None:
        told = read_json(begun).get("inputs", {}).get("descriptor")
        name = told["name"] if isinstance(told, dict) else how.descriptor  # else not curated there
        how = how.model_copy(update={"descriptor": name})
    return copy_descriptor(how)


def descriptor_facts(descriptor: Descriptor | None) -> Json | None:
    """What a set records of what its copies were told by."""
    if descriptor is None:
        return None
    return {name: getattr(descriptor, name) for name in ("name", "digest", "threshold")}


def copy_descriptor(how: Curation) -> Descriptor:
    """What a curation tells copies by, opened once a process."""
    return _open(how.descriptor, how.descriptor_weights)


@lru_cache(maxsize=4)
def _open(name: str, weights: str | None) -> Descriptor:
    return open_descriptor(name, weights=Path(weights) if weights else None)


def copy_threshold(*curations: Curation, split: str | None = None) -> float | None:
    """What a copy is, as the first curation with a rule on copies says; None: the descriptor's own.

    So the gate never finds a copy that a set was just curated by, and that its rules left. A
    threshold is of one descriptor: curations after the first count only if they have the same.

    Args:
        curations: a source's, then those it falls back on.
        split: only rules that look at it count, the first of them; None: all rules.

    Example:
        >>> strict = Curation(rules=[{"copies": ["test"], "threshold": 0.4}])
        >>> copy_threshold(Curation(rules=[]), strict), copy_threshold(Curation(), strict)
        (0.4, None)
        >>> copy_threshold(strict, split="test"), copy_threshold(strict, split="val")
        (0.4, None)
        >>> copy_threshold(Curation(descriptor="isc"), strict) is None
        True
    """
    alike = [how for how in curations if how.descriptor == curations[0].descriptor]
    rules = [rule for how in alike for rule in how.rules_for("retrieve")]
    copies = [rule for rule in rules if isinstance(rule, CopiesRule)]
    told = (rule.threshold for rule in copies if split is None or rule.among([split]))
    return next(told, None)
