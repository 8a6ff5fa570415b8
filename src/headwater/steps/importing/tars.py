"""Images in WebDataset tars: members that share a name up to its first dot are one sample.

    a/17.jpg    the image; of several the first counts
    a/17.cls    its class: a name, or a number for classnames.txt
    a/17.txt    its caption
    a/17.json   either, under the names columns have
    a/          its class, where nothing else tells it

A first pass looks at everything but the images and notes where each lot begins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath

from headwater.classes import many
from headwater.decode import MAX_BYTES
from headwater.errors import SetError, plain
from headwater.pool.tars import iter_files
from headwater.progress import track
from headwater.splits import IMAGE_SUFFIXES
from headwater.steps.importing.samples import (
    MAX_TEXT,
    Meant,
    Plan,
    Sample,
    as_number,
    caption_of,
    class_of,
    counted,
    digest_files,
    lots_of,
    named,
    read_json,
)

TEXTS = ("cls", "txt", "json")


@dataclass
class Members:
    """The members of a sample: its key, where it begins, its texts, and its image."""

    key: str
    offset: int
    texts: dict[str, str] = field(default_factory=dict)
    image: str = ""
    size: int = 0
    data: bytes | None = None
    others: list[str] = field(default_factory=list)
    told: Mapping[str, object] = field(default_factory=dict)

    def add_text(self, kind: str, data: bytes) -> None:
        """Take in a text; one that is too long, or JSON that is none, tells nothing."""
        if len(data) > MAX_TEXT:
            self.others.append(f"{kind} too long")
            return
        self.texts[kind] = data.decode("utf-8", "replace")
        if kind == "json":
            try:
                value = read_json(data, kind)
            except SetError:
                self.others.append("json that is none")
                return
            self.told = value if isinstance(value, dict) else {}

    def meant(self, names: Sequence[str]) -> Meant:
        """The class that the sample tells."""
        told = None
        if "cls" in self.texts:
            told = as_number(self.texts["cls"])
        if told is None:
            told = class_of(self.told)
        if told is None:
            told = PurePosixPath(self.key).parent.name or None
        return named(told, names)

    def caption(self) -> str | None:
        """The caption that the sample tells."""
        return plain(self.texts.get("txt", "")) or caption_of(self.told)


@dataclass(frozen=True)
class TarLot:
    """Samples of a tar: `count` from an offset on, but for some by their place."""

    path: Path
    stem: str
    offset: int
    count: int
    repeated: frozenset[int]
    names: tuple[str, ...]

    def read(self) -> Iterator[Sample]:
        """The samples, in order."""
        members = iter_members(self.path, first=self.offset, images=True)
        for place, sample in enumerate(islice(members, self.count)):
            if place not in self.repeated:
                key = f"{self.stem}/{sample.key}"
                meant = sample.meant(self.names)
                yield Sample(key, meant, sample.image, sample.data, sample.caption())


class TarImages:
    """The samples of some tars.

    Args:
        paths: the tars by name, which begins the ids of their images.
        names: of the classes that have numbers.

    Raises:
        PoolError: a broken tar.
    """

    what = "class"

    def __init__(self, paths: Sequence[tuple[str, Path]], *, names: Sequence[str]) -> None:
        self._paths, self._names = paths, tuple(names)
        self.classes: Counter[Meant] = Counter()
        self._others: Counter[str] = Counter()
        self._repeated = 0
        self._seen: set[str] = set()
        looked = track(paths, label="looking into tars", unit="tars")
        self._lots = [lot for name, path in looked for lot in self._look(name, path)]

    @property
    def said(self) -> list[str]:
        """What was left out."""
        said = []
        if self._others:
            said.append(f"left out of the tars: {counted(self._others)}")
        if self._repeated:
            said.append(
                f"left out {many(self._repeated, 'sample')} with a key that was there before"
            )
        return said

    def plan(self, labels: Mapping[Meant, int]) -> Plan:
        """Lots in the order of the tars."""
        inputs = {"images": digest_files(self._paths)}
        if self._names:
            inputs["names"] = "\n".join(self._names)
        return Plan(self._lots, inputs)

    def _look(self, name: str, path: Path) -> list[TarLot]:
        """The lots of a tar, its samples counted by class."""
        offsets: list[int] = []
        sizes: list[int] = []
        repeated: list[int] = []
        for members in iter_members(path):
            self._others.update(members.others)
            if not members.image:
                continue
            key = f"{name}/{members.key}"  # a/b.tar and a folder b in a.tar may share ids
            if key in self._seen:
                repeated.append(len(offsets))
            else:
                self.classes[members.meant(self._names)] += 1
            self._seen.add(key)
            offsets.append(members.offset)
            sizes.append(members.size)
        self._repeated += len(repeated)
        return [
            TarLot(
                path, name, offsets[cut.start], cut.stop - cut.start,
                frozenset(at - cut.start for at in repeated if cut.start <= at < cut.stop),
                self._names,
            )
            for cut in lots_of(sizes)
        ]  # fmt: skip


def iter_members(path: Path, *, first: int = 0, images: bool = False) -> Iterator[Members]:
    """The samples of a tar; what lies between them is a sample without an image in a first pass.

    Args:
        path: the tar.
        first: the offset of the member to begin with.
        images: whether to read the images, and to give only samples that have one.

    Raises:
        PoolError: a broken tar.
    """
    current: Members | None = None
    for file in iter_files(str(path), first=first):
        key, kind = member_key(file.name)
        if not kind:
            continue
        if current is None or current.key != key:
            if current and (current.image or not images):
                yield current
            current = Members(key, file.offset)
        if kind in TEXTS and kind not in current.texts:
            current.add_text(kind, file.read(MAX_TEXT + 1))
        elif f".{kind}" in IMAGE_SUFFIXES and not current.image:
            current.image, current.size = PurePosixPath(file.name).name, file.size
            current.data = file.read(MAX_BYTES + 1) if images else None
        else:
            current.others.append(kind)
    if current and (current.image or not images):
        yield current


def member_key(name: str) -> tuple[str, str]:
    """A member's key and kind: its path up to the first dot of the file's name, and what follows.

    Members that lead out of the tar, and hidden ones, have no key; the latter no kind either.

    Example:
        >>> member_key("./a/17.JPG"), member_key("../x.jpg"), member_key("a/._17.jpg")
        (('a/17', 'jpg'), ('', 'leading out of the tar'), ('', ''))
    """
    path = PurePosixPath(name)
    if ".." in path.parts or path.is_absolute():
        return "", "leading out of the tar"
    if any(part.startswith(".") for part in path.parts):
        return "", ""
    stem, _, kind = path.name.partition(".")
    return str(path.with_name(stem)), kind.lower() or "without a suffix"
