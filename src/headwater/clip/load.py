"""Models opened from disk, or made new with random weights."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors import SafetensorError, safe_open

from headwater.clip.build import build
from headwater.clip.model import HEAD_NAME, Clip, Floats
from headwater.clip.source import Source, from_folder, from_name
from headwater.errors import ModelError, first_line
from headwater.store import digest_file


def load_clip(
    model: str | Path,
    *,
    pretrained: str | Path | None = None,
    config: str | Path | None = None,
    activation: str | None = None,
    device: str | torch.device | None = None,
) -> Clip:
    """Open a CLIP model.

    Args:
        model: a folder that open_clip would open as `local-dir:`, or the name of an architecture.
        pretrained: for a name: one of open_clip's tags (downloaded) or a local weights file.
        config: for a name open_clip does not know: the JSON file that describes the architecture.
        activation: gelu or quickgelu. A weights file does not tell which one it was trained with,
            so it must be stated: by a `-quickgelu` name, by `quick_gelu` in the config, or here.
            Tags and folders state it themselves.
        device: where to put it; by default the GPU if there is one.

    Raises:
        ModelError: not there, half-written, of another architecture, in need of unpickling, or with
            an activation that nobody states.

    Example:
        >>> load_clip("ViT-B-23", pretrained="openai")
        Traceback (most recent call last):
        ...
        headwater.errors.ModelError: unknown architecture: expected a name open_clip knows, \
such as ViT-B-32, ... saw ViT-B-23. Give one of those, ...
    """
    if pretrained is None and config is None:
        source = from_folder(Path(str(model).removeprefix("local-dir:")), activation=activation)
    else:
        source = from_name(str(model), pretrained=pretrained, config=config, activation=activation)
    clip = build(source, seed=0)
    _fill(clip.model, source.weights)
    clip.model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return replace(clip, digest=digest_file(source.weights))


def untrained_clip(
    config: Mapping[str, Any],
    *,
    seed: int = 0,
    preprocess: Mapping[str, Any] | None = None,
    tokenizer: str | Path | None = None,
) -> Clip:
    """A model with random weights, to be trained from the start.

    Args:
        config: open_clip's `model_cfg`: embed_dim, vision_cfg, text_cfg.
        seed: of the weights.
        preprocess: mean, std, interpolation, resize_mode where they differ from open_clip's.
        tokenizer: a folder with tokenizer files, if `text_cfg` has an `hf_tokenizer_name`.

    Raises:
        ModelError: open_clip cannot build that, or its tokenizer is missing.

    Example:
        >>> vision = {"image_size": 32, "patch_size": 16, "width": 16, "layers": 1, "head_width": 8}
        >>> text = {"context_length": 16, "width": 16, "heads": 2, "layers": 1}
        >>> clip = untrained_clip({"embed_dim": 8, "vision_cfg": vision, "text_cfg": text})
        >>> clip.encode_texts(["one", "two"]).shape
        (2, 8)
    """
    folder = Path(tokenizer) if tokenizer else None
    return build(Source(dict(config), dict(preprocess or {}), Path(), folder), seed=seed)


def load_head(folder: str | Path) -> tuple[Floats, tuple[str, ...]]:
    """The head saved with a model: weights (classes, d) and the label of each row.

    Raises:
        ModelError: the folder has no head, or one that cannot be read.
    """
    path = Path(folder) / HEAD_NAME
    if not path.is_file():
        raise ModelError(
            "model has no head",
            expected=HEAD_NAME,
            seen=str(folder),
            do="Adapt it to a task first.",
        )
    try:
        with safe_open(path, framework="numpy") as file:
            weights: Floats = file.get_tensor("weight")
            labels = json.loads((file.metadata() or {}).get("labels", "[]"))
    except (SafetensorError, ValueError) as error:
        raise ModelError(
            f"cannot read {path}", seen=first_line(error), do="Save it anew."
        ) from error
    return weights, tuple(str(label) for label in labels)


def _fill(model: Any, weights: Path) -> None:
    try:
        open_clip.load_checkpoint(model, str(weights), strict=True, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{weights.name} needs unpickling, which can run code",
            expected="safetensors",
            seen=str(weights),
            do="Where you trust it, open it in torch and write its state_dict with safetensors.",
        ) from error
    except Exception as error:  # safetensors, torch and open_clip each have their own errors
        raise ModelError(
            f"{weights.name} does not fit the model or is half-written",
            seen=first_line(error),
            do="Give the weights that belong to the config, whole.",
        ) from error
