"""Answers: what a person said of a sample's pictures, as a CSV with the columns id and label.

A picture that shows none of the classes, and one that was skipped, are said so in the label. The
page that asks is `report/label.py`; what becomes of the answers is in `split.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from headwater.classes import class_index
from headwater.errors import InputError, TaskError
from headwater.report.label import NONE, SKIPPED
from headwater.steps.pairlist import Row, read_list
from headwater.task import Task


class Answer(NamedTuple):
    """A row of the CSV: its line, the pair's id, and the label, `NONE` or `SKIPPED`."""

    line: int
    id: str
    label: str

    @property
    def names_a_class(self) -> bool:
        """Whether the picture is of a class of the task."""
        return self.label not in (NONE, SKIPPED)


def read_answers(path: Path, task: Task) -> list[Answer]:
    """The rows of a CSV of answers, in its order, with the task's own labels.

    A label may be spelled as a folder of a split may: as the class's name, or alike.

    Raises:
        InputError: no list of pairs, no label, or two answers on one picture; with the line.
        TaskError: a label that the task lacks; the nearest ones are given.
    """
    answers: dict[str, Answer] = {}
    for row in read_list(path):
        answer = _understood(row, path, task)
        if answer.id in answers:
            raise InputError(
                f"{path.name}, line {row.line}", expected="one answer a picture",
                seen=f"{row.id} on line {answers[row.id].line} too",
            )  # fmt: skip
        answers[row.id] = answer
    return list(answers.values())


def _understood(row: Row, path: Path, task: Task) -> Answer:
    where = f"{path.name}, line {row.line}"
    if row.label is None:
        raise InputError(where, expected=f"a label, or {NONE}", seen="none")
    if row.label in (NONE, SKIPPED):
        return Answer(row.line, row.id, row.label)
    try:
        return Answer(row.line, row.id, task.labels[class_index(row.label, task)])
    except TaskError as error:
        raise TaskError(f"{where}: {error}") from None
