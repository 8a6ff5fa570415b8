"""Pictures as every descriptor takes them: PIL images or arrays of pixels, of any sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headwater.errors import InputError

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Images = Iterable[Image.Image | Pixels]
"""A list, an array (n, h, w, 3), or a generator, of which one picture at a time is in memory."""

T = TypeVar("T")


def as_rgb(image: Image.Image | Pixels) -> Image.Image:
    """A PIL image in RGB.

    Raises:
        InputError: something that is no picture.

    Example:
        >>> as_rgb(np.zeros((2, 3, 3), np.uint8)).size
        (3, 2)
    """
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        seen = f"{image.dtype} {image.shape}"
        raise InputError("not a picture", expected="PIL images or uint8 (h, w, 3)", seen=seen)
    return Image.fromarray(image)


def in_blocks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last of what is left.

    Example:
        >>> list(in_blocks("abcde", 2))
        [['a', 'b'], ['c', 'd'], ['e']]
    """
    rest = iter(items)
    while block := list(islice(rest, size)):
        yield block
