"""What stands beside the images of a folder: their captions, and their classes where files tell.

    captions.json     {"rose/1.png": "a red rose"}
    metadata.csv      a column file_name, and any of caption, text, prompt, label, class, ...;
    metadata.jsonl    so does one JSON object a line, and metadata.parquet
    NAME.txt          the caption of NAME.png

Paths in these files start from the folder they lie in. They are looked up among the images that are
there, never opened.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import polars as pl

from headwater.classes import many
from headwater.errors import SetError, plain
from headwater.steps.importing.samples import (
    LABELS,
    MAX_TEXT,
    Meant,
    as_number,
    caption_of,
    class_of,
    clean,
    read_bytes,
    read_json,
)

CAPTION_FILE = "captions.json"
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE_NAMES = ("file_name", "filename", "path")
MAX_CELL = 2**20  # characters of a cell of a CSV


class Told(NamedTuple):
    """What is told of the images, by their path."""

    captions: dict[str, str]
    classes: dict[str, Meant]
    tells_classes: bool
    said: list[str]


def read_beside(folder: Path, files: Mapping[str, int], images: set[str]) -> Told:
    """All that stands beside some images of a folder.

    Args:
        folder: where the files lie.
        files: their paths inside of it; no link leads out.
        images: those that are images.

    Raises:
        SetError: a file of captions or metadata that cannot be read.
    """
    told = Told({}, {}, False, [])
    for file in sorted(files):
        path = PurePosixPath(file)
        if path.name == CAPTION_FILE:
            near = read_captions((folder / file).parent)
            told.captions.update({str(path.parent / key): text for key, text in near.items()})
    for file in sorted(files):
        if PurePosixPath(file).name in METADATA:
            told = _with_metadata(told, folder, file, images)
    for image in images - told.captions.keys():
        text = str(PurePosixPath(image).with_suffix(".txt"))
        if text in files:
            data = read_bytes(folder / text, limit=MAX_TEXT)
            told.captions[image] = plain(data.decode("utf-8", "replace"))
    return told


def read_captions(folder: Path) -> dict[str, str]:
    """The captions of `captions.json`, by path inside the folder; none where there is no file.

    Raises:
        SetError: not JSON, or not a mapping to texts.
    """
    path = folder / CAPTION_FILE
    if not path.exists():
        return {}
    value = read_json(read_bytes(path), CAPTION_FILE)
    if not isinstance(value, dict):
        raise SetError("captions.json is not a mapping", expected='{"rose/1.png": "a red rose"}')
    captions = {key: text for key, text in value.items() if text is not None}
    odd = next((key for key, text in captions.items() if not isinstance(text, str)), None)
    if odd is not None:
        seen = f"{str(captions[odd])[:40]} for {odd}"
        raise SetError("captions.json holds what is no caption", expected="a text", seen=seen)
    return {clean(key): clean(text) for key, text in captions.items()}


def _with_metadata(told: Told, folder: Path, file: str, images: set[str]) -> Told:
    """What was told, and what a file of metadata adds; the first row of an image counts."""
    place, said = PurePosixPath(file).parent, []
    seen: set[str] = set()
    columns: set[str] = set()
    gone = again = 0
    for row in _rows(folder / file, file):
        columns |= row.keys()
        name = next((row[name] for name in FILE_NAMES if isinstance(row.get(name), str)), None)
        image = str(place / clean(name)) if name else ""
        gone += image not in images
        again += image in seen
        if image not in images or image in seen:
            continue
        seen.add(image)
        if (caption := caption_of(row)) is not None:
            told.captions.setdefault(image, caption)
        if (meant := class_of(row)) is not None:
            told.classes.setdefault(image, meant)
    if gone:
        said.append(f"no image for {many(gone, 'row')} of {file}")
    if again:
        said.append(f"{many(again, 'row')} of {file} for an image told of before; the first counts")
    tells = told.tells_classes or bool(columns & set(LABELS))
    return told._replace(tells_classes=tells, said=told.said + said)


def _rows(path: Path, name: str) -> Iterator[dict[str, Any]]:
    data = read_bytes(path)
    if path.suffix == ".parquet":
        try:
            yield from pl.read_parquet(io.BytesIO(data)).iter_rows(named=True)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            seen = str(error).split("\n")[0]
            raise SetError(f"cannot read {name}", expected="Parquet", seen=seen) from None
    elif path.suffix == ".jsonl":
        for number, line in enumerate(data.splitlines(), start=1):
            if line.strip():
                row = read_json(line, f"line {number} of {name}")
                yield row if isinstance(row, dict) else {}
    else:
        yield from _csv_rows(data.decode("utf-8-sig", "replace"), name)


def _csv_rows(text: str, name: str) -> list[dict[str, Any]]:
    usual = csv.field_size_limit(MAX_CELL)  # one for the whole process
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise SetError(f"cannot read {name}", expected="CSV", seen=str(error)) from None
    finally:
        csv.field_size_limit(usual)
    told = [{key: value for key, value in row.items() if key} for row in rows]
    return [row | {k: as_number(row[k] or "") for k in LABELS if k in row} for row in told]
