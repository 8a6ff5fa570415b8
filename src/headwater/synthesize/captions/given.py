"""Captions that somebody wrote already: in a file, or beside the images of a set.

A file is CSV, JSON lines, Parquet, a folder that `synthesize --captions-only` made, or plain lines
`label<TAB>caption`. Columns are `label` or `class`, and `caption` or `prompt`; `kind` if there is
one. The captions of a set become "a photo of {class}, {caption}".
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from headwater.classes import ClassNames, unknown_classes
from headwater.errors import InputError, first_line, plain
from headwater.store import read_step, stable_seed
from headwater.synthesize.captions.plan import SCHEMA, draw_labels
from headwater.synthesize.captions.wording import shorten
from headwater.task import Task
from headwater.yamlfile import read_text

CAPTIONS = "captions.parquet"
"""What a folder of captions, and a synthetic set, calls its captions."""

COLUMNS = {"label": ("label", "class"), "caption": ("caption", "prompt"), "kind": ("kind",)}
"""Columns as Headwater calls them, and the names other people have for them."""

MOST_BYTES = 1 << 30
MOST_ROWS = 10_000_000
MOST_LETTERS = 2_000  # of a caption; a generator reads some 300, a long one is an accident

RETOLD = "a photo of {name}, {text}"
"""How the caption of a pair becomes one of its class."""

Texts = Mapping[str, Sequence[str]]


def read_captions(path: Path, task: Task) -> pl.DataFrame:
    """The captions of a file, in its order: columns label, caption, kind ("file" if not told).

    Labels are matched as the names of class folders are: by label, by name, or alike.

    Raises:
        InputError: missing, too large, unreadable, without its columns, or with a row that lacks
            a label or a caption, or whose caption is far too long.
        TaskError: a label that is no class.
    """
    table = _read_table(path)
    if not len(table):
        raise InputError(f"{path.name} has no captions", expected="one a line", seen="none")
    _check_rows(table, path)
    known = _meant(table["label"].unique(maintain_order=True).to_list(), task)
    return table.select(
        pl.col("label").replace_strict(known, return_dtype=pl.String),
        pl.Series("caption", [plain(text) for text in table["caption"]], dtype=pl.String),
        pl.col("kind").fill_null("file"),
    )


def take_captions(
    given: pl.DataFrame,
    labels: Sequence[str],
    n: int | None = None,
    *,
    per_class: int | None = None,
    seed: int,
) -> pl.DataFrame:
    """The first `n` of given captions, or the first `per_class` of each class.

    Args:
        given: columns label, caption, kind, in order.
        labels: the classes, in order.
        n: captions in all; or else
        per_class: captions of each class, exactly.
        seed: of the order in which classes take turns.

    Returns:
        Columns index, label, caption, kind.

    Raises:
        InputError: there are fewer.

    Example:
        >>> given = pl.DataFrame({"label": ["a", "a", "b"], "caption": ["x", "y", "z"],
        ...                       "kind": "file"})
        >>> take_captions(given, ["a", "b"], per_class=1, seed=0)["caption"].sort().to_list()
        ['x', 'z']
    """
    if n is not None:
        if n > len(given):
            raise InputError("too few captions", expected=f"{n:,}", seen=f"{len(given):,}")
        return _numbered(given.head(n).select("label", "caption", "kind").iter_rows())
    rows: dict[str, list[tuple[str, str, str]]] = {label: [] for label in labels}
    for row in given.select("label", "caption", "kind").iter_rows():
        rows[row[0]].append(row)
    short = next((label for label in labels if len(rows[label]) < (per_class or 0)), None)
    if short is not None:
        raise InputError(
            f"too few captions of class {short}", expected=f"{per_class:,}",
            seen=f"{len(rows[short]):,}", do="Ask for fewer, or write more.",
        )  # fmt: skip
    return _numbered(_dealt(draw_labels(labels, n, per_class, seed=seed), rows))


def retell(
    texts: Texts, order: Iterable[str], names: Mapping[str, str], *, kind: str
) -> pl.DataFrame:
    """Captions "a photo of {class}, {text}", a text of its class for each label in `order`.

    A class whose texts are used up begins with its first again; `repeated_captions` counts.

    Args:
        texts: of each label, distinct.
        order: the labels of the captions.
        names: display name by label.
        kind: what the captions are called.

    Returns:
        Columns index, label, caption, kind.

    Raises:
        InputError: a label without a text.

    Example:
        >>> retell({"a": ["in a vase"]}, ["a"], {"a": "iris"}, kind="alt_text")["caption"].item()
        'a photo of iris, in a vase'
    """
    order = list(order)
    bare = next((label for label in order if not texts.get(label)), None)
    if bare is not None:
        raise InputError(
            f"class {bare} has no captions to retell", expected="a pair with a caption",
            seen="none in the set", do="Retrieve more, or let another writer write.",
        )  # fmt: skip
    told = {
        label: [(label, _retold(names[label], text), kind) for text in texts[label]]
        for label in dict.fromkeys(order)
    }
    return _numbered(_dealt(order, told))


def distinct_texts(pairs: pl.DataFrame, *, seed: int) -> dict[str, list[str]]:
    """The different captions of each label, cleaned, in an order that depends on seed and ids.

    Args:
        pairs: columns id, label, caption; a null or empty caption counts for nothing.
        seed: any integer.

    Example:
        >>> rows = pl.DataFrame({"id": ["w:1", "w:2"], "label": "a", "caption": [" one", "one"]})
        >>> distinct_texts(rows, seed=0)
        {'a': ['one']}
    """
    keyed = [
        (stable_seed(seed, "alt_text", label, id), label, shorten(plain(caption)))
        for id, label, caption in pairs.select("id", "label", "caption").iter_rows()
        if caption
    ]
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for _, label, text in sorted(keyed):
        if text:
            found[label][text] = None
    return {label: list(texts) for label, texts in found.items()}


def _meant(texts: Sequence[str], task: Task) -> dict[str, str]:
    """The label of the class that each text means."""
    names = ClassNames(task)
    found = {text: names.find(text).index for text in texts}
    unknown = [text for text, index in found.items() if index is None]
    if unknown:
        raise unknown_classes(unknown, names, what="label")
    return {text: task.labels[index] for text, index in found.items() if index is not None}


def _retold(name: str, text: str) -> str:
    return shorten(plain(RETOLD.replace("{name}", name, 1).replace("{text}", text, 1)))


def _dealt(
    order: Iterable[str], rows: Mapping[str, Sequence[tuple[str, str, str]]]
) -> Iterator[tuple[str, str, str]]:
    """For each label its next row, the first one again after the last."""
    turns: Counter[str] = Counter()
    for label in order:
        yield rows[label][turns[label] % len(rows[label])]
        turns[label] += 1


def _numbered(rows: Iterable[tuple[str, str, str]]) -> pl.DataFrame:
    return pl.DataFrame(
        [(index, *row) for index, row in enumerate(rows)], schema=SCHEMA, orient="row"
    )


def _read_table(path: Path) -> pl.DataFrame:
    """Columns label, caption and kind (null where there is none), as texts."""
    if path.is_dir():
        read_step(path)
        path = path / CAPTIONS
    if not path.is_file():
        raise InputError("no captions there", expected=f"a file {path}", seen="nothing there")
    if path.stat().st_size > MOST_BYTES:
        seen = f"{path.stat().st_size:,}"
        raise InputError(f"{path.name} is too large", expected=f"{MOST_BYTES:,} bytes", seen=seen)
    readers = {".parquet": _read_parquet, ".csv": _read_csv, ".jsonl": _read_lines_of_json,
               ".ndjson": _read_lines_of_json}  # fmt: skip
    table = readers.get(path.suffix.lower(), _read_plain_lines)(path)
    if len(table) > MOST_ROWS:
        raise InputError(
            f"{path.name} is too long", expected=f"{MOST_ROWS:,} captions", seen="more"
        )
    return table


def _read_parquet(path: Path) -> pl.DataFrame:
    try:
        wanted = _wanted(pl.read_parquet_schema(path), path)
        table = pl.scan_parquet(path).select(**wanted).head(MOST_ROWS + 1).collect()
        return _as_texts(table)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(path, "Parquet with texts", first_line(error)) from None


def _read_csv(path: Path) -> pl.DataFrame:
    try:
        table = pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(path, "CSV in UTF-8 with a header", first_line(error)) from None
    return _as_texts(table.select(**_wanted(table.schema, path)))


def _read_lines_of_json(path: Path) -> pl.DataFrame:
    rows: list[dict[str, Any]] = []
    for number, line in _lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            place = f"{plain(line)[:40]!r} in line {number}"
            raise _unreadable(path, 'a line {"label": ..., "caption": ...}', place)
        rows.append({str(key).strip().lower(): value for key, value in row.items()})
    names = _wanted(dict.fromkeys(key for row in rows for key in row), path)
    columns = {
        name: [_json_text(row.get(column.meta.output_name())) for row in rows]
        for name, column in names.items()
    }
    return _as_texts(pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)))


def _read_plain_lines(path: Path) -> pl.DataFrame:
    rows = []
    for number, line in _lines(path):
        label, tab, caption = line.partition("\t")
        if not tab:
            raise _unreadable(path, "label<TAB>caption", f"{plain(line)[:40]!r} in line {number}")
        rows.append((label.strip(), caption, None))
    return pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String), orient="row")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that say something, with their numbers from 1."""
    text = read_text(path, InputError).removeprefix("\ufeff")
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip("\r")


