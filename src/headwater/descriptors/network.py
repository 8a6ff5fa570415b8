"""A trained network as a descriptor: pictures made ready, seen in batches, scaled to length one.

A row must not depend on the pictures seen beside it, since rows are kept and used again. Networks
add numbers up in an order that changes with the size of a batch, so that size is always the same:
one picture on a processor, where more are no faster, and on a GPU `BATCH`, the last one filled up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from headwater.descriptors.pictures import Floats, Images, Pixels, as_rgb, in_blocks
from headwater.errors import ModelError
from headwater.float32 import full_float32

BATCH = 32  # pictures seen at once on a GPU
BLOCK = 64  # pictures held at once, at the size they are seen


@dataclass(frozen=True)
class Network:
    """A network and how it wants its pictures.

    Attributes:
        model: normalized pictures (n, 3, h, w) to rows (n, dimensions), both torch tensors.
        size: width and height of a picture to those it is seen at.
        mean: of red, green and blue, taken off after these are scaled to 0 ... 1.
        std: what they are then divided by.
        dimensions: of a row.
        device: where the model is.
        batch: pictures seen at once.
    """

    model: Callable[[Any], Any]
    size: Callable[[int, int], tuple[int, int]]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    dimensions: int
    device: str
    batch: int

    def describe(self, images: Images) -> Floats:
        """Unit rows (n, dimensions) of pictures.

        Raises:
            InputError: something that is no picture.
            ModelError: the network gives other rows than it should, or no numbers.
        """
        blocks = [np.zeros((0, self.dimensions), np.float32)]
        for pictures in in_blocks(map(self._ready, images), BLOCK):
            rows = np.zeros((len(pictures), self.dimensions), np.float32)
            for places in _batches([picture.shape for picture in pictures], self.batch):
                rows[places] = self._see(np.stack([pictures[place] for place in places]))
            blocks.append(rows)
        return np.concatenate(blocks)

    def _ready(self, image: Image.Image | Pixels) -> Pixels:
        picture = as_rgb(image)
        return np.asarray(picture.resize(self.size(*picture.size), Image.Resampling.BILINEAR))

    def _see(self, pixels: Pixels) -> Floats:
        """Rows of a batch of pictures of one size, (n, h, w, 3)."""
        import torch

        whole = np.zeros((self.batch, *pixels.shape[1:]), np.uint8)
        whole[: len(pixels)] = pixels
        batch = torch.from_numpy(whole).to(self.device).permute(0, 3, 1, 2).float().div(255)
        batch = (batch - self._channels(self.mean)) / self._channels(self.std)
        with torch.no_grad(), full_float32():
            rows = self.model(batch.contiguous())
        if not isinstance(rows, torch.Tensor) or rows.shape != (self.batch, self.dimensions):
            seen = getattr(rows, "shape", type(rows).__name__)
            expected = f"{self.dimensions} numbers a picture"
            raise ModelError("a network that is no such descriptor", expected=expected, seen=seen)
        return _unit(np.asarray(rows[: len(pixels)].float().cpu().numpy()))

    def _channels(self, values: tuple[float, float, float]) -> Any:
        import torch

        return torch.tensor(values, device=self.device)[:, None, None]


def choose_device(asked: str | None) -> tuple[str, int]:
    """Where a network goes, a GPU if there is one, and how many pictures it sees there at once.

    Example:
        >>> choose_device("cpu")
        ('cpu', 1)
    """
    import torch

    device = asked or ("cuda" if torch.cuda.is_available() else "cpu")
    return device, 1 if device == "cpu" else BATCH


def _batches(shapes: Sequence[tuple[int, ...]], size: int) -> Iterator[list[int]]:
    """Places of pictures of the same shape, at most `size` together."""
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place, shape in enumerate(shapes):
        alike[shape].append(place)
    for places in alike.values():
        yield from (places[start : start + size] for start in range(0, len(places), size))


def _unit(rows: Floats) -> Floats:
    with np.errstate(over="ignore"):
        length = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(length) & (length > 0)).all():
        raise ModelError(
            "a descriptor that is no number", seen="NaN, infinity or a row of zeros",
            do="Check the weights.",
        )  # fmt: skip
    return np.asarray(rows / length, np.float32)
