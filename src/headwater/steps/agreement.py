"""Agreement: sets, task and head mean the same classes, and sets the same pairs, before training.

What disagrees is refused with its first difference; nothing is mended here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import polars as pl

from headwater.errors import SetError
from headwater.pairs import read_funnel, read_pairs
from headwater.steps.hits import UNTARGETED
from headwater.store import read_step
from headwater.task import Task

KEY = ("id", "label")


def first_difference(expected: Sequence[str], seen: Sequence[str]) -> tuple[str, str] | None:
    """Where two lists of classes part: what was expected there and what was seen.

    Example:
        >>> first_difference(["rose", "fern"], ["rose", "yew"])
        ('class 2 of 2 fern', 'yew')
        >>> first_difference(["rose", "fern"], ["rose"])
        ('class 2 of 2 fern', 'none')
    """
    longest = max(len(expected), len(seen))
    for number in range(longest):
        wanted, found = (
            names[number] if number < len(names) else None for names in (expected, seen)
        )
        if wanted != found:
            said = "no further class" if wanted is None else wanted
            place = f"class {number + 1} of {len(expected)} " if wanted is not None else ""
            return f"{place}{said}", "none" if found is None else found
    return None


def check_classes(folder: Path, task: Task) -> None:
    """Raise `SetError` unless a set was made for the task's classes, in the task's order.

    An untargeted set has no classes, and fits every task.
    """
    classes = list(read_funnel(folder)["classes"])
    differ = None if classes == [UNTARGETED] else first_difference(task.labels, classes)
    if differ:
        raise SetError(
            f"{folder} was not made for the classes of task {task.name}", expected=differ[0],
            seen=differ[1], do="Make the set anew for this task, or name the task it was made for.",
        )  # fmt: skip


def empty_classes(folder: Path, task: Task) -> list[str]:
    """The classes a set has no pairs of; none where pairs have no classes at all."""
    counts = read_funnel(folder)
    if list(counts["classes"]) == [UNTARGETED]:
        return []
    last = counts["steps"][-1]
    return [label for label in task.labels if not counts["classes"].get(label, {}).get(last, 0)]


def check_mix(sets: Sequence[Path]) -> int:
    """How many pairs the sets of a mix have in common, each the same image in both.

    A perturbed set has the ids of its parent on purpose, and is compared with nothing.

    Raises:
        SetError: two sets give one id and label to different images.
    """
    own = [folder for folder in sets if read_step(folder)["verb"] != "perturb"]
    tables = [read_pairs(folder, [*KEY, "sha256"]) for folder in own]
    shared = 0
    for (first, one), (second, other) in combinations(zip(own, tables, strict=True), 2):
        both = one.join(other, on=KEY, nulls_equal=True)
        differ = both.filter(pl.col("sha256").ne_missing(pl.col("sha256_right"))).sort(KEY)
        if len(differ):
            _refuse(first, second, differ)
        shared += len(both)
    return shared


def _refuse(first: Path, second: Path, differ: pl.DataFrame) -> None:
    pair_id, label = differ.select(KEY).row(0)
    namespace = str(pair_id).partition(":")[0]
    raise SetError(
        f"{first} and {second} cannot be mixed, since ids clash",
        expected="one image to an id and label",
        seen=f"two to {pair_id} as {label or 'no class'}, and {len(differ):,} such pairs in all",
        do=f"Give one of the two another namespace than {namespace} (pool.name, or --name of an "
        "import), or curate both by the same pixel path if they are the same images.",
    )
