"""Pairs a person marked as bad: a CSV of ids, read back, and the ledger a set keeps of them.

    id,label
    photos:000000012,rose
    photos:000000099,            without a label: whatever its label

The review page writes such a file, `curate --reject FILE` reads it, and `rejected.csv` in a set's
folder is the same: all that was ever rejected there, sorted, each row once.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from headwater.errors import InputError, SetError
from headwater.store import write_text

LEDGER = "rejected.csv"
NOT_REJECTED = "not_rejected"
REASON = "rejected by hand"

SCHEMA = {"id": pl.String, "label": pl.String}
MAX_BYTES = 64 * 2**20
EXPECTED = "a CSV with the header id,label"
NAMED = 3  # unknown ids named in an error

FORMULA = "=+-@\t\r\n"
"""A spreadsheet takes a cell that begins with one of these for a formula, or eats it."""


def read_rejections(path: Path) -> pl.DataFrame:
    r"""Which pairs a CSV rejects.

    A byte order mark, CRLF, blank lines and further columns do no harm. A `'` before one of
    `=+-@'`, as `write_rejections` sets it, is not part of the text.

    Returns:
        A table of id and label, each row once, in the order of the file; a null label stands for
        all labels of the id.

    Raises:
        InputError: no such file, or no such CSV; with the line.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder) / "bad.csv"
        ...     _ = file.write_text("id,label\nweb:1,rose\nweb:2,\n")
        ...     read_rejections(file).rows()
        [('web:1', 'rose'), ('web:2', None)]
    """
    rows = _records(_read_text(path), path.name)
    line, header = next(rows, (1, []))
    if "id" not in header or len(set(header)) < len(header):
        raise _mistake(path.name, line, EXPECTED, ",".join(header) or "nothing")
    found = [_pair(row, header, f"{path.name}, line {line}") for line, row in rows]
    return pl.DataFrame(found, schema=SCHEMA, orient="row").unique(maintain_order=True)


def write_rejections(path: Path, rejections: pl.DataFrame) -> None:
    """A table of id and label as a CSV that `read_rejections` reads back exactly."""
    rows = [(pair_id, label or "") for pair_id, label in rejections.select("id", "label").rows()]
    lines = (",".join(map(_cell, row)) for row in [("id", "label"), *rows])
    write_text(path, "".join(f"{line}\n" for line in lines))


def unknown_rejections(rejections: pl.DataFrame, considered: pl.DataFrame) -> pl.DataFrame:
    """The rejections that mean no pair of a set.

    Args:
        rejections: id and label (null: any).
        considered: id and label of every pair the set considered, such as its decisions.

    Example:
        >>> bad = pl.DataFrame({"id": ["w:1", "w:1", "w:7"], "label": ["rose", "roze", None]})
        >>> known = pl.DataFrame({"id": ["w:1"], "label": ["rose"]})
        >>> unknown_rejections(bad, known).rows()
        [('w:1', 'roze'), ('w:7', None)]
    """
    by_id = pl.col("label").is_null()
    known = considered.select("id", "label")
    return pl.concat(
        [
            rejections.filter(~by_id).join(known, on=["id", "label"], how="anti"),
            rejections.filter(by_id).join(known, on="id", how="anti"),
        ]
    )


def refuse_unknown(rejections: pl.DataFrame, considered: pl.DataFrame, *, name: str) -> None:
    """Raise `SetError` if a rejection means no pair that was considered: a typo is not ignored.

    Args:
        rejections, considered: as `unknown_rejections` takes them.
        name: what considered them, for the message.
    """
    unknown = unknown_rejections(rejections, considered)
    if not len(unknown):
        return
    first = [f"{i} as {label}" if label else i for i, label in unknown.head(NAMED).rows()]
    more = f" and {len(unknown) - NAMED:,} more" if len(unknown) > NAMED else ""
    raise SetError(
        "rejected pairs that were never considered", expected=f"ids and labels of {name}",
        seen=", ".join(first) + more, do="Mend or remove these lines.",
    )  # fmt: skip


def read_ledger(folder: Path) -> pl.DataFrame:
    """All that was rejected in a set so far; no row where nothing was."""
    path = folder / LEDGER
    return read_rejections(path) if path.exists() else pl.DataFrame(schema=SCHEMA)


def grow_ledger(folder: Path, rejections: pl.DataFrame) -> pl.DataFrame:
    """Add rejections to a set's ledger; the file is replaced whole, and only if something is new.

    Returns:
        The whole ledger: id and label, sorted, each row once.
    """
    before = read_ledger(folder)
    after = merged(before, rejections)
    if not after.equals(before):
        write_rejections(folder / LEDGER, after)
    return after


def merged(*tables: pl.DataFrame) -> pl.DataFrame:
    """Rejections of several tables in one, sorted, each row once.

    Example:
        >>> bad = pl.DataFrame({"id": ["w:2", "w:1", "w:2"], "label": "rose"})
        >>> merged(bad, bad[:1]).rows()
        [('w:1', 'rose'), ('w:2', 'rose')]
    """
    parts = [table.select(pl.col(name).cast(pl.String) for name in SCHEMA) for table in tables]
    return pl.concat(parts).unique().sort("id", "label")


def rejection_reasons(pairs: pl.DataFrame, rejections: pl.DataFrame) -> pl.Series:
    """Why each pair goes: `rejected by hand`, or null where nobody rejected it.

    Example:
        >>> pairs = pl.DataFrame({"id": ["w:1", "w:2"], "label": ["rose", "rose"]})
        >>> rejection_reasons(pairs, pairs[1:]).to_list()
        [None, 'rejected by hand']
    """
    whole = rejections.filter(pl.col("label").is_null())["id"]
    exact = rejections.filter(pl.col("label").is_not_null()).unique()
    marked = pairs.select("id", "label").join(
        exact.with_columns(exact=pl.lit(value=True)),
        on=["id", "label"], how="left", maintain_order="left",
    )  # fmt: skip
    bad = pl.col("exact").is_not_null() | pl.col("id").is_in(whole.implode())
    return marked.select(pl.when(bad).then(pl.lit(REASON)).alias("reason"))["reason"]


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


def _pair(row: list[str], header: list[str], where: str) -> tuple[str, str | None]:
    if len(row) > len(header):
        raise InputError(
            where, expected=f"{len(header)} cells", seen=f"{len(row)}: {','.join(row)[:60]}",
            do='Put a text with a comma between double quotes.',
        )  # fmt: skip
    cells = dict(zip(header, map(_uncell, row), strict=False))
    if not cells.get("id"):
        raise InputError(where, expected="an id", seen=",".join(row)[:60])
    return cells["id"], cells.get("label") or None


def _cell(text: str) -> str:
    """A text as a cell that no spreadsheet takes for a formula; review.js has the same rule."""
    guarded = f"'{text}" if text and text[0] in f"'{FORMULA}" else text
    if any(character in guarded for character in '",\r\n'):
        return '"' + guarded.replace('"', '""') + '"'
    return guarded


def _uncell(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and cell[1:2] and cell[1] in f"'{FORMULA}" else cell


def _mistake(name: str, line: int, expected: str, seen: str) -> InputError:
    return InputError(f"{name}, line {line}", expected=expected, seen=seen[:80])
