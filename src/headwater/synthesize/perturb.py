"""Images into themselves after noise and denoising (SDEdit), at strength gamma.

An image's noise comes from its key and is the same at every gamma, so that a curve over gamma
compares like with like. Gamma 0 goes through the same resizing and no model at all: what it
loses is lost to geometry, not to the generator.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from diffusers import AutoPipelineForImage2Image, DiffusionPipeline
from PIL import Image

from headwater.decode import Image8
from headwater.errors import InputError, ModelError
from headwater.synthesize.generator import native_size
from headwater.synthesize.images import (
    BLOCK,
    GUIDANCE,
    STEPS,
    Generated,
    check_settings,
    noise,
    resize,
    run_pipeline,
)

WHITE = 255

Item = tuple[Image8, str, object]  # image, prompt, key


def perturb_images(
    pipeline: DiffusionPipeline | None,
    images: Iterable[Image8],
    prompts: Iterable[str],
    *,
    gamma: float,
    keys: Iterable[object],
    seed: int,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    height: int | None = None,
    width: int | None = None,
    save_size: int | None = None,
    block: int = BLOCK,
) -> Iterator[Generated]:
    """Each image after `int(steps * gamma)` denoising steps, in order, a block in memory.

    An image that is not of the generator's shape is scaled to fit and padded with white, as
    img2dataset's `border` mode does. With equal blocks at equal places the bytes are the same
    in every call; the last block is filled up, so that it does not depend on where the images end.

    Args:
        pipeline: from `load_generator`; unused at gamma 0, where it may be None if height and
            width are given.
        images: uint8 (h, w, 3) arrays of any size.
        prompts: one an image; the paper's is "a photo of " and the class name.
        gamma: strength, 0 (no model) to 1 (nothing of the image is left).
        keys: one an image, e.g. its id: with the seed, the source of its noise.
        seed: any integer.
        steps: denoising steps of a whole generation.
        guidance: classifier-free guidance scale.
        height: pixels, a multiple of 8; the pipeline's own size if None.
        width: as `height`.
        save_size: pixels of the longer side after a bicubic resize; None leaves it alone.
        block: images perturbed at once.

    Raises:
        InputError: a setting out of range, or a gamma too small for one step.
        ModelError: the pipeline has no image-to-image form.
        RunError: out of memory; a smaller block may fit.

    Example:
        >>> wide = np.zeros((16, 32, 3), np.uint8)
        >>> image, _ = next(perturb_images(None, [wide], ["a photo of night"], gamma=0,
        ...                                keys=["a"], seed=0, height=32, width=32))
        >>> image[:, 0, 0].tolist() == [255] * 8 + [0] * 16 + [255] * 8
        True
    """
    check_settings(steps=steps, guidance=guidance, sides=(height, width), block=block)
    _check_gamma(gamma, steps)
    size = _size(pipeline, height, width)
    items = zip((letterbox(image, *size) for image in images), prompts, keys, strict=True)
    if gamma == 0:
        return (Generated(resize(image, save_size), None) for image, _, _ in items)
    return _perturb(
        image_to_image(pipeline), items, seed=seed, block=block, save_size=save_size,
        settings={"strength": gamma, "num_inference_steps": steps, "guidance_scale": guidance},
    )  # fmt: skip


def image_to_image(pipeline: DiffusionPipeline | None) -> DiffusionPipeline:
    """The image-to-image form of a text-to-image pipeline, sharing its weights.

    Raises:
        ModelError: diffusers knows none.
        InputError: there is no pipeline.
    """
    if pipeline is None:
        raise InputError("gamma above 0 needs a generator", do="Load one with load_generator.")
    try:
        form = AutoPipelineForImage2Image.from_pipe(pipeline)
    except ValueError as error:
        raise ModelError(
            f"{type(pipeline).__name__} has no image-to-image form",
            do="Perturb with another generator.",
        ) from error
    form.set_progress_bar_config(disable=True)
    return form


def letterbox(image: Image8, height: int, width: int) -> Image8:
    """An image scaled to fit into (height, width), bicubic, on white.

    Example:
        >>> letterbox(np.zeros((4, 4, 3), np.uint8), 8, 16).shape
        (8, 16, 3)
    """
    if image.shape[:2] == (height, width):
        return image
    scale = min(height / image.shape[0], width / image.shape[1])
    inner = max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))
    scaled = Image.fromarray(image).resize(inner[::-1], Image.Resampling.BICUBIC)
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    canvas = np.full((height, width, 3), WHITE, np.uint8)
    canvas[top : top + inner[0], left : left + inner[1]] = np.asarray(scaled)
    return canvas


def _perturb(
    pipeline: DiffusionPipeline,
    items: Iterable[Item],
    *,
    seed: int,
    block: int,
    save_size: int | None,
    settings: dict[str, Any],
) -> Iterator[Generated]:
    sized = {"height", "width"} <= set(inspect.signature(pipeline.__call__).parameters)
    stream = iter(items)
    while rows := list(islice(stream, block)):
        images, prompts, keys = zip(*(rows + rows[:1] * (block - len(rows))), strict=True)
        pixels = np.stack(images)
        sides = {"height": pixels.shape[1], "width": pixels.shape[2]} if sized else {}
        made = run_pipeline(
            pipeline,
            prompt=list(prompts),
            image=pixels.astype(np.float32) / 255,
            generator=[noise("perturb", seed, key) for key in keys],
            **sides,
            **settings,
        )
        for image, reason in made[: len(rows)]:
            yield Generated(resize(image, save_size), reason)


def _size(
    pipeline: DiffusionPipeline | None, height: int | None, width: int | None
) -> tuple[int, int]:
    if height is not None and width is not None:
        return height, width
    own_height, own_width = native_size(pipeline)
    return height or own_height, width or own_width


def _check_gamma(gamma: float, steps: int) -> None:
    if not 0 <= gamma <= 1:
        raise InputError("gamma", expected="0 to 1", seen=str(gamma))
    if gamma > 0 and int(steps * gamma) < 1:
        raise InputError(
            f"gamma {gamma} is less than one of {steps} steps", expected=f"{1 / steps:g} or more",
            do="Use gamma 0, a larger gamma or more steps.",
        )  # fmt: skip
