"""The task: class names, prompts, caption queries, and evaluation images if there are any.

A task is a YAML file, or the name of a built-in one in `tasks/`. Only class names are
required:

    format: 1
    name: garden
    classes: [rose, {label: fern, name: tree fern, queries: [tree fern, Cyatheales]},
      {label: lotus, caption_query: '"lotus" AND "flower"'}]
    prompts: {evaluation: ["a photo of {a} {}."]}
    images: {val: images/val, test: images/test}     # ImageFolder: one folder a class
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from headwater.decode import Image8, decode_rgb
from headwater.errors import DecodeError, QueryError, TaskError
from headwater.expression import Expression, parse_query
from headwater.progress import track
from headwater.prompts import has_slot
from headwater.store import digest_file, digest_value
from headwater.yamlfile import read_mapping, read_text, validate

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")


def _text(value: object) -> object:
    # YAML reads `7` as a number; a class may well be called so.
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Text = Annotated[str, BeforeValidator(_text), Field(min_length=1)]


def _readable(text: str) -> str:
    try:
        parse_query(text)
    except QueryError as error:
        raise ValueError(str(error)) from None
    return text


Boolean = Annotated[str, BeforeValidator(_text), AfterValidator(_readable)]


class ClassName(BaseModel):
    """One class: its unique label, the name shown and prompted with, and its caption queries."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: Text
    name: Text
    queries: tuple[Text, ...] = ()
    caption_query: tuple[Boolean, ...] = ()

    @field_validator("caption_query", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | int | float) else value

    @model_validator(mode="after")
    def _has_a_query(self) -> Self:
        if not self.queries and not self.caption_query:
            raise ValueError("nothing to search captions for; give queries or a caption_query")
        return self

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, value: Any) -> Any:
        if isinstance(value, str | int | float):
            value = {"label": value}
        if isinstance(value, dict):
            label = value.get("label", value.get("name"))
            name = value.get("name", label)
            queries = [] if "caption_query" in value else [name]
            value = {"label": label, "name": name, "queries": queries} | value
        return value


class Prompts(BaseModel):
    """Templates a class name is put into: `{}` is the name, `{a}` is "a" or "an"."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    evaluation: tuple[str, ...] = ("a photo of {a} {}.",)
    retrieval: tuple[str, ...] = ("a photo of {a} {}.",)
    filter: tuple[str, ...] = ("a photo of {a} {}.",)
    synthesis: tuple[str, ...] = ()  # none: the grammar's own wordings

    @model_validator(mode="after")
    def _has_a_slot(self) -> Self:
        for kind, templates in self:
            for template in templates:
                if not has_slot(template):
                    raise ValueError(f"the {kind} prompt {template!r} has no {{}} for the class")
        return self


class Task(BaseModel):
    """Class names, prompts, queries and evaluation images; see `load_task`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = Field(ge=1, le=1)
    name: Text
    classes: tuple[ClassName, ...] = Field(min_length=1)
    prompts: Prompts = Prompts()
    images: dict[str, Path] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _labels_are_unique(self) -> Self:
        twice = sorted({x for x in self.labels if self.labels.count(x) > 1})
        if twice:
            raise ValueError(f"two classes share the label {twice[0]!r}; give one another label")
        return self

    @property
    def labels(self) -> list[str]:
        """Unique labels, in the order of the head's rows."""
        return [c.label for c in self.classes]

    @property
    def names(self) -> list[str]:
        """Display names, in the order of `labels`."""
        return [c.name for c in self.classes]

    @property
    def name_of(self) -> dict[str, str]:
        """The display name of each label."""
        return dict(zip(self.labels, self.names, strict=True))

    @property
    def queries(self) -> dict[str, list[str | Expression]]:
        """What to look for in captions, per label: plain phrases, then expressions."""
        return {c.label: [*c.queries, *map(parse_query, c.caption_query)] for c in self.classes}

    @property
    def digest(self) -> str:
        """Identifies what was asked: names, prompts and queries, not where images lie."""
        return digest_value(self.model_dump(mode="json", exclude={"images"}))

    def __hash__(self) -> int:
        """So that a process can keep what it read of a task."""
        return hash(self.digest)

    def folder(self, split: str) -> Path:
        """Where the images of a split lie.

        Raises:
            TaskError: the task has no such split, or its folder is missing.
        """
        if split not in self.images:
            have = ", ".join(self.images) or "no images at all"
            raise TaskError(f"task {self.name} has no {split} split", expected=split, seen=have)
        if not self.images[split].is_dir():
            raise TaskError(
                f"the {split} images of task {self.name} are missing",
                expected=f"a folder {self.images[split]}", seen="nothing there",
            )  # fmt: skip
        return self.images[split]


