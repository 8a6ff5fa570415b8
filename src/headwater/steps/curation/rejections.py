"""Pairs a person marked as bad: a CSV of ids, read back, and the ledger a set keeps of them.

    id,label
    photos:000000012,rose
    photos:000000099,            without a label: whatever its label

The review page writes such a file, `curate --reject FILE` reads it, and `rejected.csv` in a set's
folder is the same: all that was ever rejected there, sorted, each row once.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from headwater.errors import SetError
from headwater.steps.pairlist import read_list, write_list

LEDGER = "rejected.csv"
NOT_REJECTED = "not_rejected"
REASON = "rejected by hand"

SCHEMA = {"id": pl.String, "label": pl.String}
NAMED = 3  # unknown ids named in an error


def read_rejections(path: Path) -> pl.DataFrame:
    r"""Which pairs a CSV rejects.

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
    found = [(row.id, row.label) for row in read_list(path)]
    return pl.DataFrame(found, schema=SCHEMA, orient="row").unique(maintain_order=True)


def write_rejections(path: Path, rejections: pl.DataFrame) -> None:
    """A table of id and label as a CSV that `read_rejections` reads back exactly."""
    write_list(path, rejections.select("id", "label").rows())


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
