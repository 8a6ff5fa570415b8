"""Where a model comes from: a folder, or a name with a pretrained tag or a weights file."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip

from headwater.errors import ModelError, first_line

CONFIG_NAME = "open_clip_config.json"
WEIGHTS_NAME = "open_clip_model.safetensors"
ACTIVATIONS = ("gelu", "quickgelu")
SAFE_WEIGHTS = (".safetensors", ".pt", ".pth", ".bin")  # the last three with weights_only


@dataclass(frozen=True)
class Source:
    """Where a model comes from, however it was named."""

    config: dict[str, Any]
    preprocess: dict[str, Any]
    weights: Path
    folder: Path | None


def from_folder(folder: Path, *, activation: str | None = None) -> Source:
    """A folder in open_clip's own format.

    Raises:
        ModelError: not there, or without its config or weights.
    """
    if not folder.is_dir():
        raise ModelError(
            "no such model",
            expected=f"a folder with {CONFIG_NAME}",
            seen=str(folder),
            do="Check the path, or give pretrained weights with an architecture's name.",
        )
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise ModelError(
                f"no {name} in {folder}",
                expected=f"{CONFIG_NAME} and {WEIGHTS_NAME}",
                seen=", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "nothing",
                do="Give the folder of an open_clip model.",
            )
    content = _json(folder / CONFIG_NAME)
    config = _table(content, "model_cfg")
    stated = {"its config": bool(config.get("quick_gelu", False))}  # open_clip's format says so
    _agree(str(folder), stated | _asked(activation))
    return Source(
        config,
        _table(content, "preprocess_cfg", {}),
        folder / WEIGHTS_NAME,
        folder,
    )


def from_name(
    name: str,
    *,
    pretrained: str | Path | None,
    config: str | Path | None,
    activation: str | None = None,
) -> Source:
    """An architecture by name, or by its JSON config, with a tag or a weights file.

    Raises:
        ModelError: an unknown name or tag, weights that are not there, or an activation that
            nobody states or that two places state differently.
    """
    architecture = _json(Path(config)) if config else open_clip.get_model_config(name)
    if architecture is None:
        known = difflib.get_close_matches(name, open_clip.list_models(), n=3, cutoff=0.0)
        raise ModelError(
            "unknown architecture",
            expected=f"a name open_clip knows, such as {', '.join(known)}",
            seen=name,
            do="Give one of those, or its JSON file as config.",
        )
    tag = open_clip.get_pretrained_cfg(name, str(pretrained))
    if tag:
        _check_tag(name, str(pretrained), architecture, tag)
        stated = {f"the tag {pretrained}": bool(tag.get("quick_gelu", False))}
        _agree(name, stated | _asked(activation))
        return Source(architecture, dict(tag), _download(name, tag), None)
    weights = _weights_file(name, pretrained)
    quick = _stated_activation(name, architecture, weights, activation)
    return Source({**architecture, "quick_gelu": quick}, {}, weights, None)


def _stated_activation(
    name: str, config: Mapping[str, Any], weights: Path, activation: str | None
) -> bool:
    """Whether a weights file wants QuickGELU, which nothing in it tells and nobody may guess.

    The shapes are the same either way; with the wrong one, a model is some points worse than it
    should be and says nothing (open_clip issue 771).
    """
    stated = {"its config": bool(config["quick_gelu"])} if "quick_gelu" in config else {}
    if name.endswith("-quickgelu"):
        stated["its name"] = True
    stated |= _asked(activation)
    if not stated:
        raise ModelError(
            f"the activation of {weights.name} is not stated",
            expected="gelu or quickgelu, whichever it was trained with",
            seen="bare weights",
            do="Give --activation (activation= in Python, activation: in a recipe); OpenAI's own "
            "CLIPs want quickgelu.",
        )
    return _agree(name, stated)


def _asked(activation: str | None) -> dict[str, bool]:
    if activation is None:
        return {}
    if activation not in ACTIVATIONS:
        raise ModelError(
            "unknown activation", expected=" or ".join(ACTIVATIONS), seen=str(activation)
        )
    return {"you": activation == "quickgelu"}


def _agree(model: str, stated: Mapping[str, bool]) -> bool:
    """What all say that say something: whether the activation is QuickGELU."""
    if len(set(stated.values())) > 1:
        said = ", ".join(f"{who}: {ACTIVATIONS[quick]}" for who, quick in stated.items())
        raise ModelError(
            f"two activations are stated for {model}", expected="one", seen=said,
            do="Take the one it was trained with.",
        )  # fmt: skip
    return next(iter(stated.values()))


def _weights_file(name: str, pretrained: str | Path | None) -> Path:
    path = Path(pretrained or "")
    if path.is_file() and path.suffix in SAFE_WEIGHTS:
        return path
    tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none for this one"
    raise ModelError(
        f"no weights for {name}",
        expected=f"a {' or '.join(SAFE_WEIGHTS)} file, or one of open_clip's tags ({tags})",
        seen=str(pretrained),
        do="Check the path or the tag.",
    )


def _download(name: str, tag: Mapping[str, Any]) -> Path:
    try:
        return Path(open_clip.download_pretrained(tag))
    except Exception as error:
        raise ModelError(
            f"cannot download weights of {name}", seen=first_line(error), do="Give a local file."
        ) from error


def _check_tag(
    name: str, tag: str, architecture: Mapping[str, Any], stated: Mapping[str, Any]
) -> None:
    """open_clip only warns here, and then the model is some points worse than it should be."""
    ours, theirs = (bool(c.get("quick_gelu", False)) for c in (architecture, stated))
    if ours != theirs:
        other = f"{name}-quickgelu" if theirs else name.removesuffix("-quickgelu")
        raise ModelError(
            f"{tag} weights were trained with {'QuickGELU' if theirs else 'GELU'}",
            expected=other,
            seen=name,
            do=f"Name the architecture {other}.",
        )


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"cannot read {path}", expected="JSON", seen=first_line(error), do="Check the file."
        ) from error
    return _table({"": content}, "", what=str(path))


def _table(
    content: Mapping[str, Any],
    key: str,
    default: dict[str, Any] | None = None,
    *,
    what: str = CONFIG_NAME,
) -> dict[str, Any]:
    value = content.get(key, default)
    if isinstance(value, dict):
        return value
    raise ModelError(
        what,
        expected=f"a JSON object{f' under {key}' if key else ''}",
        seen=type(value).__name__,
        do="Give open_clip's own config.",
    )
