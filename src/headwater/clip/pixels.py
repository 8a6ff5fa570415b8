"""Images of any size as the square a model takes, the way open_clip evaluates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from open_clip.transform import image_transform
from PIL import Image
from torchvision.transforms import Compose

from headwater.errors import InputError

Pixels = npt.NDArray[np.uint8]
Images = Pixels | Sequence[Pixels | Image.Image]


class Geometry(NamedTuple):
    """The arguments of `resize_images` that belong to a model."""

    size: int
    resize_mode: str
    interpolation: str


def resize_images(
    images: Images,
    size: int,
    *,
    resize_mode: str = "shortest",
    interpolation: str = "bicubic",
) -> Pixels:
    """Images of any size as one uint8 array (n, size, size, 3), the way open_clip evaluates.

    The shortest side is resized to `size` and the center cut out; "squash" and "longest" are
    open_clip's other modes, for models that ask for them. Arrays of that size come back as they
    are.

    Args:
        images: uint8 (n, h, w, 3), or a sequence of uint8 (h, w, 3) arrays or PIL images.
        size: side of the square, in pixels.
        resize_mode: shortest, longest or squash.
        interpolation: bicubic or bilinear.

    Raises:
        InputError: something that is no RGB image.

    Example:
        >>> resize_images([np.zeros((40, 60, 3), np.uint8)], 32).shape
        (1, 32, 32, 3)
    """
    if isinstance(images, np.ndarray) and images.shape[1:] == (size, size, 3):
        return _rgb(images)
    whole = image_transform(
        size, is_train=False, resize_mode=resize_mode, interpolation=interpolation
    )
    geometry = Compose(whole.transforms[:-2])  # all but to-tensor and normalize
    resized = np.empty((len(images), size, size, 3), np.uint8)
    for row, image in enumerate(images):
        resized[row] = np.asarray(geometry(_pil(image)))
    return resized


def _pil(image: Pixels | Image.Image) -> Image.Image:
    return image if isinstance(image, Image.Image) else Image.fromarray(_rgb(image))


def _rgb(image: Pixels) -> Pixels:
    if getattr(image, "dtype", None) == np.uint8 and image.shape[-1:] == (3,):
        return image
    seen = f"{getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}"
    raise InputError("images", expected="uint8 (height, width, 3)", seen=seen)
