"""What every reader of foreign images gives: samples, in lots that fit into memory.

A reader first looks at everything but the images: which classes are meant, and what its lots are.
Then each lot, which becomes a shard of the set, reads its own images, in any process.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from headwater.decode import MAX_BYTES
from headwater.errors import SetError
from headwater.store import Json, digest_file, digest_value

LABELS = ("classname", "class_name", "class", "label", "cls", "category", "target")
CAPTIONS = ("caption", "text", "prompt", "TEXT")
"""What people call the class of an image and its caption, in columns and in JSON."""

CLASS_NAMES = "classnames.txt"

LOT_IMAGES = 1000
LOT_BYTES = 256 * 2**20
"""The most a lot holds; an image over the limit of `decode` counts as that."""

MAX_TEXT = 2**20  # bytes of a text beside an image

Meant = str | int | None
"""A class as they call it: a name, a number that nobody gave a name, or none."""


class Sample(NamedTuple):
    """An image as it was found; `key` is its id but for the namespace, `name` that of its file."""

    key: str
    meant: Meant
    name: str
    data: bytes | None
    caption: str | None


class Lot(Protocol):
    """Samples that become one shard; picklable."""

    def read(self) -> Iterator[Sample]:
        """The samples, in order; of an image over the limit no more than shows that."""


class Plan(NamedTuple):
    """The lots in the order of the shards, and digests of all that decides what they hold."""

    lots: Sequence[Lot]
    inputs: Json


class Images(Protocol):
    """Foreign images of one form, before any of them is read."""

    @property
    def what(self) -> str:
        """What a class of theirs is: "folder" or "class"."""

    @property
    def classes(self) -> Counter[Meant]:
        """Images by class."""

    @property
    def said(self) -> list[str]:
        """What a person should know, each in a line."""

    def plan(self, labels: Mapping[Meant, int]) -> Plan:
        """How to read the images whose class is known, by its index in the task."""


def lots_of(sizes: Iterable[int]) -> Iterator[slice]:
    """Where lots begin and end among images of these sizes, in bytes.

    Example:
        >>> list(lots_of([10] * 1001)), list(lots_of([2 * LOT_BYTES, 5]))
        ([slice(0, 1000, None), slice(1000, 1001, None)], [slice(0, 2, None)])
    """
    first = at = held = 0
    for at, size in enumerate(sizes, start=1):
        room = min(size, MAX_BYTES)
        if at - first > LOT_IMAGES or (held + room > LOT_BYTES and held):
            yield slice(first, at - 1)
            first, held = at - 1, 0
        held += room
    if at > first:
        yield slice(first, at)


def as_meant(value: object) -> Meant:
    """A class as a column or JSON has it: text, a number from 0 on, or none.

    Example:
        >>> as_meant(" rose "), as_meant(3), as_meant(-1), as_meant(True), as_meant("")
        ('rose', 3, None, None, None)
    """
    if isinstance(value, str):
        return clean(value).strip() or None
    return value if type(value) is int and value >= 0 else None


def as_number(text: str) -> Meant:
    """A class as a text file has it, where numbers are texts too.

    Example:
        >>> as_number("7"), as_number("rose"), as_number("")
        (7, 'rose', None)
    """
    short = clean(text).strip()
    return int(short) if short.isascii() and short.isdigit() and len(short) < 10 else short or None


def named(meant: Meant, names: Sequence[str]) -> Meant:
    """The name of a number, where it has one.

    Example:
        >>> named(1, ["rose", "fern"]), named(2, ["rose", "fern"]), named("rose", [])
        ('fern', 2, 'rose')
    """
    return names[meant] if isinstance(meant, int) and meant < len(names) else meant


def class_of(row: Mapping[str, Any]) -> Meant:
    """The class that a row or a JSON object tells: a text before a number."""
    found = [as_meant(row[name]) for name in LABELS if name in row]
    texts = [meant for meant in found if isinstance(meant, str)]
    return next(iter(texts), next((meant for meant in found if meant is not None), None))


def caption_of(row: Mapping[str, Any]) -> str | None:
    """The caption, else the prompt, that a row or a JSON object tells."""
    texts = [clean(row[name]) for name in CAPTIONS if isinstance(row.get(name), str)]
    return next((text for text in texts if text.strip()), None)


def clean(text: str) -> str:
    """A text without halves of characters, which JSON can hold and no table can.

    Example:
        >>> clean("half a " + chr(0xD800))
        'half a ?'
    """
    return text.encode("utf-8", "replace").decode()


def read_json(data: bytes, name: str) -> Any:
    """JSON from outside.

    Raises:
        SetError: it is none.
    """
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise SetError(f"cannot read {name}", expected="JSON", seen=str(error)) from None


def read_bytes(path: Path, *, limit: int = -1) -> bytes:
    """The first bytes of a file; all by default.

    Raises:
        SetError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise SetError(f"cannot read {path}", seen=error.strerror or str(error)) from None


def digest_files(paths: Iterable[tuple[str, Path]]) -> str:
    """The sha256 over names and contents of some files.

    Raises:
        SetError: one that cannot be read.
    """
    try:
        return digest_value([[name, digest_file(path)] for name, path in paths])
    except OSError as error:
        seen = error.strerror or str(error)
        raise SetError(f"cannot read {error.filename or 'a file'}", seen=seen) from None


def names_of_numbers(folder: Path) -> list[str]:
    """The class names of `classnames.txt`, in the order of the numbers, if it is there."""
    path = folder / CLASS_NAMES
    if not path.is_file():
        return []
    lines = read_bytes(path).decode("utf-8-sig", "replace").splitlines()
    return [line.strip() for line in lines if line.strip()]


def listed(items: Iterable[str], *, most: int = 10) -> str:
    """A few of many, for one line.

    Example:
        >>> listed("abc", most=2)
        'a, b and 1 more'
    """
    every = list(items)
    more = f" and {len(every) - most:,} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def counted(kinds: Mapping[str, int]) -> str:
    """How many of each kind, the most first.

    Example:
        >>> counted({".xmp": 1, ".json": 3})
        '3 .json, 1 .xmp'
    """
    most_first = sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0]))
    return listed(f"{count:,} {kind}" for kind, count in most_first)
