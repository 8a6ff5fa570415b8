"""The evaluation images of a task: ImageFolders, read whole, with the class each folder means.

A split is a folder with one folder a class, called by its label, its name, or alike. What a task
itself says is in `task.py`.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from headwater.decode import Image8, decode_rgb
from headwater.errors import DecodeError, TaskError
from headwater.progress import track
from headwater.store import digest_file, digest_value
from headwater.task import Task

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")

UNFIT = re.compile(r'^[. ]|[. ]$|[<>:"/\\|?*\x00-\x1f\x7f-\x9f]|%(?=[0-9A-Fa-f]{2})')
"""What no name of a file may hold, would hide it, or reads like an escape."""


class Split:
    """Evaluation images with their labels: ids, class indices, and decoded pictures."""

    def __init__(self, ids: list[str], targets: NDArray[np.int64], images: list[Image8]) -> None:
        self.ids, self.targets, self.images = ids, targets, images

    def __len__(self) -> int:
        return len(self.ids)


def load_split(task: Task, split: str) -> Split:
    """Decode the images of a split: ImageFolder, one folder a class, by label or by name.

    Raises:
        TaskError: a folder that is no class, a class twice, or an image that cannot be decoded
            (evaluation images are never dropped silently).
    """
    rows = split_files(task, split)
    images = [read_image(path) for _, path, _ in track(rows, label=f"reading {split} images")]
    ids = [name for name, _, _ in rows]
    return Split(ids, np.array([index for _, _, index in rows], np.int64), images)


def split_files(task: Task, split: str) -> list[tuple[str, Path, int]]:
    """Every image of a split: its id, which is its path inside the split, its file, its class.

    Raises:
        TaskError: a folder that is no class, a class twice, or no image at all.
    """
    folder = task.folder(split)
    files = [
        (path.relative_to(folder).as_posix(), path, index)
        for sub, index in class_folders(folder, task)
        for path in image_files(sub)
    ]
    if not files:
        raise TaskError(f"the {split} split is empty", expected="images", seen=f"none in {folder}")
    return files


def split_digest(task: Task, split: str) -> str:
    """The sha256 over the names and contents of a split's images."""
    return digest_value([[name, digest_file(path)] for name, path, _ in split_files(task, split)])


def class_folders(folder: Path, task: Task) -> list[tuple[Path, int]]:
    """The class folders inside `folder` with their class index, in the order of the labels.

    Raises:
        TaskError: a folder that matches no class (the nearest names are given), or two that
            match the same one.
    """
    found: dict[int, Path] = {}
    for sub in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        index = class_index(sub.name, task)
        if index in found:
            raise TaskError(
                f"two folders for class {task.labels[index]}", expected="one",
                seen=f"{found[index].name} and {sub.name}",
            )  # fmt: skip
        found[index] = sub
    return [(found[index], index) for index in sorted(found)]


def class_index(text: str, task: Task) -> int:
    """The index of the class meant by a folder's name: its label, else its name, else alike.

    What `file_name` escaped is read back. Case, spaces, underscores, dashes and slashes do not
    count in the last try.

    Raises:
        TaskError: no class, or several, are meant; the nearest labels are given.
    """
    meant = unquote(text)
    for spelling in [meant, text] if file_name(meant) == text else [text]:
        for known in (task.labels, task.names):
            if known.count(spelling) == 1:
                return known.index(spelling)
    alike = [i for i, name in enumerate(task.names) if _squash(name) == _squash(text)]
    alike = alike or [i for i, label in enumerate(task.labels) if _squash(label) == _squash(text)]
    if len(alike) == 1:
        return alike[0]
    near = [task.labels[i] for i in alike] or _nearest(text, task.labels + task.names)
    raise TaskError(
        f"{text} is no class of task {task.name}", expected="a class label or name",
        seen=text, do=f"Did you mean {' or '.join(near)}?" if near else "",
    )  # fmt: skip


def file_name(text: str) -> str:
    """A text as the name of a file or folder on any system; no two texts share one.

    What does not fit is escaped as in a URL; most texts stay as they are.

    Example:
        >>> file_name("tree fern"), file_name("AC/DC"), file_name(".."), file_name("100% silk")
        ('tree fern', 'AC%2FDC', '%2E%2E', '100% silk')
    """
    return UNFIT.sub(lambda found: "".join(f"%{b:02X}" for b in found[0].encode()), text)


def image_files(folder: Path) -> list[Path]:
    """The image files of one class folder, sorted; nothing that points out of it.

    Raises:
        TaskError: a name that is no text, of which no id can be made.
    """
    root = folder.resolve()
    files = (p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    found = sorted(p for p in files if p.is_file() and p.resolve().is_relative_to(root))
    odd = next((path for path in found if not _is_text(path.relative_to(folder))), None)
    if odd is not None:
        raise TaskError(
            "an image whose name is no text", expected="UTF-8", seen=ascii(str(odd)),
            do="Rename it.",
        )  # fmt: skip
    return found


def _is_text(path: Path) -> bool:
    try:
        path.as_posix().encode()
    except UnicodeEncodeError:
        return False
    return True


def read_image(path: Path) -> Image8:
    """An evaluation image.

    Raises:
        TaskError: it cannot be decoded.
    """
    try:
        return decode_rgb(path.read_bytes())
    except DecodeError as error:
        raise TaskError(
            "an evaluation image cannot be decoded", expected="an image", seen=f"{error}: {path}",
            do="Mend or remove it; evaluation images are never dropped silently.",
        ) from None  # fmt: skip


def _squash(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def _nearest(text: str, known: list[str]) -> list[str]:
    import difflib

    return difflib.get_close_matches(text, known, n=2)
