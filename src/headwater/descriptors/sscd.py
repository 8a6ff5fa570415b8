"""SSCD: Meta's descriptor, trained to tell copies (Pizzi et al. 2022, arXiv 2202.10261).

The published file is TorchScript, which is code: it is opened only if its bytes are the published
ones (weights.py). In it are a ResNet-50, GeM pooling with power 3, and a linear layer to 512.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

from headwater.descriptors.descriptor import Descriptor
from headwater.descriptors.network import Network, choose_device
from headwater.errors import ModelError, first_line

VERSION = 1  # to be raised when a picture is made ready in another way

THRESHOLD = 0.75
"""Of the pairs of DISC2021 above it, 90 % are copies: so says the README of
facebookresearch/sscd-copy-detection, under "Using SSCD descriptors"."""

DIMENSIONS = 512
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet

SHORT_SIDE = 288
"""The short side is made this long and the shape kept: what the authors recommend first, and how
their own numbers on DISC2021 were measured (docs/Evaluation.md there). Their other way, a square of
320, has no threshold of its own."""

LONGEST = 4 * SHORT_SIDE
"""A longer side is squashed to this: a picture of 8 x 2,000 pixels would else be seen at
288 x 72,000."""


def load_sscd(data: bytes, *, sha256: str, device: str | None = None) -> Descriptor:
    """The descriptor in a TorchScript file.

    Args:
        data: the bytes of a file that is known to be harmless.
        sha256: of these bytes.
        device: where to put it; by default the GPU if there is one.

    Raises:
        ModelError: no TorchScript.
    """
    device, batch = choose_device(device)
    model = _open_script(data, device)
    network = Network(model, seen_size, MEAN, STD, DIMENSIONS, device, batch)
    return Descriptor("sscd", THRESHOLD, f"sscd-{VERSION}-{sha256}", network.describe)


def seen_size(width: int, height: int) -> tuple[int, int]:
    """Width and height a picture is seen at.

    Example:
        >>> seen_size(640, 480), seen_size(100, 200), seen_size(8, 2000)
        ((384, 288), (288, 576), (288, 1152))
    """
    short = min(width, height)
    # Rounded down, as torchvision's Resize does.
    return min(SHORT_SIDE * width // short, LONGEST), min(SHORT_SIDE * height // short, LONGEST)


def _open_script(data: bytes, device: str) -> Callable[[Any], Any]:
    import torch

    jit: Any = torch.jit
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that TorchScript is of the past
            model: Callable[[Any], Any] = jit.load(io.BytesIO(data), map_location=device).eval()
    except Exception as error:  # what a reader of foreign bytes may raise
        raise ModelError(
            "weights of sscd that cannot be opened", expected="a TorchScript file",
            seen=first_line(error), do="Give sscd_disc_mixup.torchscript.pt.",
        ) from None  # fmt: skip

    def see(batch: Any) -> Any:
        # Optimized, the first runs are computed in another way than the later ones.
        with jit.optimized_execution(False):
            return model(batch)

    return see
