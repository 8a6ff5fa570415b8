"""Images in tables: Parquet, or the Arrow files of a Hugging Face dataset on disk.

    image, jpg, img, ...       the encoded bytes, or a struct with `bytes`
    label, class, ...          the class: a text, or a number that the dataset's features name
    caption, text, prompt      the caption
    id, key, ...               the id, where no two rows share one

A path to elsewhere that stands in place of an image is not followed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from headwater.decode import MAX_BYTES
from headwater.errors import HeadwaterError, SetError
from headwater.pool.layouts import PoolShard
from headwater.pool.sources import Source, open_source, sweep
from headwater.pool.tables import ALIASES, holds_bytes
from headwater.progress import track
from headwater.steps.importing.samples import (
    CAPTIONS,
    LABELS,
    LOT_BYTES,
    LOT_IMAGES,
    Meant,
    Plan,
    Sample,
    as_meant,
    caption_of,
    clean,
    digest_files,
    listed,
    named,
    read_bytes,
    read_json,
)

IMAGE_NAMES = (*ALIASES["image"], "img")
MARKS = {"key": pl.String, "label": pl.Int64}
MAX_LOT_BYTES = 8 * LOT_BYTES  # of images that a small file unpacks to
BLOCK = 100_000  # rows whose class and key are looked at together


@dataclass(frozen=True)
class Columns:
    """Which columns of a table hold what; `names` are those of the classes that have numbers."""

    image: str
    label: str | None
    names: tuple[str, ...]
    caption: str | None
    key: str | None

    def meant(self, value: object, names: Sequence[str]) -> Meant:
        """The class that a cell tells, its number named by the table or else by `names`."""
        return named(as_meant(value), self.names or names)


@dataclass(frozen=True)
class TableLot:
    """Consecutive rows of a table."""

    table: PoolShard
    columns: Columns
    first: int
    count: int
    by_key: bool
    names: tuple[str, ...]

    def read(self) -> Iterator[Sample]:
        """The samples, in order."""
        here, source = self.columns, open_source(self.table)
        wanted = [c for c in (here.image, here.label, here.caption, here.key) if c is not None]
        # At once: a part of a row group takes as long to decode as all of it.
        rows = source.read(list(dict.fromkeys(wanted)), self.first, self.count)
        self._check_size(rows[here.image])
        for number, row in enumerate(rows.iter_rows(named=True), start=self.first):
            yield self._sample(number, row)

    def _check_size(self, cells: pl.Series) -> None:
        """Refuse a small file that unpacks to more than memory may hold."""
        data = cells.struct.field("bytes") if isinstance(cells.dtype, pl.Struct) else cells
        size = int(data.bin.size().sum())
        if size > MAX_LOT_BYTES:
            raise SetError(
                f"rows {self.first:,} to {self.first + self.count:,} of {self.table.name} are too"
                " much at once", expected=f"{MAX_LOT_BYTES:,} bytes", seen=f"{size:,}",
                do="Write the table anew, in several files.",
            )  # fmt: skip

    def _sample(self, number: int, row: Mapping[str, Any]) -> Sample:
        here = self.columns
        data, name = _image(row[here.image])
        key = (
            clean(str(row[here.key])) if here.key and self.by_key else f"{self.table.name}/{number}"
        )
        meant = here.meant(row[here.label] if here.label else None, self.names)
        caption = caption_of({"caption": row[here.caption]}) if here.caption else None
        return Sample(key, meant, name or key.rpartition("/")[2], data, caption)


class TableImages:
    """The rows of some tables.

    Args:
        paths: the tables by name, which begins the ids of rows without one.
        names: of the classes that have numbers, where the tables do not tell.

    Raises:
        PoolError: a broken table, or a package that is missing.
        SetError: no column of images, or several; a class that is neither text nor number.
    """

    what = "class"

    def __init__(self, paths: Sequence[tuple[str, Path]], *, names: Sequence[str]) -> None:
        self._paths, self._names = paths, tuple(names)
        self.classes: Counter[Meant] = Counter()
        self.said: list[str] = []
        self._tables = [_Table(name, path) for name, path in paths]
        for table in track(self._tables, label="looking into tables", unit="tables"):
            self.classes.update(table.classes(self._names))

    def plan(self, labels: Mapping[Meant, int]) -> Plan:
        """Lots in the order of the tables."""
        inputs: dict[str, Any] = {"images": digest_files(self._paths)}
        if self._names:
            inputs["names"] = "\n".join(self._names)
        by_key = self._by_key(labels)
        lots = [lot for table in self._tables for lot in table.lots(self._names, by_key)]
        return Plan(lots, inputs)

    def _by_key(self, labels: Mapping[Meant, int]) -> bool:
        """Whether every row of a label has a key, and no two rows of one label share one."""
        marks = pl.concat([m for table in self._tables for m in table.marks(labels, self._names)])
        return not marks["key"].has_nulls() and not marks.is_duplicated().any()


class _Table:
    """A table that is looked at: which columns it has, and what its classes are."""

    def __init__(self, name: str, path: Path) -> None:
        self._shard = PoolShard(0, name, str(path))
        self._size = path.stat().st_size
        self._source = open_source(self._shard)
        self._columns = find_columns(self._source, features_of(path), name=path.name)

    def classes(self, names: Sequence[str]) -> Counter[Meant]:
        """Images by class."""
        label = self._columns.label
        if label is None:
            return Counter({None: len(self._source)})
        counts: Counter[Any] = Counter()
        for _, block in sweep(self._source, [label], size=BLOCK):
            counts.update(dict(block[label].value_counts().iter_rows()))
        found: Counter[Meant] = Counter()
        for value, count in counts.items():
            found[self._columns.meant(value, names)] += count
        return found

    def marks(self, labels: Mapping[Meant, int], names: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Key and label of every row that has a label; no key where the table has none."""
        here = self._columns
        yield pl.DataFrame({"key": [None] * (here.key is None), "label": None}, schema=MARKS)
        if here.key is not None and here.label is not None:
            for _, block in sweep(self._source, [*{here.key: 0, here.label: 0}], size=BLOCK):
                theirs = block[here.label].unique().to_list()
                means = {value: labels.get(here.meant(value, names)) for value in theirs}
                label = block[here.label].replace_strict(means, return_dtype=pl.Int64)
                marks = pl.DataFrame([block[here.key].cast(pl.String).alias("key"),
                                      label.alias("label")])  # fmt: skip
                yield marks.filter(pl.col("label").is_not_null())

    def lots(self, names: tuple[str, ...], by_key: bool) -> Iterator[TableLot]:
        """Rows in lots; how many follows from the size of the file, as images are most of it."""
        rows = len(self._source)
        most = max(1, min(LOT_IMAGES, LOT_BYTES * rows // max(self._size, 1)))
        for first in range(0, rows, most):
            count = min(most, rows - first)
            yield TableLot(self._shard, self._columns, first, count, by_key, names)


def find_columns(source: Source, features: Mapping[str, Any], *, name: str) -> Columns:
    """Which columns hold image, class, caption and id.

    Args:
        source: the rows.
        features: what `datasets` wrote of the columns.
        name: of the table, for errors.

    Raises:
        SetError: no column of images, or several of which none is called so.
    """
    kinds = source.columns
    with_bytes = [column for column, kind in kinds.items() if holds_bytes(kind)]
    image = next((c for c in IMAGE_NAMES if c in with_bytes), None)
    if image is None and len(with_bytes) != 1:
        many = "several columns" if with_bytes else "no column"
        raise SetError(
            f"{name} has {many} of images", expected="one called image, with bytes",
            seen=listed(with_bytes or kinds) or "nothing",
        )  # fmt: skip
    named_classes = {c: found for c, f in features.items() if c in kinds and (found := _names(f))}
    labels = [c for c in LABELS if c in kinds and _may_be_class(kinds[c])]
    texts = [c for c in labels if _is_text(kinds[c])]
    named_ones = [c for c in labels if c in named_classes] or list(named_classes)
    label = next(iter([*texts, *named_ones, *labels]), None)
    captions = (c for c in CAPTIONS if c in kinds and _is_text(kinds[c]) and c != label)
    key = next((c for c in ALIASES["key"] if c in kinds and _may_be_class(kinds[c])), None)
    names = named_classes.get(label, ()) if label else ()
    return Columns(image or with_bytes[0], label, names, next(captions, None), key)


def features_of(path: Path) -> dict[str, Any]:
    """What `datasets` wrote of a table's columns: in its Parquet, or beside its Arrow file."""
    try:
        if path.suffix == ".arrow":
            value = read_json(read_bytes(path.with_name("dataset_info.json")), "dataset_info.json")
            found = value["features"]
        else:
            value = pl.read_parquet_metadata(path)["huggingface"]
            found = read_json(value.encode(), "its features")["info"]["features"]
    except (HeadwaterError, pl.exceptions.PolarsError, OSError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _names(feature: Any) -> tuple[str, ...]:
    """The names of a ClassLabel; none of anything else."""
    names = feature.get("names") if isinstance(feature, dict) else None
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(clean(name) for name in names) if names and is_list else ()


def _is_text(kind: Any) -> bool:
    return bool(kind in (pl.String, pl.Categorical, pl.Enum))


def _may_be_class(kind: Any) -> bool:
    return _is_text(kind) or bool(kind.is_integer())


def _image(cell: Any) -> tuple[bytes | None, str]:
    """The bytes of an image as a table has it, and the name of its file."""
    is_struct = isinstance(cell, dict)
    data = cell.get("bytes") if is_struct else cell
    path = cell.get("path") if is_struct else None
    name = clean(path).replace("\\", "/").rpartition("/")[2] if isinstance(path, str) else ""
    return (data[: MAX_BYTES + 1] if isinstance(data, bytes) else None), name
