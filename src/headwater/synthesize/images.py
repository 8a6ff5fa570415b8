"""Prompts into images, by any diffusers text-to-image pipeline.

Image i depends only on the seed, i, its caption, the pipeline and the settings: not on how many
are made, in what order, or after how many restarts. Its noise comes from a generator of its
own, and it is always made at the same place of a block of the same size, because floating
point sums differ in their last bits between batch sizes. `generator.py` opens the pipeline,
`calling.py` calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from headwater.decode import Image8
from headwater.errors import InputError
from headwater.store import stable_seed
from headwater.synthesize.calling import Generated, OutOfMemoryError, run_pipeline, takes

STEPS = 50  # with guidance 2.0 and DDIM, eta 0: the paper's settings for Stable Diffusion 1.5
GUIDANCE = 2.0
BLOCK = 8
TWISTER = slice(24, 24 + 8 * 624)  # bytes of the words in the state of torch's CPU generator
MULTIPLE = 8  # diffusers pipelines refuse sides that are not a multiple of 8 pixels

Blocks = Sequence[tuple[int, int]]  # from which index on, how many images at once


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
    blocks: Blocks = (),
    on_halved: Callable[[int, int], None] | None = None,
) -> Iterator[Generated]:
    """One image a caption, in the order of the captions, never more than a block in memory.

    A block is the images of `block` consecutive indices, from a multiple of `block` on. Where
    only some of them are asked for, the places of the others are filled and thrown away: ask
    for whole blocks where time matters. With equal blocks an image has the same bytes in every
    call; across block sizes its noise is the same and, in float32, its pixels differ by at most
    2/255. On a CPU the number of torch's threads decides the last bits too.

    A block that does not fit into memory is halved, and from its first index on all are of the
    smaller size. Whoever keeps what `on_halved` tells and hands it in again as `blocks` gets the
    same bytes after a kill.

    Args:
        pipeline: from `load_generator`.
        captions: one prompt an image.
        seed: any integer.
        indices: the number i of each caption, ascending; 0, 1, 2, ... if None.
        steps: denoising steps.
        guidance: as `guide` of `calling.py` hands it on: classifier-free or distilled.
        height: pixels, a multiple of 8; the pipeline's own size if None.
        width: as `height`.
        save_size: pixels of the longer side after a bicubic resize; None leaves it alone.
        block: images made at once.
        blocks: the indices from which on another number is made at once, and that number.
        on_halved: called with the first index of a block that did not fit and the smaller size,
            before anything is made in it.

    Raises:
        InputError: a setting out of range, or indices that do not fit the captions.
        RunError: out of memory with a block of one image.

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
    layout = Layout(block, blocks)

    def paint(rows: Sequence[int]) -> list[Generated]:
        made = run_pipeline(
            pipeline,
            prompt=[captions[row] for row in rows],
            generator=[noise("image", seed, numbers[row]) for row in rows],
            num_inference_steps=steps,
            guidance_scale=guidance,
            **_sides(pipeline, height, width),
        )
        return [Generated(resize(image, save_size), reason) for image, reason in made]

    return in_blocks(paint, numbers, layout, on_halved=on_halved)


class Layout:
    """Which images are made together: in blocks of one size, from some index on of another.

    Example:
        >>> layout = Layout(8, [(16, 4)])
        >>> layout.block_of(9), layout.block_of(21)
        (range(8, 16), range(20, 24))
        >>> layout.shrink(layout.block_of(21))
        (20, 2)
        >>> layout.block_of(17), layout.block_of(21), layout.block_of(30)
        (range(16, 20), range(20, 22), range(30, 32))
    """

    def __init__(self, block: int, blocks: Blocks = ()) -> None:
        self.sizes = {0: block, **dict(blocks)}  # of two sizes from one index on, the later
        if min(self.sizes) < 0 or min(self.sizes.values()) < 1:
            raise InputError("blocks of images", expected="an index of 0 or more and a size of 1")

    def block_of(self, index: int) -> range:
        """The indices that are made with this one; fewer just before the size changes."""
        start = max(start for start in self.sizes if start <= index)
        first = index - (index - start) % self.sizes[start]
        end = first + self.sizes[start]
        return range(first, min([end, *(start for start in self.sizes if start > first)]))

    def shrink(self, block: range) -> tuple[int, int]:
        """Halve a block and those after it; from which index on, and the new size."""
        self.sizes[block.start] = len(block) // 2
        return block.start, len(block) // 2


def in_blocks(
    paint: Callable[[Sequence[int]], list[Generated]],
    indices: Sequence[int],
    layout: Layout,
    *,
    on_halved: Callable[[int, int], None] | None,
) -> Iterator[Generated]:
    """What `paint` makes of each index, block by block; a block too large for memory is halved.

    Args:
        paint: makes a whole block, of these places in `indices`. Places that are not asked for
            are filled with the first that is.
        indices: ascending.
        layout: which are made together.
        on_halved: as `generate_images` takes it.

    Raises:
        RunError: out of memory with a block of one image.
    """
    row = 0
    while row < len(indices):
        block = layout.block_of(indices[row])
        own = [at for at in range(row, min(row + len(block), len(indices))) if indices[at] in block]
        place = {indices[at]: at for at in own}
        try:
            made = paint([place.get(index, row) for index in block])
        except OutOfMemoryError:
            if len(block) == 1:
                raise
            smaller = layout.shrink(block)
            if on_halved is not None:
                on_halved(*smaller)
            continue
        yield from (made[indices[at] - block.start] for at in own)
        row += len(own)


def noise(*key: object) -> torch.Generator:
    """The source of one image's noise, the same on every machine and for every batch size.

    It lies on the CPU, whose stream does not depend on the GPU at hand. Torch keeps 32 bits of a
    seed, with which a hundred pairs among a million images would share their noise. So all 624
    words of its Mersenne twister are filled from the whole key.

    Example:
        >>> bool(torch.rand(1, generator=noise(0, 7)) == torch.rand(1, generator=noise(0, 7)))
        True
    """
    generator = torch.Generator("cpu").manual_seed(0)  # at the beginning of its words
    state = generator.get_state()
    words = state.numpy()[TWISTER].view(np.uint64)
    words[:] = np.random.SeedSequence(stable_seed(*key)).generate_state(len(words))
    return generator.set_state(state)


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


def _sides(pipeline: DiffusionPipeline, height: int | None, width: int | None) -> dict[str, int]:
    wanted = {"height": height, "width": width}
    sides = {name: side for name, side in wanted.items() if side is not None}
    if not all(takes(pipeline, name) for name in sides):
        raise InputError(
            "the generator draws images of one size only", seen=f"{height} by {width}",
            do="Leave height and width out.",
        )  # fmt: skip
    return sides


def _check_indices(indices: Sequence[int], captions: Sequence[str]) -> None:
    if len(indices) != len(captions):
        raise InputError("one index a caption", expected=str(len(captions)), seen=str(len(indices)))
    ascending = all(a < b for a, b in pairwise(indices))
    if len(indices) and (not ascending or indices[0] < 0):
        raise InputError("image indices", expected="ascending from 0 or more", seen="another order")
