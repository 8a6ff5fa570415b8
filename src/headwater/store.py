"""Files that are never half there, and folders that know what was done in them.

A step fills a folder and writes `step.json` last; its presence means finished. While it
works, `started.json` holds what it was asked, so that a killed step goes on where it
stopped, and a step asked for something else is refused, naming the difference.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from headwater.errors import InputError, RunError, SetError

FORMAT = 1
DONE = "step.json"
STARTED = "started.json"
NOT_CONTENT = (DONE, STARTED, "cost.parquet")  # files that may hold seconds and dates
PAGE = b"<!doctype html"  # what every page begins with, in any case
RECORD = {"verb": str, "arguments": dict, "inputs": dict, "counts": dict, "digest": str}
"""What the record of every finished step says."""
WORK = "work"  # a subfolder for what a step needs until it is finished

# Libraries tell of the disk in errors of their own, which carry the system's words.
DISK_WORDS = [os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)]

Json = dict[str, Any]


def write_bytes(path: Path, data: bytes) -> None:
    """Write beside, fsync, rename: `path` is either the old file or the whole new one.

    Raises:
        RunError: the disk is full or the folder cannot be written to.
    """
    with replacing(path) as beside:
        beside.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Text in UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """A JSON object with `format: 1` at its head and keys in the order given."""
    write_text(path, json.dumps({"format": FORMAT, **value}, indent=1, ensure_ascii=False) + "\n")


def write_table(path: Path, table: pl.DataFrame) -> None:
    """A polars table as Parquet; the same table gives the same bytes."""
    with replacing(path) as beside:
        table.rechunk().write_parquet(
            beside, compression="zstd", statistics=True, metadata={"format": str(FORMAT)}
        )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; renamed onto it when the block ends well."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.chmod(0o644)  # some writers make files only their owner may read
        beside.replace(path)
    except Exception as error:
        if isinstance(error, OSError) or any(words in str(error) for words in DISK_WORDS):
            raise disk_error(path, error) from error
        raise
    finally:
        with suppress(OSError):  # a place that cannot be written to says so above
            beside.unlink(missing_ok=True)


def disk_error(path: Path, error: Exception) -> RunError:
    """The one clear line for a disk that will not take a file."""
    words = str(error)
    if any(os.strerror(code) in words for code in (errno.ENOSPC, errno.EDQUOT)):
        do = "Free some space and run the same command again; what is finished is kept."
        return RunError(f"the disk is full while writing {path.name}", do=do)
    return RunError(f"cannot write {path.name}", seen=words)


def read_json(path: Path) -> Json:
    """A JSON object written by `write_json`.

    Raises:
        InputError: missing, not JSON, or of a format this version does not know.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path.name} is missing", seen=f"no such file in {path.parent}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}", expected="JSON", seen=str(error)) from None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        seen = repr(value.get("format") if isinstance(value, dict) else value)[:40]
        raise InputError(
            f"{path} is of another format", expected=f"format: {FORMAT}", seen=seen,
            do="Use the version of Headwater that wrote it.",
        )  # fmt: skip
    return value


