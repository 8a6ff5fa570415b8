"""A transformers model on disk: found or fetched, looked over, and opened from safetensors alone.

Nothing is unpickled and no code that comes with a model is run. Both models that write captions are
opened here: `language_model.py` and `captioner.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from transformers import GenerationConfig
from transformers.utils import logging

from headwater.errors import ModelError, first_line
from headwater.store import digest_file, digest_value
from headwater.synthesize.opening import (
    check_name,
    check_weights,
    put_on,
    quiet,
    read_object,
)

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
READ = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken")
"""Files of a model that decide what it writes; of a model on the Hub, no others are fetched."""


def find_model(name_or_folder: str | Path) -> Path:
    """The local folder of a model, fetched from the Hugging Face Hub if it is named there.

    Raises:
        ModelError: no folder, no such name, no readable `config.json`, code in place of a known
            architecture, pickled weights only, or weights that are not whole.

    Example:
        >>> find_model("./no-such-folder")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        headwater.errors.ModelError: no model there: expected a folder, saw no-such-folder. ...
    """
    folder = Path(name_or_folder).expanduser()
    if not folder.exists():
        folder = _download(str(name_or_folder))
    if not folder.is_dir() or not (folder / CONFIG).is_file():
        raise ModelError(
            f"{folder.name} is not a transformers model", expected=f"a folder with a {CONFIG}",
            do="Give the folder that holds it, or a name on the Hugging Face Hub.",
        )  # fmt: skip
    config = _read_object(folder / CONFIG)
    if "auto_map" in config and not isinstance(config.get("model_type"), str):
        raise ModelError(
            f"{folder.name} needs code of its own", expected="an architecture of transformers",
            do="Choose another model.",
        )  # fmt: skip
    _check_weights(folder)
    return folder


def shown_name(name_or_folder: str | Path) -> str:
    """What a model is called in records: a name of the Hub as it is, of a folder the last part.

    Example:
        >>> shown_name("someone/small-model")
        'someone/small-model'
    """
    path = Path(name_or_folder).expanduser()
    return path.resolve().name if path.exists() else str(name_or_folder)


def model_digest(folder: Path) -> str:
    """The sha256, in hex, over names and contents of the files that decide what a model writes.

    Raises:
        ModelError: as `find_model`.
    """
    found = {path for pattern in READ for path in folder.glob(pattern)}
    return digest_value([[path.name, digest_file(path)] for path in sorted(found)])


def open_model(auto: Any, folder: Path, *, device: str | None) -> Any:
    """A model of an auto class, in float32 on its device, that follows no settings of its own.

    Args:
        auto: such as `AutoModelForCausalLM`.
        folder: as `find_model` gives it.
        device: as torch names it; None is the GPU where there is one, else the CPU.

    Raises:
        ModelError: the folder holds another kind of model, or weights that do not fit it.
    """
    with opening(folder):
        model, told = auto.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, local_files_only=True,
            output_loading_info=True,
        )  # fmt: skip
    parameters = {name for name, _ in model.named_parameters()}
    missing = sorted(parameters.intersection(told["missing_keys"]))
    if missing:  # transformers would go on with random numbers
        raise ModelError(
            f"the weights of {folder.name} are not whole", expected=missing[0],
            seen=f"{len(missing)} missing", do="Get the model again.",
        )  # fmt: skip
    for part in model.modules():
        if getattr(part, "generation_config", None) is not None:
            part.generation_config = _ends_only(part.generation_config)
    return put_on(model.float().eval(), device, what="model")


def text_ends(model: Any, tokenizer: Any) -> list[int]:
    """The tokens a text of a model may end with, sorted."""
    told = [
        part.generation_config.eos_token_id
        for part in model.modules()
        if getattr(part, "generation_config", None) is not None
    ]
    several = [one for ends in told for one in (ends if isinstance(ends, list) else [ends])]
    separator = getattr(tokenizer, "sep_token_id", None)  # as captioners built on BERT
    found = (*several, tokenizer.eos_token_id, separator)
    return sorted({one for one in found if one is not None})


@contextmanager
def opening(folder: Path) -> Iterator[None]:
    """Whatever transformers raises about a part of a model, as one clear line.

    Raises:
        ModelError: in place of any error inside.
    """
    try:
        with silence():
            yield
    except Exception as error:  # transformers raises a dozen kinds, for files that are foreign
        raise ModelError(
            f"cannot load the model {folder.name}", seen=first_line(error),
            do="Check that its folder is whole: config, tokenizer or processor, .safetensors.",
        ) from error  # fmt: skip


def silence() -> AbstractContextManager[None]:
    """Keep transformers from showing bars and advice of its own."""
    return quiet(logging)


def _ends_only(told: GenerationConfig) -> GenerationConfig:
    """How a model begins and ends a text; nothing about how it chooses."""
    return GenerationConfig(
        bos_token_id=told.bos_token_id, eos_token_id=told.eos_token_id,
        pad_token_id=told.pad_token_id, decoder_start_token_id=told.decoder_start_token_id,
    )  # fmt: skip


def _check_weights(folder: Path) -> None:
    whole = _wanted_files(folder)
    for path in whole:
        if not path.is_file():
            raise ModelError(
                f"the model {folder.name} is half there", expected=path.name, seen="no such file",
                do="Get the model again.",
            )  # fmt: skip
        check_weights(path, shown=path.name, what=f"the model {folder.name}",
                      do="Get the model again.")  # fmt: skip


def _wanted_files(folder: Path) -> list[Path]:
    if (folder / INDEX).is_file():
        names = _read_object(folder / INDEX).get("weight_map")
        if not isinstance(names, dict) or not all(_is_plain(name) for name in names.values()):
            raise ModelError(f"the {INDEX} of {folder.name} names no files", do="Get it again.")
        return [folder / name for name in sorted(set(names.values()))]
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise _no_safetensors(folder)
    return found


def _is_plain(name: object) -> bool:
    return isinstance(name, str) and Path(name).name == name and name.endswith(".safetensors")


def _no_safetensors(folder: Path) -> ModelError:
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth"))
    if not pickles:
        return ModelError(
            f"no weights in {folder.name}", expected="model.safetensors", seen="no such file",
            do="Get the model again.",
        )  # fmt: skip
    return ModelError(
        f"the weights of {folder.name} are a pickle, which can run code",
        expected="model.safetensors", seen=pickles[0],
        do="If you trust it, convert it once: load it with transformers' from_pretrained and "
        "save_pretrained it to another folder, which writes safetensors.",
    )  # fmt: skip


def _read_object(path: Path) -> dict[str, Any]:
    value = read_object(path)
    if value is None:
        raise ModelError(f"the {path.name} of {path.parent.name} is no JSON object",
                         do="Get the model again.")  # fmt: skip
    return value


def _download(name: str) -> Path:
    check_name(name, what="model")
    try:
        return Path(snapshot_download(name, allow_patterns=list(READ), ignore_patterns=["*/*"]))
    except Exception as error:  # no such name, no network
        raise ModelError(
            f"no model {name}", expected="a folder, or a model on the Hugging Face Hub",
            seen=first_line(error),
        ) from error  # fmt: skip
