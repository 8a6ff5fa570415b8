"""Opening a generator: any diffusers text-to-image pipeline, from a folder or from the Hub.

Weights come from safetensors only, nothing is unpickled and no code of a pipeline's own is run:
`vetting.py` looks first. What a generator draws is `images.py`, how much of a caption it reads
`limits.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from diffusers import DDIMScheduler, DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from headwater.errors import InputError, ModelError, first_line
from headwater.store import digest_folder
from headwater.synthesize.opening import check_name, put_on, quiet
from headwater.synthesize.vetting import called, conversion, read_index, vet_pipeline

SCHEDULERS = ("auto", "ddim", "own")
PRECISIONS = ("float32", "float16", "bfloat16")


def load_generator(
    name_or_folder: str | Path,
    *,
    device: str | None = None,
    scheduler: str = "auto",
    precision: str = "float32",
) -> DiffusionPipeline:
    """A text-to-image pipeline, ready to draw.

    Weights are read from safetensors only and no code of the pipeline's own is run.

    Args:
        name_or_folder: a folder with a `model_index.json`, or a name on the Hugging Face Hub.
        device: as torch names it; None is the GPU where there is one, else the CPU.
        scheduler: "ddim" (the paper's choice), "own" (as the pipeline came), or "auto": DDIM
            where the pipeline can use it, else its own.
        precision: of the weights: "float32", "float16" or "bfloat16".

    Raises:
        ModelError: no such pipeline, one that is half written, holds pickled weights or code,
            cannot use the scheduler, or draws no images from text.
        InputError: an unknown scheduler or precision.

    Example:
        >>> load_generator("./no-such-folder")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        headwater.errors.ModelError: no generator there: expected a folder, saw no-such-folder. ...
    """
    _check_known("scheduler", scheduler, SCHEDULERS)
    _check_known("precision", precision, PRECISIONS)
    folder = find_generator(name_or_folder)
    vet_pipeline(folder)
    try:
        with library_silence():
            pipeline = DiffusionPipeline.from_pretrained(
                folder, use_safetensors=True, dtype=getattr(torch, precision)
            )
    except Exception as error:  # whatever the parts of a broken pipeline raise
        raise ModelError(
            f"cannot load the generator {called(folder)}", seen=first_line(error),
            do="Check that it is whole, with weights as .safetensors.",
        ) from error  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    if scheduler == "ddim" or (scheduler == "auto" and _can_use_ddim(pipeline)):
        pipeline.scheduler = _ddim(pipeline)
    return put_on(pipeline, device, what="generator")


def find_generator(name_or_folder: str | Path) -> Path:
    """The local folder of a pipeline, fetched from the Hub if it is named there.

    Raises:
        ModelError: no folder, no such name, no readable `model_index.json`, or code in it.
    """
    folder = Path(name_or_folder).expanduser()
    if not folder.exists():
        folder = _download(str(name_or_folder))
    read_index(folder)
    return folder


def generator_digest(name_or_folder: str | Path) -> str:
    """The sha256, in hex, over names and contents of the pipeline's files; for records.

    Raises:
        ModelError: as `load_generator`, as far as it can be told without loading.
    """
    folder = find_generator(name_or_folder)
    vet_pipeline(folder)
    return digest_folder(folder)


def native_size(pipeline: DiffusionPipeline) -> tuple[int, int]:
    """Height and width in pixels that a pipeline draws when it is not told.

    Raises:
        ModelError: the pipeline does not say.
    """
    network = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    cells = getattr(pipeline, "default_sample_size", None)
    cells = cells or getattr(getattr(network, "config", None), "sample_size", None)
    if not cells:
        raise ModelError("the generator does not say what size it draws",
                         do="Give height and width.")  # fmt: skip
    height, width = (cells, cells) if isinstance(cells, int) else cells
    return height * pipeline.vae_scale_factor, width * pipeline.vae_scale_factor


def library_silence() -> AbstractContextManager[None]:
    """Keep the libraries from showing bars and advice of their own; then as it was before."""
    return quiet(diffusers_logging, transformers_logging)


def _check_known(what: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise InputError(f"an unknown {what}", expected=", ".join(known), seen=repr(name))


def _can_use_ddim(pipeline: DiffusionPipeline) -> bool:
    own = pipeline.scheduler
    return DDIMScheduler in (type(own), *own.compatibles)


def _ddim(pipeline: DiffusionPipeline) -> DDIMScheduler:
    if not _can_use_ddim(pipeline):
        raise ModelError(
            f"{type(pipeline).__name__} cannot use the scheduler ddim",
            seen=type(pipeline.scheduler).__name__, do="Set the scheduler to auto or own.",
        )  # fmt: skip
    # DDIM clips to [-1, 1] unless told otherwise, which is for pixels and ruins latents.
    config = pipeline.scheduler.config
    return DDIMScheduler.from_config(config, clip_sample=config.get("clip_sample", False))


def _download(name: str) -> Path:
    check_name(name, what="generator")
    try:
        with library_silence():
            return Path(DiffusionPipeline.download(name, use_safetensors=True))
    except Exception as error:  # no such name, no network, pickled weights only
        raise ModelError(
            f"no generator {name}", expected="a folder, or a pipeline on the Hugging Face Hub",
            seen=first_line(error), do=_way_out(name, error),
        ) from error  # fmt: skip


def _way_out(name: str, error: Exception) -> str:
    if "safetensors" in str(error):  # there are weights, but pickled
        return f"If you trust its weights, convert them: {conversion(name)}"
    return "Check the name; without a network, give a folder, or fetch it once with one."
