"""Prompts into images, by any diffusers text-to-image pipeline.

Image i depends only on the seed, i, its caption, the pipeline and the settings: not on how many
are made, in what order, or after how many restarts. Its noise comes from a generator of its
own, and it is always made at the same place of a block of the same size, because floating
point sums differ in their last bits between batch sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray
from PIL import Image

from headwater.decode import Image8
from headwater.errors import InputError, ModelError, RunError
from headwater.store import stable_seed

STEPS = 50  # with guidance 2.0 and DDIM, eta 0: the paper's settings for Stable Diffusion 1.5
GUIDANCE = 2.0
BLOCK = 8
MULTIPLE = 8  # diffusers pipelines refuse sides that are not a multiple of 8 pixels

NAN = "not a number in the image"
BLANK = "blank image"
UNSAFE = "flagged by the safety checker"
BLANK_SPREAD = 2  # gray levels; an image that varies less than this shows nothing


class Generated(NamedTuple):
    """An image a generator made, and the reason to drop it, if there is one."""

    image: Image8
    """uint8 (h, w, 3); where `reason` is given, whatever the pipeline returned."""
    reason: str | None
    """None, `NAN`, `BLANK` or `UNSAFE`."""


def generate_images(
    pipeline: DiffusionPipeline,
    captions: Sequence[str],
    *,
    seed: int,
    indices: Sequence[int] | None = None,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    height: int | None = None,
    width: int | None = None,
    save_size: int | None = None,
    block: int = BLOCK,
) -> Iterator[Generated]:
    """One image a caption, in the order of the captions, never more than a block in memory.

    A block is the images of `block` consecutive indices, from a multiple of `block` on. Where
    only some of them are asked for, the places of the others are filled and thrown away: ask
    for whole blocks where time matters. With equal blocks an image has the same bytes in every
    call; across block sizes its noise is the same and its pixels differ by at most 2/255.

    Args:
        pipeline: from `load_generator`.
        captions: one prompt an image.
        seed: any integer.
        indices: the number i of each caption, ascending; 0, 1, 2, ... if None.
        steps: denoising steps.
        guidance: classifier-free guidance scale.
        height: pixels, a multiple of 8; the pipeline's own size if None.
        width: as `height`.
        save_size: pixels of the longer side after a bicubic resize; None leaves it alone.
        block: images made at once.

    Raises:
        InputError: a setting out of range, or indices that do not fit the captions.
        RunError: out of memory; a smaller block may fit.

    Example:
        >>> from types import SimpleNamespace
        >>> def dots(prompt, *, generator, height, width, **settings):
        ...     noise = [torch.rand(height, width, 3, generator=own) for own in generator]
        ...     return SimpleNamespace(images=np.stack(noise))
        >>> image, reason = next(generate_images(dots, ["dots"], seed=0, height=8, width=8))
        >>> image.shape, reason
        ((8, 8, 3), None)
        >>> again, _ = list(generate_images(dots, ["a", "b"], seed=0, height=8, width=8))[0]
        >>> np.array_equal(image, again)
        True
    """
    check_settings(steps=steps, guidance=guidance, sides=(height, width), block=block)
    numbers = range(len(captions)) if indices is None else indices
    _check_indices(numbers, captions)
    settings = {
        "num_inference_steps": steps, "guidance_scale": guidance, "height": height, "width": width,
    }  # fmt: skip
    return _generate(
        pipeline, captions, numbers, seed=seed, block=block, save_size=save_size, settings=settings
    )


def _generate(
    pipeline: DiffusionPipeline,
    captions: Sequence[str],
    indices: Sequence[int],
    *,
    seed: int,
    block: int,
    save_size: int | None,
    settings: dict[str, Any],
) -> Iterator[Generated]:
    for _, group in groupby(range(len(captions)), key=lambda row: indices[row] // block):
        rows = list(group)
        place = {indices[row] % block: row for row in rows}
        filled = [place.get(at, rows[0]) for at in range(block)]
        made = run_pipeline(
            pipeline,
            prompt=[captions[row] for row in filled],
            generator=[noise("image", seed, indices[row]) for row in filled],
            **settings,
        )
        for at in sorted(place):
            yield Generated(resize(made[at].image, save_size), made[at].reason)


def run_pipeline(pipeline: DiffusionPipeline, **settings: Any) -> list[Generated]:
    """One call of a pipeline: its images as uint8, each with the reason to drop it if any.

    Raises:
        RunError: out of memory.
        ModelError: the pipeline returned something else than images.
    """
    try:
        with torch.inference_mode():
            output = pipeline(**settings, output_type="np")
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"out of memory while drawing {len(settings['prompt'])} images at once",
            do="Use a smaller block or smaller images.",
        ) from error
    pixels = np.asarray(output.images)
    if pixels.ndim != 4 or pixels.shape[-1] != 3:
        raise ModelError("the generator drew no images", expected="(n, h, w, 3)",
                         seen=str(pixels.shape))  # fmt: skip
    flags = getattr(output, "nsfw_content_detected", None) or [False] * len(pixels)
    return [_finish(one, unsafe=bool(flag)) for one, flag in zip(pixels, flags, strict=True)]


def noise(*key: object) -> torch.Generator:
    """The source of one image's noise, the same on every machine and for every batch size.

    It lies on the CPU, whose stream does not depend on the GPU at hand. Torch keeps 32 bits of
    the seed, so among a million images about a hundred pairs share their noise.

    Example:
        >>> bool(torch.rand(1, generator=noise(0, 7)) == torch.rand(1, generator=noise(0, 7)))
        True
    """
    return torch.Generator("cpu").manual_seed(stable_seed(*key))


def resize(image: Image8, side: int | None) -> Image8:
    """A uint8 (h, w, 3) image with its longer side at `side` pixels, bicubic; None: as it is.

    Example:
        >>> resize(np.zeros((64, 32, 3), np.uint8), 16).shape
        (16, 8, 3)
    """
    height, width = image.shape[:2]
    longer = max(height, width)
    if side is None or side == longer:
        return image
    size = max(1, round(width * side / longer)), max(1, round(height * side / longer))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def check_settings(*, steps: int, guidance: float, sides: Sequence[int | None], block: int) -> None:
    """Refuse what no pipeline can do, before the first image is made.

    Raises:
        InputError: steps or block below 1, guidance that is negative or no number, or a side
            that is not a multiple of 8 pixels.
    """
    if steps < 1 or block < 1:
        raise InputError("steps and block", expected="1 or more", seen=f"{steps} and {block}")
    if not 0 <= guidance < float("inf"):
        raise InputError("guidance", expected="0 or more", seen=str(guidance))
    for side in sides:
        if side is not None and (side < MULTIPLE or side % MULTIPLE):
            raise InputError(
                "height and width", expected=f"a multiple of {MULTIPLE} pixels", seen=str(side)
            )


def _finish(pixels: NDArray[np.floating[Any]], *, unsafe: bool) -> Generated:
    image = (np.nan_to_num(pixels).clip(0, 1) * 255).round().astype(np.uint8)
    if unsafe:
        return Generated(image, UNSAFE)
    if not np.isfinite(pixels).all():
        return Generated(image, NAN)
    colors = image.reshape(-1, 3)
    spread = (colors.max(axis=0) - colors.min(axis=0)).max()
    return Generated(image, BLANK if spread < BLANK_SPREAD else None)


def _check_indices(indices: Sequence[int], captions: Sequence[str]) -> None:
    if len(indices) != len(captions):
        raise InputError("one index a caption", expected=str(len(captions)), seen=str(len(indices)))
    ascending = all(a < b for a, b in pairwise(indices))
    if len(indices) and (not ascending or indices[0] < 0):
        raise InputError("image indices", expected="ascending from 0 or more", seen="another order")