def _wanted(there: Iterable[str], path: Path) -> dict[str, pl.Expr]:
    """The columns of a file under Headwater's names."""
    known = {name.strip().lower(): name for name in there}
    found = {
        name: next((known[alias] for alias in aliases if alias in known), None)
        for name, aliases in COLUMNS.items()
    }
    lacking = next((name for name in ("label", "caption") if found[name] is None), None)
    if lacking:
        raise InputError(
            f"{path.name} has no column {lacking}", expected=" or ".join(COLUMNS[lacking]),
            seen=", ".join(list(known)[:8]) or "no column",
        )  # fmt: skip
    return {name: pl.col(column) for name, column in found.items() if column is not None}


def _as_texts(table: pl.DataFrame) -> pl.DataFrame:
    """Every column of `COLUMNS` as texts; numbers are written out."""
    missing = [pl.lit(None, pl.String).alias(name) for name in COLUMNS if name not in table.columns]
    return table.with_columns(missing).select(pl.col(*COLUMNS).cast(pl.String))


def _json_text(value: object) -> str | None:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # half a surrogate pair is no text
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _check_rows(table: pl.DataFrame, path: Path) -> None:
    """Raise `InputError` for the first row that lacks something, or says too much."""
    for number, (label, caption, _) in enumerate(table.iter_rows(), start=1):
        for name, text in (("label", label), ("caption", caption)):
            if text is None or not plain(text):
                raise InputError(
                    f"a row of {path.name} lacks its {name}", expected="a text",
                    seen=f"none in row {number:,}",
                )  # fmt: skip
        if len(caption) > MOST_LETTERS:
            raise InputError(
                f"a caption of {path.name} is too long", expected=f"{MOST_LETTERS:,} characters",
                seen=f"{len(caption):,} in row {number:,}",
            )  # fmt: skip


def _unreadable(path: Path, expected: str, seen: str) -> InputError:
    return InputError(f"cannot read {path.name}", expected=expected, seen=seen)
