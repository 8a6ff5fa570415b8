"""Which label each class of foreign images gets: told by the user, else the same name, else alike.

All that is wrong is told at once. Numbers without names are not guessed at.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from headwater.classes import ClassNames, many, refuse_twins, shown, unknown_classes
from headwater.errors import TaskError
from headwater.steps.importing.samples import CLASS_NAMES, Images, Meant, listed, read_bytes
from headwater.steps.importing.samples import read_json as parse
from headwater.task import Task

TASK_ORDER = "task"
"""What stands in place of a file of classes where numbers count the task's classes."""

HELP = (
    "Rename them, say what they mean with --classes FILE, a JSON like"
    ' {"their name": "a label of the task", "not wanted": null},'
    " or leave them out with --skip-unknown."
)

Classes = Mapping[str, str | None]
"""Their name -> the label it means; None leaves its images out."""


class Labels(NamedTuple):
    """The index of the class each of theirs means, and what a person should know."""

    classes: dict[Meant, int]
    said: list[str]
    skipped: str


def read_classes(path: str | Path, task: Task) -> Classes:
    """The file of `--classes`, or the task's own order.

    Raises:
        SetError: it cannot be read.
        TaskError: it is no mapping to classes of the task.
    """
    if str(path) == TASK_ORDER:
        return {str(number): label for number, label in enumerate(task.labels)}
    value = parse(read_bytes(Path(path)), str(path))
    expected = '{"their name": "a label of the task", "not wanted": null}'
    if not isinstance(value, dict):
        raise TaskError(f"{path} is no mapping", expected=expected, seen=repr(value)[:40])
    odd = [name for name, label in value.items() if not isinstance(label, str | None)]
    if odd:
        raise TaskError(f"{path} maps to what is no label", expected=expected, seen=listed(odd))
    return value


def find_labels(
    images: Images, task: Task, *, classes: Classes | None = None, skip_unknown: bool = False
) -> Labels:
    """What each class of some images means.

    Args:
        images: their classes counted.
        task: whose labels they get.
        classes: what some of them mean, whatever they are called.
        skip_unknown: whether classes that are not the task's are left out, not refused.

    Raises:
        TaskError: classes that are not the task's, all of them; two that are one class; numbers
            without names.
    """
    known = ClassNames(task)
    told = _told(classes or {}, known)
    mine: dict[Meant, int | None] = {
        meant: told[str(meant)] for meant in images.classes if str(meant) in told
    }
    rest: list[Meant] = [
        meant for meant in images.classes if meant not in mine and meant is not None
    ]
    numbers = [n for n in rest if isinstance(n, int) and not _same(n, task)]
    _refuse_numbers(numbers, counted="0" in told)
    found = {meant: known.find(str(meant)) for meant in rest}
    unknown = sorted(str(meant) for meant, meaning in found.items() if meaning.index is None)
    if unknown and not skip_unknown:
        raise unknown_classes(unknown, known, what=images.what, do=HELP)
    index = {meant: meaning.index for meant, meaning in found.items() if meaning.index is not None}
    twins = {str(meant): task.labels[place] for meant, place in index.items()}
    what = "folder" if images.what == "folder" else "name"
    refuse_twins(twins, what=what, do="Say with --classes that both are meant, or rename.")
    every: dict[Meant, int] = {m: place for m, place in mine.items() if place is not None}
    every |= index
    loose = {str(m): twins[str(m)] for m, meaning in found.items() if meaning.loose}
    skipped = [meant for meant in [*mine, *rest] if meant not in every]
    said = [*_loosely(images.what, loose), *_left_out(images, every, task)]
    return Labels(every, said, _skipped(images, skipped))


def _told(classes: Classes, known: ClassNames) -> dict[str, int | None]:
    """The user's own words, as indices of classes."""
    found = {label: known.find(label).index for label in classes.values() if label is not None}
    unknown = [label for label, index in found.items() if index is None]
    if unknown:
        raise unknown_classes(unknown, known, what="label", do="Mend what --classes says.")
    return {name: None if label is None else found[label] for name, label in classes.items()}


def _same(number: int, task: Task) -> bool:
    """Whether a number means the same class as an index and as a label."""
    return number < len(task.labels) and task.labels[number] == str(number)


def _refuse_numbers(numbers: list[int], *, counted: bool) -> None:
    if numbers:
        raise TaskError(
            "the images have class numbers without names", expected=f"a file {CLASS_NAMES} beside"
            " them, one name a line in the order of the numbers",
            seen=f"numbers such as {listed(map(str, sorted(numbers)), most=3)}",
            do="They go beyond what --classes tells." if counted
            else "If they count the task's own classes from 0, say --classes task.",
        )  # fmt: skip


def _loosely(what: str, loose: Mapping[str, str]) -> list[str]:
    """Those that are only alike."""
    told = listed(f"{shown(theirs)} as {label}" for theirs, label in sorted(loose.items()))
    return [f"{many(len(loose), what)} matched loosely: {told}"] if loose else []


def _left_out(images: Images, index: Mapping[Meant, int], task: Task) -> list[str]:
    """Images without a class, and classes without an image."""
    said = []
    if none := images.classes[None]:
        said.append(f"left out {many(none, 'image')} without a class")
    empty = [label for i, label in enumerate(task.labels) if i not in set(index.values())]
    if empty:
        said.append(
            f"no image of {len(empty):,} of {many(len(task.labels), 'class')}: {listed(empty)}"
        )
    return said


def _skipped(images: Images, skipped: list[Meant]) -> str:
    """What the card of the set says of the classes that were left out."""
    if not skipped:
        return ""
    count = sum(images.classes[meant] for meant in skipped)
    names = listed(sorted(shown(str(meant)) for meant in skipped))
    return f"Left out: {many(count, 'image')} of {many(len(skipped), 'other class')}, {names}."
