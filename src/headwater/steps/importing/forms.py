"""Which form foreign images have, told by the names of the files, and the reader for it.

    a Headwater set       step.json and data/pairs-*.parquet
    folders               a folder, of a class or of a split, with images in it
    WebDataset            *.tar
    tables                *.parquet, or *.arrow as `datasets` saves them

Where files or folders are named after splits, those of the training split are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from headwater.errors import SetError
from headwater.pairs import shard_paths
from headwater.pool.layouts import Listing, list_files
from headwater.steps.importing.beside import METADATA
from headwater.steps.importing.folders import FolderImages, is_image
from headwater.steps.importing.samples import Images, listed, names_of_numbers
from headwater.steps.importing.tables import TableImages
from headwater.steps.importing.tars import TarImages
from headwater.store import DONE, STARTED

SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "test": "test", "testing": "test",
}  # fmt: skip
"""Words in the names of files and folders, and the split they speak of."""

PACKED = (".tar.gz", ".tgz", ".zip", ".tar.bz2", ".tar.xz", ".tar.zst")
TABLES = (".parquet", ".arrow")


def find_images(place: Path, is_class: Callable[[str], bool]) -> tuple[Images, list[str]]:
    """The images of a folder or a file, and what was left aside.

    Args:
        place: the folder, or one .tar, .parquet or .arrow.
        is_class: whether a text is known to mean a class.

    Raises:
        SetError: nothing there, or nothing that is known; splits, and no training split.
        PoolError: a broken file.
    """
    if place.is_file():
        return _packed({place.name: place}, place.parent), []
    if not place.is_dir():
        raise SetError("nothing to import", expected=f"a folder {place}", seen="nothing there")
    if (place / DONE).exists() or (place / STARTED).exists():
        shards = {path.relative_to(place).as_posix(): path for path in shard_paths(place)}
        return _packed(shards, place), []
    files = list_files(str(place))
    inside, said = _folder_of_split(files, is_class)
    if not any(is_class(name) for name in _folders(files, inside)):
        packed = files.ending(".tar") or _tables(files)
        if packed:
            chosen, said = training_files(packed)
            if linked := [file for file in chosen if file in files.links_out]:
                raise _nothing(place, files, [f"links out of it, such as {linked[0]}"])
            return _packed({file: place / file for file in chosen}, place), said
    found = FolderImages(place, files, inside=inside, is_class=is_class)
    if not found.classes:
        raise _nothing(place, files, found.said)
    return found, said


def training_files(files: list[str]) -> tuple[list[str], list[str]]:
    """Of files named after splits, those of the training split; else all.

    Example:
        >>> training_files(["data/train-0.parquet", "data/test-0.parquet"])
        (['data/train-0.parquet'], ['the training split is read; left alone: test'])
        >>> training_files(["0.tar", "1.tar"])
        (['0.tar', '1.tar'], [])
    """
    splits = {file: split_of(file) for file in files}
    kinds = sorted({split for split in splits.values() if split})
    chosen = [file for file in files if splits[file] == "train"]
    if not chosen and (len(kinds) < 2 or None in splits.values()):
        return files, []
    if not chosen:
        raise _no_training_split(kinds)
    return chosen, _alone(kinds)


def split_of(file: str) -> str | None:
    """The split that a path speaks of, if any.

    Example:
        >>> split_of("data/validation-00000-of-00001.parquet"), split_of("contest.tar")
        ('val', None)
    """
    words = re.split("[^a-z]+", file.lower())
    return next((SPLITS[word] for word in words if word in SPLITS), None)


def _folder_of_split(files: Listing, is_class: Callable[[str], bool]) -> tuple[str, list[str]]:
    """The training folder, where all folders with images are splits; "" where they are not."""
    names = _folders(files, "")
    splits = {name: SPLITS.get(name.lower()) for name in names}
    if not names or None in splits.values() or any(map(is_class, names)):
        return "", []
    kinds = sorted({str(split) for split in splits.values()})
    training = [name for name, split in splits.items() if split == "train"]
    if len(names) > 1 and not training:
        raise _no_training_split(kinds)
    return (training or names)[0], _alone(kinds) if training else []


def _folders(files: Listing, inside: str) -> list[str]:
    """The folders with images, in a folder."""
    depth = 1 if inside else 0
    paths = [PurePosixPath(file).parts[depth:] for file in files.sizes if is_image(file)]
    return sorted({parts[0] for parts in paths if len(parts) > 1})


def _no_training_split(kinds: list[str]) -> SetError:
    return SetError(
        "which split is to be imported?", expected="train", seen=" and ".join(kinds),
        do="Name the folder or the file of one.",
    )  # fmt: skip


def _alone(kinds: list[str]) -> list[str]:
    others = [kind for kind in kinds if kind != "train"]
    return [f"the training split is read; left alone: {listed(others)}"] if others else []


def _tables(files: Listing) -> list[str]:
    """Tables: those in `data/` where there are any; Arrow files only beside their state."""
    homes = {str(PurePosixPath(f).parent) for f in files.sizes if f.split("/")[-1] == "state.json"}
    arrows = [f for f in files.ending(".arrow") if str(PurePosixPath(f).parent) in homes]
    tables = [f for f in files.ending(".parquet") if PurePosixPath(f).name not in METADATA]
    return arrows or [f for f in tables if f.startswith("data/")] or tables


def _packed(files: dict[str, Path], folder: Path) -> Images:
    """The reader of tars or of tables; their names begin ids."""
    names = names_of_numbers(folder)
    suffixes = {path.suffix.lower() for path in files.values()}
    stems = [(str(PurePosixPath(name).with_suffix("")), path) for name, path in files.items()]
    if suffixes == {".tar"}:
        return TarImages(stems, names=names)
    if suffixes <= set(TABLES):
        return TableImages(stems, names=names)
    raise SetError(
        "images of a form that is not read", seen=listed(files),
        expected="a folder, a .tar, a .parquet or an .arrow", do="Unpack it, and give the folder.",
    )  # fmt: skip


def _nothing(place: Path, files: Listing, said: list[str]) -> SetError:
    packed = files.ending(*PACKED)
    if packed and not files.links_out:
        do = f"Unpack {listed(packed, most=3)} first."
    elif files.links_out:
        do = "Links out of the folder are not followed: copy the files into it, as cp -rL does."
    else:
        do = ""
    seen = "; ".join(said) or "an empty folder"
    return SetError(f"no images in {place}", expected="one folder a class", seen=seen, do=do)
