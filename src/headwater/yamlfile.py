"""YAML files people write (tasks, recipes): read safely, checked, mistakes shown by their line."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from headwater.errors import HeadwaterError

Model = TypeVar("Model", bound=BaseModel)

Place = tuple[int | str, ...]

SECRET = "secret"
"""The type of a mistake in what may be secret: the value is not shown."""


def read_mapping(path: Path, error: type[HeadwaterError]) -> dict[str, Any]:
    """The YAML mapping in a file.

    Args:
        path: the file.
        error: the kind of error to raise.

    Raises:
        error: missing, unreadable, not YAML, or not a mapping.
    """
    value = parse(read_text(path, error), str(path), error)
    if not isinstance(value, dict):
        raise error(f"{path} is not a mapping", expected="key: value", seen=type(value).__name__)
    return value


def read_text(path: Path, error: type[HeadwaterError]) -> str:
    """The text of a file in UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise error(f"no such file {path}") from None
    except (OSError, UnicodeDecodeError) as reason:
        raise error(f"cannot read {path}", expected="text in UTF-8", seen=str(reason)) from None


def parse(text: str, name: str, error: type[HeadwaterError]) -> Any:
    """The value a YAML text holds; `name` says in errors where the text came from."""
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError:
        seen = "brackets inside each other, without end"
        raise error(f"{name} is not YAML", expected="key: value", seen=seen) from None
    except yaml.YAMLError as reason:
        mark = getattr(reason, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        seen = f"{line}{getattr(reason, 'problem', None) or reason}"
        raise error(f"{name} is not YAML", expected="key: value", seen=seen) from None


class _Loader(yaml.SafeLoader):
    """Refuses a key that comes twice in a mapping: YAML forbids it, the library takes the last."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                told = f"the key {key.value} twice"
                raise yaml.MarkedYAMLError(problem=told, problem_mark=key.start_mark)
            seen.add(str(key.value))
        return node


def validate(
    value: dict[str, Any], model: type[Model], *, name: str, text: str, error: type[HeadwaterError]
) -> Model:
    """Check a mapping against a model.

    Args:
        value: what the YAML said.
        model: the pydantic model it must fit.
        name: where it came from, for the error.
        text: the YAML itself, to find the line.
        error: the kind of error to raise.

    Raises:
        error: the first mistake, with its line and, for a misspelled key, the nearest known one.
    """
    try:
        return model.model_validate(value)
    except ValidationError as mistakes:
        # A misspelled key also leaves the right one missing: it is told first.
        first = min(mistakes.errors(), key=lambda e: e["type"] != "extra_forbidden")
        # A tag such as <rule> says what a value was taken for; it stands nowhere in the file.
        place = tuple(part for part in first["loc"] if not str(part).startswith("<"))
        line = line_of(text, place)
        where = f"{name}, line {line}" if line else name
        what = ".".join(str(part) for part in place) or "the file"
        if first["type"] == "extra_forbidden":
            raise error(
                f"{where}: unknown key {what}", do=_nearest_key(place, value, model)
            ) from None
        message = first["msg"].removeprefix("Value error, ")
        if first["type"].endswith("too_short") and first["ctx"]["min_length"] == 1:
            message = "it may not be empty"
        told = first["type"] not in ("missing", SECRET) and place  # a whole file says nothing
        seen = repr(first["input"])[:60] if told else ""
        raise error(f"{where}: {what}: {message}", seen=seen) from None


def line_of(text: str, place: Place) -> int | None:
    r"""The line (from 1) on which the value at `place` stands, or the nearest one above it.

    Example:
        >>> line_of("a: 1\nb:\n  c: 2\n", ("b", "c"))
        3
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return None
    line = None
    for part in place:
        found = _child(node, part)
        if found is None:
            break
        key, node = found
        line = key.start_mark.line + 1
    return line


def _child(node: Any, part: int | str) -> tuple[Any, Any] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def _nearest_key(place: Place, value: Any, model: type[BaseModel]) -> str:
    fields = _fields_at(place[:-1], value, model)
    near = difflib.get_close_matches(str(place[-1]), fields, n=1)
    if near:
        return f"Did you mean {near[0]}?"
    return f"Known keys: {', '.join(fields)}." if fields else "Remove it."


def _fields_at(place: Place, value: Any, model: type[BaseModel]) -> list[str]:
    """The keys allowed at `place`; a step that is no field (a list index, a map key) is skipped."""
    kinds = [model]
    for part in place:
        value = value[part]
        fields = [kind.model_fields[part] for kind in kinds if part in kind.model_fields]
        kinds = [inner for field in fields for inner in _models_in(field.annotation)] or kinds
    fits = max(kinds, key=lambda kind: len(kind.model_fields.keys() & value))
    return [field.alias or name for name, field in fits.model_fields.items()]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models an annotation speaks of, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
