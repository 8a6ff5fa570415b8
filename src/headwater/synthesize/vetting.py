"""Whether a pipeline folder is a whole and harmless text-to-image pipeline, before it is loaded.

A folder is refused in one line if it brings code, weights that only unpickling could read, or
half of what it says it has. `generator.py` opens what passes.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline, pipelines
from diffusers.pipelines import auto_pipeline

from headwater.errors import ModelError
from headwater.synthesize.opening import check_weights, read_object

INDEX = "model_index.json"
STEMS = ("diffusion_pytorch_model", "model")  # of the weights of diffusers, of transformers
SHARDS = ".safetensors.index.json"
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
NEEDED = ("prompt", "generator", "num_inference_steps", "output_type")
OTHERS = ("image", "mask_image", "control_image", "video", "num_frames", "audio_length_in_s")
CACHED = "models--"

AGAIN = "Fetch the whole pipeline again."

Parts = dict[str, tuple[str, str]]  # of a pipeline: library and class by name


def read_index(folder: Path) -> dict[str, Any]:
    """The `model_index.json` of a pipeline folder that brings no code.

    Raises:
        ModelError: it is missing, unreadable, or names other code than that of diffusers and
            transformers; or there is code in the folder.
    """
    if not folder.is_dir() or not (folder / INDEX).is_file():
        raise ModelError(
            f"{called(folder)} is not a diffusers pipeline", expected=f"a {INDEX} in it"
        )
    index = _read_json(folder / INDEX, of=folder)
    foreign = next(_foreign_code(folder, index), None)
    if foreign:
        raise ModelError(
            f"the generator {called(folder)} brings code of its own",
            expected="classes of diffusers and transformers", seen=foreign,
        )  # fmt: skip
    return index


def vet_pipeline(folder: Path) -> None:
    """Refuse a folder that cannot be loaded whole, or that draws something else than images.

    Reads the heads of the weights and not the weights.

    Raises:
        ModelError: as `read_index`; a part or its weights are missing, pickled or cut off; the
            class is unknown, or no text-to-image pipeline.
    """
    index = read_index(folder)
    kind = getattr(diffusers, index["_class_name"], None)
    if not (inspect.isclass(kind) and issubclass(kind, DiffusionPipeline)):
        raise ModelError(
            f"the generator {called(folder)} is of an unknown kind",
            expected="a pipeline of the diffusers installed", seen=index["_class_name"],
        )  # fmt: skip
    check_kind(kind)
    for part, (library, name) in _parts(index).items():
        _vet_part(folder, part, library, name)


def called(folder: Path) -> str:
    """What a pipeline folder is called: its name, or the Hub's where it lies in its cache.

    Example:
        >>> called(Path("hub/models--someone--small-sd/snapshots/39593d5"))
        'someone/small-sd'
    """
    if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith(CACHED):
        return folder.parent.parent.name.removeprefix(CACHED).replace("--", "/")
    return folder.name


def check_kind(kind: type) -> None:
    """Refuse a class of pipelines that does not make images of texts alone.

    Raises:
        ModelError: no prompt to give, or something else than a prompt is asked for.

    Example:
        >>> check_kind(diffusers.StableDiffusionInpaintPipeline)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        headwater.errors.ModelError: the generator draws no images from text: ...
    """
    arguments = inspect.signature(kind.__call__).parameters
    known = kind in auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values()
    also = not known and any(name in arguments for name in OTHERS)
    if also or not all(name in arguments for name in NEEDED):
        raise ModelError(
            "the generator draws no images from text", expected="a text-to-image pipeline",
            seen=kind.__name__,
        )  # fmt: skip


def _parts(index: dict[str, Any]) -> Parts:
    # A part that a pipeline goes without, as without a safety checker, is [null, null].
    pairs = {part: value for part, value in index.items() if isinstance(value, list)}
    return {
        part: (value[0], value[1])
        for part, value in pairs.items()
        if len(value) == 2 and all(isinstance(name, str) for name in value)
    }


def _vet_part(folder: Path, part: str, library: str, name: str) -> None:
    place = folder / part
    if not place.is_dir() or not any(place.iterdir()):
        raise ModelError(
            f"the generator {called(folder)} is not whole", expected=f"a folder {part} ({name})",
            seen="none", do=AGAIN,
        )  # fmt: skip
    if not _has_weights(library, name, folder=folder):
        return
    weights = list(_weights(place, folder=folder))
    if not weights:
        raise _no_weights(place, folder=folder)
    for path in weights:
        shown = f"{path.parent.name}/{path.name}"
        check_weights(path, shown=shown, what=f"the generator {called(folder)}", do=AGAIN)


def _weights(place: Path, *, folder: Path) -> Iterator[Path]:
    # Those that are loaded; beside them may lie others, of less precision or before averaging.
    for stem in STEMS:
        whole, index = place / f"{stem}.safetensors", place / f"{stem}{SHARDS}"
        if whole.exists():
            yield whole
        if index.exists():
            yield from _shards(index, folder=folder)


def _has_weights(library: str, name: str, *, folder: Path) -> bool:
    module = getattr(pipelines, library, None) or importlib.import_module(library)
    kind = getattr(module, name, None)
    if kind is None:
        raise ModelError(
            f"the generator {called(folder)} has a part of an unknown kind",
            expected=f"a class of the {library} installed", seen=name,
        )  # fmt: skip
    return inspect.isclass(kind) and issubclass(kind, torch.nn.Module)


def _no_weights(place: Path, *, folder: Path) -> ModelError:
    names = sorted(path.name for path in place.iterdir())
    pickles = [name for name in names if name.endswith(PICKLES)]
    others = [name for name in names if name.endswith(".safetensors")]  # variants, such as .fp16
    expected = f"{' or '.join(STEMS)}.safetensors in {place.name}"
    if others or not pickles:
        return ModelError(
            f"the generator {called(folder)} is not whole", expected=expected,
            seen=", ".join(others) or "none", do=AGAIN,
        )  # fmt: skip
    return ModelError(
        f"the generator {called(folder)} has pickled weights, which may hold code",
        expected=expected, seen=pickles[0],
        do=f"If you trust them, convert them: {conversion(folder)}",
    )  # fmt: skip


def conversion(name_or_folder: str | Path) -> str:
    """The command that writes a pipeline anew with its weights as safetensors.

    Diffusers has torch read the pickles as weights only, which runs no code in them.

    Example:
        >>> print(conversion("old"))  # doctest: +ELLIPSIS
        python -c "from diffusers import DiffusionPipeline as P; P.from_pretrained('old').save...
    """
    old = str(name_or_folder)
    new = f"{Path(old).name}-safetensors"
    return (
        'python -c "from diffusers import DiffusionPipeline as P; '
        f'P.from_pretrained({old!r}).save_pretrained({new!r})"'
    )


def _shards(path: Path, *, folder: Path) -> Iterator[Path]:
    told = _read_json(path, of=folder).get("weight_map")
    names = set(told.values()) if isinstance(told, dict) else {None}
    for name in sorted(names, key=str):
        inside = isinstance(name, str) and Path(name).name == name
        shard = path.parent / str(name)
        if not inside or not shard.is_file():
            raise ModelError(
                f"the generator {called(folder)} is not whole",
                expected=f"the file {name} in {path.parent.name}", seen="none", do=AGAIN,
            )  # fmt: skip
        yield shard


def _read_json(path: Path, *, of: Path) -> dict[str, Any]:
    value = read_object(path)
    if value is None:
        raise ModelError(f"the {path.name} of {called(of)} is not JSON", do=AGAIN)
    return value


def _foreign_code(folder: Path, index: dict[str, Any]) -> Iterator[str]:
    # Diffusers runs some .py files, and imports any installed module the index names, even
    # where remote code is not trusted. An `auto_map` names code on the Hub.
    yield from sorted(path.name for path in folder.rglob("*.py"))
    if not isinstance(index.get("_class_name"), str):
        yield f"no class name in {INDEX}"
    parts = [value for value in index.values() if isinstance(value, list) and value]
    yield from (part[0] for part in parts if isinstance(part[0], str) and not _is_known(part[0]))
    for path in sorted(folder.glob("*/*config.json")):
        if "auto_map" in _read_json(path, of=folder):
            yield f"an auto_map in {path.parent.name}/{path.name}"


def _is_known(library: str) -> bool:
    # Parts may also lie in a module of one pipeline, as Stable Diffusion's safety checker does.
    return library in ("diffusers", "transformers") or hasattr(pipelines, library)
