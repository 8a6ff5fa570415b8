"""Images in folders: one folder a class, or a file of metadata that tells the classes.

A class called `F-16A/B` may lie in two folders, one inside the other. Links are not followed out of
the folder, nor into other folders.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from headwater.classes import many
from headwater.decode import MAX_BYTES
from headwater.errors import TaskError
from headwater.pool.layouts import Listing
from headwater.progress import track
from headwater.splits import IMAGE_SUFFIXES
from headwater.steps.importing.beside import CAPTION_FILE, METADATA, read_beside
from headwater.steps.importing.samples import (
    CLASS_NAMES,
    Meant,
    Plan,
    Sample,
    counted,
    digest_files,
    lots_of,
    named,
    names_of_numbers,
    read_bytes,
)
from headwater.store import Json, digest_value

KNOWN = (CAPTION_FILE, *METADATA, CLASS_NAMES, "README.md")
"""Files that are no images and need no mention."""


@dataclass(frozen=True)
class FolderLot:
    """Images of a folder: path inside it, class, caption."""

    folder: Path
    rows: tuple[tuple[str, Meant, str | None], ...]

    def read(self) -> Iterator[Sample]:
        """The samples, in order."""
        for file, meant, caption in self.rows:
            data = read_bytes(self.folder / file, limit=MAX_BYTES + 1)
            yield Sample(file, meant, PurePosixPath(file).name, data, caption)


class FolderImages:
    """The images of a folder, with the class that each one's place or metadata tells.

    Args:
        folder: where they lie.
        files: what is in it.
        inside: the folder inside it that holds the class folders, such as "train"; "" for itself.
        is_class: whether a text is known to mean a class.

    Raises:
        TaskError: a name that is no text, of which no id can be made.
        SetError: captions or metadata that cannot be read.
    """

    what = "folder"

    def __init__(
        self, folder: Path, files: Listing, *, inside: str, is_class: Callable[[str], bool]
    ) -> None:
        self._folder = folder
        there = {f: size for f, size in files.sizes.items() if f not in files.links_out}
        self._images = {
            file: size
            for file, size in sorted(there.items(), key=lambda item: item[0].split("/"))
            if is_image(file) and is_inside(file, inside) and (folder / file).is_file()
        }
        odd = next((file for file in self._images if not _is_text(file)), None)
        if odd is not None:
            raise TaskError(
                "an image whose name is no text", expected="UTF-8", seen=ascii(odd),
                do="Rename it.",
            )  # fmt: skip
        near = {f: size for f, size in there.items() if "/" not in f or is_inside(f, inside)}
        self._told = read_beside(folder, near, set(self._images))
        self._by_file = self._classes(inside, is_class)
        self.classes: Counter[Meant] = Counter(self._by_file.values())
        self.said = [*self._told.said, *self._left_out(files, inside)]
        if self._told.tells_classes:
            self.what = "class"

    def plan(self, labels: Mapping[Meant, int]) -> Plan:
        """Lots in the order of the labels, then of the paths."""
        wanted = [file for file, meant in self._by_file.items() if meant in labels]
        rows = sorted(wanted, key=lambda file: labels[self._by_file[file]])
        tracked = track(rows, label="looking at files", unit="files")
        inputs: Json = {"images": digest_files((file, self._folder / file) for file in tracked)}
        by_file = self._by_file if self._told.tells_classes else {}
        told = [[f, by_file.get(f), self._told.captions.get(f)] for f in rows]
        if any(row[1:] != [None, None] for row in told):
            inputs["texts"] = digest_value(told)
        cuts = lots_of(self._images[file] for file in rows)
        return Plan([self._lot(rows[cut]) for cut in cuts], inputs)

    def _lot(self, files: list[str]) -> FolderLot:
        captions = self._told.captions
        return FolderLot(
            self._folder, tuple((file, self._by_file[file], captions.get(file)) for file in files)
        )

    def _classes(self, inside: str, is_class: Callable[[str], bool]) -> dict[str, Meant]:
        if self._told.tells_classes:
            names = names_of_numbers(self._folder)
            return {file: named(self._told.classes.get(file), names) for file in self._images}
        depth = 1 if inside else 0
        return {f: _class_folder(f.split("/")[depth:-1], is_class) for f in self._images}

    def _left_out(self, files: Listing, inside: str) -> list[str]:
        texts = {str(PurePosixPath(file).with_suffix(".txt")) for file in self._images}
        paths = [f for f in files.sizes if is_inside(f, inside) and f not in self._images]
        links = {f for f in paths if (self._folder / f).is_symlink() and f not in texts}
        others = Counter(
            PurePosixPath(file).suffix.lower() or "without a suffix"
            for file in paths
            if file not in texts and file not in links and PurePosixPath(file).name not in KNOWN
        )
        said = []
        if links:
            said.append(f"left out {many(len(links), 'link')}, never followed")
        if others:
            said.append(f"left out {many(others.total(), 'other file')}: {counted(others)}")
        return said


def is_image(file: str) -> bool:
    """Whether a path ends as an image's does."""
    return file.lower().endswith(IMAGE_SUFFIXES)


def is_inside(file: str, inside: str) -> bool:
    """Whether a path is in a folder, "" being the one it starts from."""
    return not inside or file.startswith(f"{inside}/")


def _class_folder(parts: list[str], is_class: Callable[[str], bool]) -> Meant:
    """The class that the folders an image lies in tell: the first, or the first two as one name."""
    if len(parts) > 1 and not is_class(parts[0]) and is_class("/".join(parts[:2])):
        return "/".join(parts[:2])
    return parts[0] if parts else None


def _is_text(file: str) -> bool:
    try:
        file.encode()
    except UnicodeEncodeError:
        return False
    return True