def digest_file(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_value(value: object) -> str:
    """The sha256 of a JSON-able value, in hex; independent of the order of keys.

    Example:
        >>> digest_value({"a": 1, "b": 2}) == digest_value({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def digest_folder(folder: Path) -> str:
    """The sha256 over names and contents of a folder's files, records of time left out."""
    return digest_value(
        [[p.relative_to(folder).as_posix(), digest_file(p)] for p in contents(folder)]
    )


def contents(folder: Path) -> list[Path]:
    """The files a step made, sorted; records of time and unfinished work left out."""
    files = (p for p in folder.rglob("*") if p.is_file() and is_content(p.relative_to(folder)))
    return sorted(files)


def is_content(path: Path) -> bool:
    """Whether a path inside a step's folder belongs to what the step made."""
    return path.name not in NOT_CONTENT and path.suffix != ".part" and path.parts[0] != WORK


def stable_seed(*parts: object) -> int:
    """A 63-bit seed that depends only on `parts`, on every machine and in every process.

    Example:
        >>> stable_seed(0, "rose", 12) == stable_seed(0, "rose", 12)
        True
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@dataclass
class Step:
    """What a step was asked and what came of it; becomes `step.json`."""

    folder: Path
    verb: str
    arguments: Json
    inputs: Json
    counts: Json = field(default_factory=dict)
    finished: bool = False
    began: float = field(default_factory=time.monotonic)

    @property
    def asked(self) -> Json:
        """The part that decides the content: verb, arguments, digests of the inputs."""
        asked = {"verb": self.verb, "arguments": self.arguments, "inputs": self.inputs}
        return dict(json.loads(json.dumps(asked)))


@contextmanager
def step(
    folder: Path,
    verb: str,
    *,
    arguments: Json,
    inputs: Json | None = None,
    may_change: Collection[str] = (),
) -> Iterator[Step]:
    """Open `folder` for one step; on a clean exit the step is finished.

    The block must do nothing when `step.finished` is already true, and may find whole files
    of an earlier, killed attempt at the same step. An attempt that came to nothing binds nobody.

    Args:
        folder: what the step fills.
        verb, arguments, inputs: what it is asked; JSON-able.
        may_change: inputs that may be others than before, such as a ledger that has grown since;
            the step then begins anew.

    Raises:
        SetError: the folder holds something else, or the same step with other arguments.
    """
    this = Step(folder, verb, arguments, inputs or {})
    done, started = folder / DONE, folder / STARTED
    check_place(folder)
    earlier = next((read_json(p) for p in (done, started) if p.exists()), None)
    if earlier is not None and not _came_to_nothing(folder):
        before = earlier.get("inputs", {})
        renewed = {**before, **{k: this.inputs[k] for k in may_change if k in before}}
        refuse_other(folder, {**earlier, "inputs": renewed}, this.asked)
        if renewed != before:
            begin_anew(this)
    elif folder.exists() and contents(folder):
        raise SetError(
            f"{folder} is not empty", expected="a new folder, or one made by the same command",
            seen=contents(folder)[0].name, do="Choose another --out.",
        )  # fmt: skip
    this.finished = done.exists()
    if this.finished:
        this.counts = read_step(folder)["counts"]
        clean(folder)
        yield this
        return
    write_json(started, this.asked)
    remove_leftovers(folder)
    yield this
    write_json(done, _record(this))
    clean(folder)


def begin_anew(this: Step) -> None:
    """Make a finished or begun step one that has just begun; what it was asked comes first."""
    remove_folder(this.folder / WORK)
    write_json(this.folder / STARTED, this.asked)
    (this.folder / DONE).unlink(missing_ok=True)


def check_place(folder: Path) -> None:
    """Raise `SetError` if no folder can be at a path, since a file is in its way."""
    there = next((place for place in (folder, *folder.parents) if place.exists()), None)
    if there is not None and not there.is_dir():
        raise SetError(
            f"{folder} cannot be made", expected="a folder", seen=f"a file {there}",
            do="Choose another place.",
        )  # fmt: skip


def check_page(path: Path) -> None:
    """Raise `InputError` where no page can be written: to be known before long work.

    A file that is there is replaced only if it is a page itself: a mixed-up option would else cost
    a task or a CSV of answers.
    """
    check_place(path.parent)
    seen = "a folder" if path.is_dir() else "a file that is no page" if _is_other(path) else ""
    if seen:
        raise InputError(
            f"cannot write a page to {path}", expected="a file such as page.html", seen=seen,
            do="Name another place.",
        )  # fmt: skip


def _is_other(path: Path) -> bool:
    """Whether something is there that is no page."""
    if not path.exists():
        return False
    if not path.is_file():
        return True
    with path.open("rb") as file:
        begin = file.read(64).lstrip().lower()
    return bool(begin) and not begin.startswith(PAGE)


def read_step(folder: Path) -> Json:
    """The record of a finished step.

    Raises:
        SetError: no such folder, or a step that never finished.
    """
    if (folder / DONE).exists():
        record = read_json(folder / DONE)
        told = [name for name, kind in RECORD.items() if not isinstance(record.get(name), kind)]
        if told:
            raise SetError(
                f"{folder / DONE} is no record of a step", expected=", ".join(RECORD),
                seen=f"no {' and no '.join(told)}", do="Make the folder again.",
            )  # fmt: skip
        return record
    if not folder.is_dir():
        raise SetError("no such set", expected=f"a folder {folder}", seen="nothing there")
    if (folder / STARTED).exists():
        verb = read_json(folder / STARTED).get("verb", "the step")
        raise SetError(
            f"{folder} is unfinished", expected=DONE, seen=f"a {verb} that never ended",
            do=f"Run the same `headwater {verb}` again; it goes on where it stopped.",
        )  # fmt: skip
    raise SetError(f"{folder} was not made by Headwater", expected=DONE, seen="no such file")


def refuse_other(folder: Path, earlier: Json, asked: Json) -> None:
    """Raise `SetError` naming the first thing in which `asked` differs from `earlier`.

    Example:
        >>> refuse_other(Path("roses"), {"verb": "a"}, {"verb": "b"})
        Traceback (most recent call last):
            ...
        headwater.errors.SetError: roses was made differently: expected verb b, saw a. ...
    """
    before, now = _flat(earlier), _flat(asked)
    for key in sorted(now.keys() | {k for k in before if k.split(".")[0] in asked}):
        if before.get(key) != now.get(key):
            raise SetError(
                f"{folder} was made differently", expected=f"{key} {now.get(key)}",
                seen=f"{before.get(key)}", do="Choose another --out, or delete the folder.",
            )  # fmt: skip


def _came_to_nothing(folder: Path) -> bool:
    files = (path for path in folder.rglob("*") if path.is_file())
    return all(path.name == STARTED or path.suffix == ".part" for path in files)


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed process was in the middle of writing."""
    for path in folder.rglob(".*.part"):
        path.unlink(missing_ok=True)


def clean(folder: Path) -> None:
    """Delete what a finished step no longer needs."""
    (folder / STARTED).unlink(missing_ok=True)
    remove_folder(folder / WORK)
    remove_leftovers(folder)


def remove_folder(folder: Path) -> None:
    """Delete a folder and all in it; nothing happens where there is none."""
    shutil.rmtree(folder, ignore_errors=True)


def _flat(value: object, prefix: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        parts = [_flat(v, f"{prefix}.{k}" if prefix else str(k)) for k, v in value.items()]
        return {key: item for part in parts for key, item in part.items()}
    return {prefix: value}


def _record(this: Step) -> Json:
    return {
        **this.asked,
        "counts": this.counts,
        "digest": digest_folder(this.folder),
        "bytes": sum(p.stat().st_size for p in contents(this.folder)),
        "seconds": round(time.monotonic() - this.began, 3),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """The versions that decide results: Python, Headwater, and the libraries that compute."""
    names = (
        "headwater",
        "numpy",
        "polars",
        "pillow",
        "torch",
        "open_clip_torch",
        "diffusers",
        "transformers",
    )
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
