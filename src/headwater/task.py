"""The task: class names, prompts, caption queries, and where evaluation images lie, if any.

A task is a YAML file, or the name of a built-in one in `tasks/`. Only class names are
required:

    format: 1
    name: garden
    classes: [rose, {label: fern, name: tree fern, queries: [tree fern, Cyatheales]},
      {label: lotus, caption_query: '"lotus" AND "flower"'}]
    prompts: {evaluation: ["a photo of {a} {}."]}
    images: {val: images/val, test: images/test}     # ImageFolder: one folder a class
    domain: flowers                                  # whose backgrounds captions speak of

The images themselves are read in `splits.py`.
"""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from headwater.errors import QueryError, TaskError
from headwater.expression import Expression, parse_query
from headwater.prompts import has_slot
from headwater.store import digest_value
from headwater.yamlfile import read_mapping, read_text, validate


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
    """One class: its unique label, the name shown and prompted with, and its caption queries.

    `backgrounds` are where a generator may paint it; none: those of the task's domain.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: Text
    name: Text
    queries: tuple[Text, ...] = ()
    caption_query: tuple[Boolean, ...] = ()
    backgrounds: tuple[Text, ...] = ()

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
    domain: Text | None = None

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
        """Identifies what was asked: names, prompts and queries, not where images lie.

        Nor backgrounds, which are of no matter to anything but captions.
        """
        unasked: Any = {"images": True, "domain": True, "classes": {"__all__": {"backgrounds"}}}
        return digest_value(self.model_dump(mode="json", exclude=unasked))

    def to_yaml(self, folder: Path) -> str:
        """The text of a task file that lies in `folder`: paths of images are relative to it."""
        told = {
            "format": self.format,
            "name": self.name,
            "domain": self.domain,
            "classes": [_short(c) for c in self.classes],
            "prompts": self.prompts.model_dump(mode="json", exclude_defaults=True),
            "images": {
                split: Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
                for split, path in self.images.items()
            },
        }
        full = {key: value for key, value in told.items() if value not in ({}, None)}
        text = yaml.safe_dump(full, sort_keys=False, allow_unicode=True)
        # Some line breaks of Unicode are only read back as they were if they are escaped.
        as_meant = yaml.safe_load(text) == full
        return text if as_meant else yaml.safe_dump(full, sort_keys=False)

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


def _read(path: Path, *, base: Path | None) -> Task:
    value = read_mapping(path, TaskError)
    text = read_text(path, TaskError)
    task = validate(value, Task, name=str(path), text=text, error=TaskError)
    if base is None:
        return task
    return task.model_copy(update={"images": {k: base / p for k, p in task.images.items()}})


def _short(c: ClassName) -> object:
    """A class as a person would write it: without what follows from the rest."""
    told: dict[str, Any] = {"label": c.label}
    if c.name != c.label:
        told["name"] = c.name
    if c.caption_query:
        told["caption_query"] = list(c.caption_query)
    if c.queries != (() if c.caption_query else (c.name,)):
        told["queries"] = list(c.queries)
    if c.backgrounds:
        told["backgrounds"] = list(c.backgrounds)
    return told if len(told) > 1 else c.label


def _builtin(name: str) -> Path:
    return Path(str(resources.files("headwater") / "tasks" / f"{name}.yaml"))