class Split:
    """Evaluation images with their labels: ids, class indices, and decoded pictures."""

    def __init__(self, ids: list[str], targets: NDArray[np.int64], images: list[Image8]) -> None:
        self.ids, self.targets, self.images = ids, targets, images

    def __len__(self) -> int:
        return len(self.ids)


def load_task(name: str | Path) -> Task:
    """Read a task file, or a built-in task by its name.

    Raises:
        TaskError: unknown name, unreadable file, or a mistake in it (with its place).

    Example:
        >>> load_task("miniature").names[:3]
        ['zero', 'one', 'two']
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.exists():
        return _read(path, base=path.parent)
    if str(name) in builtin_tasks():
        return _read(_builtin(str(name)), base=None)
    raise TaskError(
        f"unknown task {name}", expected="a task file, or one of " + ", ".join(builtin_tasks()),
        seen=f"neither a file nor a built-in task called {name}",
    )  # fmt: skip


def builtin_tasks() -> list[str]:
    """The names of the tasks that come with Headwater.

    Example:
        >>> "miniature" in builtin_tasks()
        True
    """
    folder = resources.files("headwater") / "tasks"
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if ".yaml" in p.name)


def load_split(task: Task, split: str) -> Split:
    """Decode the images of a split: ImageFolder, one folder a class, by label or by name.

    Raises:
        TaskError: a folder that is no class, a class twice, or an image that cannot be decoded
            (evaluation images are never dropped silently).
    """
    folder = task.folder(split)
    rows = [
        (index, path) for sub, index in class_folders(folder, task) for path in image_files(sub)
    ]
    if not rows:
        raise TaskError(f"the {split} split is empty", expected="images", seen=f"none in {folder}")
    images = [_decode(path) for _, path in track(rows, label=f"reading {split} images")]
    ids = [path.relative_to(folder).as_posix() for _, path in rows]
    return Split(ids, np.array([index for index, _ in rows], np.int64), images)


def split_digest(task: Task, split: str) -> str:
    """The sha256 over the names and contents of a split's images."""
    folder = task.folder(split)
    files = [path for sub, _ in class_folders(folder, task) for path in image_files(sub)]
    return digest_value([[p.relative_to(folder).as_posix(), digest_file(p)] for p in files])


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

    Case, spaces, underscores, dashes and slashes do not count in the last try.

    Raises:
        TaskError: no class, or several, are meant; the nearest labels are given.
    """
    for known in (task.labels, task.names):
        if known.count(text) == 1:
            return known.index(text)
    alike = [i for i, name in enumerate(task.names) if _squash(name) == _squash(text)]
    alike = alike or [i for i, label in enumerate(task.labels) if _squash(label) == _squash(text)]
    if len(alike) == 1:
        return alike[0]
    near = [task.labels[i] for i in alike] or _nearest(text, task.labels + task.names)
    raise TaskError(
        f"{text} is no class of task {task.name}", expected="a class label or name",
        seen=text, do=f"Did you mean {' or '.join(near)}?" if near else "",
    )  # fmt: skip


def image_files(folder: Path) -> list[Path]:
    """The image files of one class folder, sorted; nothing that points out of it."""
    root = folder.resolve()
    files = (p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(p for p in files if p.is_file() and p.resolve().is_relative_to(root))


def _read(path: Path, *, base: Path | None) -> Task:
    value = read_mapping(path, TaskError)
    text = read_text(path, TaskError)
    task = validate(value, Task, name=str(path), text=text, error=TaskError)
    if base is None:
        return task
    return task.model_copy(update={"images": {k: base / p for k, p in task.images.items()}})


def _builtin(name: str) -> Path:
    return Path(str(resources.files("headwater") / "tasks" / f"{name}.yaml"))


def _decode(path: Path) -> Image8:
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
