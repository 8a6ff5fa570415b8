"""The evaluation images of a task: ImageFolders, read whole, with the class each folder means.

A split is a folder with one folder a class, called by its label, its name, or alike: `classes.py`
tells which is meant. What a task itself says is in `task.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headwater.classes import ClassNames, class_indices
from headwater.decode import Image8, decode_rgb
from headwater.errors import DecodeError, TaskError
from headwater.progress import track
from headwater.store import digest_file, digest_value
from headwater.task import Task

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")


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
        TaskError: folders that match no class (the nearest names are given), or two that match
            the same one.
    """
    there = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    subs = {p.name: p for p in there}
    found = class_indices(list(subs), ClassNames(task), what="folder")
    rows = [(subs[name], meant.index) for name, meant in found.items() if meant.index is not None]
    return sorted(rows, key=lambda row: row[1])


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
