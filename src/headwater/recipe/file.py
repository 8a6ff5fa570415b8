"""A recipe's file: found by path or name, changed by `--set`, its paths seen from another folder.

What a recipe may say is in `recipe.py`; `load_recipe` points at the line of a mistake.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from headwater.errors import RecipeError
from headwater.recipe.recipe import Recipe
from headwater.yamlfile import parse, read_mapping, read_text, validate

PLACES = (
    ("task",), ("pool", "path"), ("generator",),
    ("learner", "model"), ("learner", "config"), ("learner", "pretrained"),
    ("pool", "model", "model"), ("pool", "model", "config"), ("pool", "model", "pretrained"),
)  # fmt: skip
"""Where a recipe may name a path; relative ones are taken from the recipe's folder."""
SOURCE_PLACES = (
    ("import",), ("retrieve", "examples"),
    ("synthesize", "captions", "path"), ("synthesize", "captions", "model"),
)  # fmt: skip
"""Where a source may name one."""


def load_recipe(
    path: str | Path, *, base: Path | None = None, changes: tuple[str, ...] = ()
) -> Recipe:
    """Read a recipe file, or one that comes with Headwater by its name.

    Args:
        path: a YAML file, or a name such as `miniature`.
        base: the folder its relative paths start from; the file's own by default.
        changes: `key.key=value` lines that replace what the file says, values in YAML.

    Raises:
        RecipeError: unreadable, or a mistake in it; the line is given.

    Example:
        >>> load_recipe("miniature", changes=("seeds=[0, 1]",)).seeds
        (0, 1)
    """
    file = find_recipe(str(path))
    value = read_mapping(file, RecipeError)
    for change in changes:
        apply_change(value, change)
    text = read_text(file, RecipeError)
    recipe = validate(value, Recipe, name=str(file), text=text, error=RecipeError)
    return move(recipe, base or file.parent)


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path, or the name of one that comes with Headwater.

    Example:
        >>> find_recipe("miniature").name
        'miniature.yaml'
    """
    if Path(name).suffix in (".yaml", ".yml") or Path(name).exists():
        return Path(name)
    known = {path.stem: path for path in sorted(builtin_folder().glob("*.yaml"))}
    if name not in known:
        raise RecipeError(
            f"unknown recipe {name}", expected=f"a file, or one of {', '.join(known)}",
            seen="neither a file nor a recipe of that name",
        )  # fmt: skip
    return known[name]


def builtin_folder() -> Path:
    """Where the recipes that come with Headwater lie: in the package, or beside its source."""
    inside = Path(__file__).parents[1] / "recipes"
    return inside if inside.is_dir() else Path(__file__).parents[3] / "recipes"


def move(recipe: Recipe, base: Path, *, relative_to: Path | None = None) -> Recipe:
    """The recipe with its paths seen from another folder.

    Args:
        recipe: with paths relative to `base` (names of models, tasks and URLs stay as they are).
        base: the folder they are relative to now.
        relative_to: the folder to be relative to then; None makes them start from here.
    """
    value = recipe.model_dump(by_alias=True, exclude_unset=True)
    for place in PLACES:
        _move_place(value, place, base, relative_to)
    for source in value["sources"].values():
        written = (source.get("synthesize") or {}).get("captions") or {}
        named = written.get("by") == "endpoint"  # it knows its model by a name, never by a path
        for place in SOURCE_PLACES[: -1 if named else None]:
            _move_place(source, place, base, relative_to)
        _move_curation(source.get("curate") or {}, base, relative_to)
    _move_curation(value.get("curate") or {}, base, relative_to)
    return Recipe.model_validate(value)


def apply_change(value: dict[str, Any], change: str) -> None:
    """Set one key of a recipe from `key.key=value`; items of a list are counted from 0.

    Example:
        >>> value = {"adapt": {"epochs": 30}}
        >>> apply_change(value, "adapt.epochs=2")
        >>> value
        {'adapt': {'epochs': 2}}
    """
    key, equals, text = change.partition("=")
    if not equals or not key.strip():
        raise RecipeError("a change that is none", expected="KEY.KEY=VALUE", seen=change)
    *path, last = key.strip().split(".")
    holder: Any = value
    for part in path:
        if isinstance(holder, dict):
            holder = holder.setdefault(part, {})
        elif (at := _index(part, holder)) is not None:
            holder = holder[at]
        else:
            raise RecipeError(f"--set {change}: there is nothing under {part}")
    place = last if isinstance(holder, dict) else _index(last, holder)
    if place is None:
        raise RecipeError(f"--set {change}: there is nothing under {last}")
    holder[place] = parse(text, f"--set {change}", RecipeError)


def _index(part: str, holder: Any) -> int | None:
    """The place of a list that a step means, counted from 0."""
    fits = isinstance(holder, list) and part.isdecimal() and int(part) < len(holder)
    return int(part) if fits else None


def _move_place(
    value: dict[str, Any], place: tuple[str, ...], base: Path, relative_to: Path | None
) -> None:
    """Move the path at one place, if something stands there."""
    holder: Any = value
    for key in place[:-1]:
        holder = holder and holder.get(key)
    if holder and holder.get(place[-1]):
        holder[place[-1]] = _moved(holder[place[-1]], base, relative_to)


def _moved(text: str, base: Path, relative_to: Path | None) -> str:
    path = base / text
    if "://" in text or not path.exists():
        return text
    return str(path) if relative_to is None else os.path.relpath(path, relative_to)


def _move_curation(value: dict[str, Any], base: Path, relative_to: Path | None) -> None:
    """Move the files a curation names: weights, rejections, and functions of the user's own."""
    for key in ("descriptor_weights", "reject"):
        if value.get(key):
            value[key] = _moved(value[key], base, relative_to)
    if value.get("heads"):
        heads = value["heads"].items()
        value["heads"] = {name: _moved(place, base, relative_to) for name, place in heads}
    if "scores" in value:
        value["scores"] = [_moved_score(name, base, relative_to) for name in value["scores"]]
    rules = [rule for rule in value.get("rules") or () if isinstance(rule, dict)]
    for rule in rules:
        if "score" in rule:
            rule["score"] = _moved_score(rule["score"], base, relative_to)


def _moved_score(name: str, base: Path, relative_to: Path | None) -> str:
    file, colon, function = name.rpartition(":")
    return f"{_moved(file, base, relative_to)}{colon}{function}" if colon else name
