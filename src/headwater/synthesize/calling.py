"""One call of a pipeline: settings it takes, numbers that repeat, images as uint8 with reasons.

Both ways to use a generator end here: `images.py` draws from captions, `perturb.py` redraws images.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray

from headwater.decode import Image8
from headwater.errors import InputError, ModelError, RunError, first_line
from headwater.float32 import full_float32
from headwater.synthesize.generator import library_silence
from headwater.synthesize.memory import free_memory, is_out_of_memory

NAN = "not a number in the image"
BLANK = "blank image"
UNSAFE = "flagged by the safety checker"
BLANK_SPREAD = 2  # gray levels; an image that varies less than this shows nothing

FLAGS = ("nsfw_content_detected", "nsfw_detected")  # of Stable Diffusion's family, of IF's


class Generated(NamedTuple):
    """An image a generator made, and the reason to drop it, if there is one."""

    image: Image8
    """uint8 (h, w, 3); where `reason` is given, whatever the pipeline returned."""
    reason: str | None
    """None, `NAN`, `BLANK` or `UNSAFE`."""


class OutOfMemoryError(RunError):
    """Out of memory: so many images at once are too many; fewer may fit."""


def run_pipeline(pipeline: DiffusionPipeline, **settings: Any) -> list[Generated]:
    """One call of a pipeline: its images as uint8, each with the reason to drop it if any.

    On one device the same call gives the same bytes: float32 is computed as such, and cuDNN
    picks neither what is fastest today nor what adds up in any order.

    Args:
        pipeline: from `load_generator`, or an image-to-image form of it.
        settings: what it is called with; `guidance_scale` becomes what it takes in its place.

    Raises:
        OutOfMemoryError: out of memory, which is free again by then.
        InputError: settings the pipeline refuses.
        ModelError: the pipeline returned something else than images.
    """
    output = _call(pipeline, settings)
    if output is None:  # here the frames that held the memory are gone
        free_memory()
        raise _does_not_fit(len(settings["prompt"]))
    pixels = np.asarray(getattr(output, "images", None))
    if pixels.ndim != 4 or pixels.shape[-1] != 3:
        raise ModelError("the generator drew no images", expected="(n, h, w, 3)",
                         seen=str(pixels.shape))  # fmt: skip
    told = [getattr(output, name, None) for name in FLAGS]
    flags = next((flags for flags in told if flags is not None), [False] * len(pixels))
    return [finish(one, unsafe=bool(flag)) for one, flag in zip(pixels, flags, strict=True)]


def finish(pixels: NDArray[np.floating[Any]], *, unsafe: bool = False) -> Generated:
    """Floats from 0 to 1 as an image, with the reason to drop it: flagged, NaN or blank.

    A flagged image is told as flagged whatever it shows: most pipelines return it black.

    Example:
        >>> finish(np.full((4, 4, 3), 0.5)).reason
        'blank image'
    """
    finite = bool(np.isfinite(pixels).all())
    whole = pixels if finite else np.nan_to_num(pixels)
    image = np.rint(whole.clip(0, 1) * 255).astype(np.uint8)
    if unsafe:
        return Generated(image, UNSAFE)
    if not finite:
        return Generated(image, NAN)
    return Generated(image, BLANK if is_blank(image) else None)


def is_blank(image: Image8) -> bool:
    """Whether no channel of an image varies by `BLANK_SPREAD` gray levels.

    Example:
        >>> is_blank(np.full((8, 8, 3), [10, 200, 30], np.uint8))
        True
    """
    few = image[::16, ::16]  # of almost every image these tell already
    return not any(_spread(part) >= BLANK_SPREAD for part in (few, image))


def takes(pipeline: DiffusionPipeline, name: str) -> bool:
    """Whether a pipeline can be called with an argument of this name.

    Example:
        >>> takes(lambda prompt, generator: None, "negative_prompt")
        False
    """
    arguments = inspect.signature(pipeline).parameters
    return name in arguments or any(a.kind is a.VAR_KEYWORD for a in arguments.values())


def guide(pipeline: DiffusionPipeline, guidance: float | None, *, count: int) -> dict[str, Any]:
    """The guidance of a call with `count` prompts, as this pipeline takes it.

    Most take a `guidance_scale`, whether it guides without a classifier or was distilled into
    the network. Where that has no value of its own (Qwen-Image), `true_cfg_scale` and a negative
    prompt take its place. A pipeline that knows no guidance gets none.

    Example:
        >>> guide(lambda prompt, guidance_scale=7.5: None, 2.0, count=1)
        {'guidance_scale': 2.0}
        >>> guide(lambda prompt: None, 2.0, count=1)
        {}
    """
    arguments = inspect.signature(pipeline).parameters
    if guidance is None or not takes(pipeline, "guidance_scale"):
        return {}
    if "true_cfg_scale" not in arguments or arguments["guidance_scale"].default is not None:
        return {"guidance_scale": guidance}
    if guidance <= 1:
        return {"true_cfg_scale": 1.0}
    return {"true_cfg_scale": guidance, "negative_prompt": [" "] * count}


@contextmanager
def repeatable() -> Iterator[None]:
    """Have the GPU compute the same call to the same bytes; its switches are then as they were.

    Attention and matrix products do so by themselves, forwards and in one stream. Convolutions
    do not: cuDNN may measure and pick, and TF32 would let blocks differ by more than 2/255.

    Example:
        >>> with repeatable():
        ...     torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
        (True, False)
        >>> torch.backends.cudnn.deterministic
        False
    """
    cudnn: Any = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        with full_float32():
            yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


def _call(pipeline: DiffusionPipeline, settings: dict[str, Any]) -> Any:
    # None where memory did not suffice: the error itself would keep what fills it alive.
    count = len(settings["prompt"])
    guidance = guide(pipeline, settings.pop("guidance_scale", None), count=count)
    try:
        with torch.inference_mode(), library_silence(), repeatable():
            return pipeline(**settings, **guidance, output_type="np")
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    except (ValueError, TypeError) as error:  # a side, or an argument it cannot do without
        raise InputError("the generator refuses its settings", seen=first_line(error)) from error
    return None


def _does_not_fit(count: int) -> OutOfMemoryError:
    if count > 1:
        what, do = f"{count} images at once", "Use a smaller block or smaller images."
    else:
        what, do = "a single image", "Draw smaller images, or use float16 or a larger device."
    return OutOfMemoryError(f"out of memory while drawing {what}", do=do)


def _spread(image: Image8) -> int:
    return int(np.ptp(image, axis=(0, 1)).max())
