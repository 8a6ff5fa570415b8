"""A list of pairs as a CSV: ids and labels, as pages, people and spreadsheets write it.

    id,label
    photos:000000012,rose
    photos:000000099,

What a row means is for others to say: `curation/rejections.py`, `labelling/answers.py`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from headwater.errors import InputError
from headwater.store import write_text

MAX_BYTES = 64 * 2**20
EXPECTED = "a CSV with the header id,label"

FORMULA = "=+-@\t\r\n"
"""A spreadsheet takes a cell that begins with one of these for a formula, or eats it."""


class Row(NamedTuple):
    """A row of the list: the line it begins on, the pair's id, and its label if it has one."""

    line: int
    id: str
    label: str | None


def read_list(path: Path) -> list[Row]:
    """The rows of a list of pairs, in the order of the file.

    A byte order mark, CRLF, blank lines and further columns do no harm. A `'` before one of
    `=+-@'`, as `write_list` sets it, is not part of the text.

    Raises:
        InputError: no such file, or no such CSV; with the line.
    """
    rows = _records(_read_text(path), path.name)
    line, names = next(rows, (1, []))
    header = [name.strip() for name in names]
    if "id" not in header or len(set(header)) < len(header):
        raise _mistake(path.name, line, EXPECTED, ",".join(header) or "nothing")
    return [_row(line, row, header, path.name) for line, row in rows]


def write_list(path: Path, rows: Iterable[tuple[str, str | None]]) -> None:
    """Ids and labels as a CSV that `read_list` reads back exactly."""
    cells = [("id", "label"), *((pair, label or "") for pair, label in rows)]
    write_text(path, "".join(",".join(map(_cell, row)) + "\n" for row in cells))


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
    except OSError as error:
        seen = error.strerror or str(error)
        raise InputError(f"cannot read {path}", expected=EXPECTED, seen=seen) from None
    if data is None:
        raise InputError(f"{path} is too large", expected=f"at most {MAX_BYTES >> 20} MB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + data[: error.start].count(b"\n")
        raise _mistake(path.name, line, "text in UTF-8", "other bytes") from None


def _records(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV that are not blank, each with the line it begins on."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise _mistake(name, line, "rows of a CSV", str(error)) from None
        if row is None:
            return
        if any(cell.strip(" \t") for cell in row):
            yield line, row


def _row(line: int, row: list[str], header: list[str], name: str) -> Row:
    where = f"{name}, line {line}"
    if len(row) > len(header):
        raise InputError(
            where, expected=f"{len(header)} cells", seen=f"{len(row)}: {','.join(row)[:60]}",
            do='Put a text with a comma between double quotes.',
        )  # fmt: skip
    cells = dict(zip(header, map(_uncell, row), strict=False))
    if not cells.get("id"):
        raise InputError(where, expected="an id", seen=",".join(row)[:60])
    return Row(line, cells["id"], cells.get("label") or None)


def _cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula; review.js and label.js have the same rule."""
    guarded = f"'{text}" if text and text[0] in f"'{FORMULA}" else text
    if any(character in guarded for character in '",\r\n'):
        return '"' + guarded.replace('"', '""') + '"'
    return guarded


def _uncell(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and cell[1:2] and cell[1] in f"'{FORMULA}" else cell


def _mistake(name: str, line: int, expected: str, seen: str) -> InputError:
    return InputError(f"{name}, line {line}", expected=expected, seen=seen[:80])
