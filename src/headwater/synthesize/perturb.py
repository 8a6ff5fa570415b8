"""Images into themselves after noise and denoising (SDEdit), at strength gamma.

An image's noise comes from its key and is the same at every gamma, so that a curve over gamma
compares like with like. So is the draw from the autoencoder's posterior, which image-to-image
pipelines take from the same source before the noise. `gamma.py` tells of the two controls.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from diffusers import AutoPipelineForImage2Image, DiffusionPipeline
from PIL import Image

from headwater.decode import Image8
from headwater.errors import InputError, ModelError
from headwater.synthesize.calling import BLANK, Generated, is_blank, run_pipeline
from headwater.synthesize.codec import Codec
from headwater.synthesize.gamma import AUTOENCODER, EXPECTED, Gamma, read_gamma
from headwater.synthesize.generator import library_silence, native_size
from headwater.synthesize.images import (
    BLOCK,
    GUIDANCE,
    STEPS,
    Blocks,
    Layout,
    check_settings,
    in_blocks,
    noise,
    resize,
)

WHITE = 255


def perturb_images(
    pipeline: DiffusionPipeline | None,
    images: Iterable[Image8],
    prompts: Sequence[str],
    *,
    gamma: Gamma,
    keys: Sequence[object],
    seed: int,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    height: int | None = None,
    width: int | None = None,
    save_size: int | None = None,
    block: int = BLOCK,
    blocks: Blocks = (),
    on_halved: Callable[[int, int], None] | None = None,
) -> Iterator[Generated]:
    """Each image after `int(steps * gamma)` denoising steps, in order, a block in memory.

    Pipelines of flow matching round steps * gamma up, not down.

    An image that is not of the generator's shape is scaled to fit and padded with white, as
    img2dataset's `border` mode does. With equal blocks at equal places the bytes are the same
    in every call; the last block is filled up, so that it does not depend on where the images end.
    An image that was blank before may be blank after.

    Args:
        pipeline: from `load_generator`; unused at gamma 0, where it may be None if height and
            width are given.
        images: uint8 (h, w, 3) arrays of any size.
        prompts: one an image; the paper's is "a photo of " and the class name.
        gamma: strength, 0 (no model) to 1 (nothing of the image is left), or "autoencoder".
        keys: one an image, e.g. its id: with the seed, the source of its noise.
        seed: any integer.
        steps: denoising steps of a whole generation.
        guidance: classifier-free guidance scale.
        height: pixels, a multiple of 8; the pipeline's own size if None.
        width: as `height`.
        save_size: pixels of the longer side after a bicubic resize; None leaves it alone.
        block: images perturbed at once.
        blocks, on_halved: what memory made of it, as `generate_images` takes them; an index is
            the place of an image in this call.

    Raises:
        InputError: a setting out of range, or a gamma too small for one step.
        ModelError: the pipeline has no image-to-image form, or no autoencoder.
        RunError: out of memory with a block of one image.

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
    if pipeline is None:
        raise InputError("gamma above 0 needs a generator", do="Load one with load_generator.")
    form, settings = _form(pipeline, gamma, size, steps=steps, guidance=guidance)
    window = Window(items)

    def paint(rows: Sequence[int]) -> list[Generated]:
        before, told, own = zip(*window.of(rows), strict=True)
        made = run_pipeline(
            form,
            prompt=list(told),
            image=np.stack(before).astype(np.float32) / 255,
            generator=[noise("perturb", seed, key) for key in own],
            **settings,
        )
        return [_finish(*both, save_size) for both in zip(before, made, strict=True)]

    layout = Layout(block, blocks)
    return in_blocks(paint, range(len(keys)), layout, on_halved=on_halved)


def image_to_image(pipeline: DiffusionPipeline) -> DiffusionPipeline:
    """The image-to-image form of a text-to-image pipeline, sharing its weights.

    Raises:
        ModelError: diffusers knows none that takes a strength.
    """
    try:
        with library_silence():
            form = AutoPipelineForImage2Image.from_pipe(pipeline)
    except ValueError:
        form = None
    if form is None or "strength" not in _parameters(form):  # some can only edit
        raise ModelError(
            f"{type(pipeline).__name__} has no image-to-image form", expected="one with a strength",
            do="Perturb with another generator.",
        )  # fmt: skip
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


class Window:
    """Items of a stream by their place, kept from the first that is asked for on.

    Example:
        >>> window = Window("abcdef")
        >>> window.of([0, 1, 2]), window.of([1, 1]), window.of([3, 4])
        (['a', 'b', 'c'], ['b', 'b'], ['d', 'e'])
    """

    def __init__(self, items: Iterable[Any]) -> None:
        self.stream = enumerate(items)
        self.kept: dict[int, Any] = {}

    def of(self, places: Sequence[int]) -> list[Any]:
        """The items of these places, none before those of the last call."""
        self.kept = {at: item for at, item in self.kept.items() if at >= min(places)}
        missing = max(places) + 1 - min(places) - len(self.kept)
        self.kept.update(islice(self.stream, max(missing, 0)))
        return [self.kept[at] for at in places]


def _finish(before: Image8, made: Generated, save_size: int | None) -> Generated:
    image, reason = made
    same = reason == BLANK and is_blank(before)  # no fault of the generator
    return Generated(resize(image, save_size), None if same else reason)


def _size(
    pipeline: DiffusionPipeline | None, height: int | None, width: int | None
) -> tuple[int, int]:
    if height is not None and width is not None:
        return height, width
    own_height, own_width = native_size(pipeline)
    return height or own_height, width or own_width


def _form(
    pipeline: DiffusionPipeline, gamma: Gamma, size: tuple[int, int], *, steps: int, guidance: float
) -> tuple[DiffusionPipeline | Codec, dict[str, Any]]:
    """What images go through at a gamma, and how it is called."""
    if gamma == AUTOENCODER:
        return Codec(pipeline), {}
    form = image_to_image(pipeline)
    told = {"num_inference_steps": steps, "guidance_scale": guidance, "strength": gamma}
    return form, {**told, **_sides(form, *size)}


def _parameters(form: DiffusionPipeline) -> set[str]:
    return set(inspect.signature(form.__call__).parameters)


def _sides(form: DiffusionPipeline, height: int, width: int) -> dict[str, int]:
    # Stable Diffusion takes the size from the image, others have to be told.
    sized = {"height", "width"} <= _parameters(form)
    return {"height": height, "width": width} if sized else {}


def _check_gamma(gamma: Gamma, steps: int) -> None:
    try:
        strength = read_gamma(gamma)
    except ValueError:
        raise InputError("gamma", expected=EXPECTED, seen=str(gamma)) from None
    if strength != AUTOENCODER and 0 < strength * steps < 1:
        raise InputError(
            f"gamma {gamma} is less than one of {steps} steps", expected=f"{1 / steps:g} or more",
            do="Use gamma 0, a larger gamma or more steps.",
        )  # fmt: skip
