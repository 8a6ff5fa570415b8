"""Answers: what a person said of a sample's pictures, as a CSV with the columns id and label.

A picture that shows none of the classes, and one that was skipped, are said so in the label. The
page that asks is `report/label.py`; what becomes of the answers is in `label.py`.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import NamedTuple

from headwater.errors import InputError, TaskError
from headwater.report.label import NONE, SKIPPED
from headwater.splits import class_index
from headwater.task import Task

COLUMNS = ("id", "label")
MAX_BYTES = 64 * 2**20  # of a CSV


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
        InputError: unreadable, without the columns id and label, an empty cell, or two answers on
            one picture; with the number of the line.
        TaskError: a label that the task lacks; the nearest ones are given.
    """
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    answers: dict[str, Answer] = {}
    try:
        header = [cell.strip() for cell in next(reader, [])]
        if not set(COLUMNS) <= set(header):
            raise _bad(path, 1, expected="the columns id,label", seen=",".join(header) or "nothing")
        for row in filter(None, reader):
            cells = dict(zip(header, row, strict=False))
            answer = _understood(_answer(path, reader.line_num, cells), path, task)
            if answer.id in answers:
                first = f"{answer.id} on line {answers[answer.id].line} too"
                raise _bad(path, answer.line, expected="one answer a picture", seen=first)
            answers[answer.id] = answer
    except csv.Error as error:
        raise _bad(path, reader.line_num, expected="CSV", seen=str(error)) from None
    return list(answers.values())


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _bad(path, 1, expected=f"{MAX_BYTES >> 20} MB at most", seen="a larger file")
        return path.read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}", expected="CSV in UTF-8", seen=str(error)) from None


def _bad(path: Path, line: int, *, expected: str, seen: str) -> InputError:
    return InputError(f"{path.name}, line {line}", expected=expected, seen=seen)


def _answer(path: Path, line: int, row: dict[str, str]) -> Answer:
    for column in COLUMNS:
        if not row.get(column, "").strip():
            raise _bad(path, line, expected="an id and a label", seen=f"no {column}")
    return Answer(line, row["id"].strip(), row["label"].strip())


def _understood(answer: Answer, path: Path, task: Task) -> Answer:
    if not answer.names_a_class:
        return answer
    try:
        return answer._replace(label=task.labels[class_index(answer.label, task)])
    except TaskError as error:
        raise TaskError(f"{path.name}, line {answer.line}: {error}") from None
