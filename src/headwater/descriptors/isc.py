"""ISC ft_v107: the descriptor the paper's code decontaminates with.

It won the Image Similarity Challenge 2021 (Yokoo, arXiv 2112.04323); the facts below are those of
its repository, lyakaap/ISC21-Descriptor-Track-1st, whose loader the paper's code calls.

An EfficientNetV2-M without its classifier, the mean over all places of what its last block gives
(GeM with power 1), a linear layer to 256 without bias, batch normalization.
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headwater.descriptors.descriptor import Descriptor
from headwater.descriptors.network import Network, choose_device
from headwater.errors import ModelError, first_line
from headwater.store import digest_file

VERSION = 1  # to be raised when a picture is made ready, or seen, in another way

THRESHOLD = 0.604169
"""The default of the paper's code (`--dedup-threshold` in scottgeng00/unmet-promise)."""

DIMENSIONS = 256
SIDE = 512
"""Pictures are squashed to a square: `--input-size` of the training of v107."""

MEAN = STD = (0.5, 0.5, 0.5)  # timm's for this network
BACKBONE = "tf_efficientnetv2_m.in21k_ft_in1k"
"""timm's name today for `tf_efficientnetv2_m_in21ft1k`, which the file itself states."""

FLOOR = 1e-6
"""Smaller values are raised to it before the mean, as GeM does so that any power is defined; the
last block gives negative ones, so this counts."""

MOST_BYTES = 1 << 30
"""A larger file is not opened; the published one, with what its training needed, has 400 MB."""

COUNTER = "num_batches_tracked"  # batch normalization counts its training steps; nobody reads it


def load_isc(path: Path, *, device: str | None = None) -> Descriptor:
    """The descriptor with the weights of a file.

    Args:
        path: isc_ft_v107.pth.tar as published, or its state dict as .safetensors.
        device: where to put it; by default the GPU if there is one.

    Raises:
        ModelError: no such file, one that needs unpickling, or the weights of another network.
    """
    device, batch = choose_device(device)
    model = build_isc()
    fill(model, read_state(path), name=path.name)
    network = Network(model.to(device), seen_size, MEAN, STD, DIMENSIONS, device, batch)
    digest = f"isc-{VERSION}-{digest_file(path)}"
    return Descriptor("isc", THRESHOLD, digest, network.describe)


def seen_size(width: int, height: int) -> tuple[int, int]:
    """Width and height a picture is seen at: the same for all.

    Example:
        >>> seen_size(640, 480)
        (512, 512)
    """
    return SIDE, SIDE


def build_isc() -> Any:
    """The network, without numbers in it, on torch's device `meta`."""
    import timm
    import torch
    from torch import nn

    class Isc(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            backbone: Any = timm.create_model(BACKBONE, pretrained=False, features_only=True)
            channels = backbone.feature_info.channels()[-1]
            self.backbone = backbone
            self.fc = nn.Linear(channels, DIMENSIONS, bias=False)
            self.bn = nn.BatchNorm1d(DIMENSIONS)

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            last: torch.Tensor = self.backbone(pictures)[-1]
            pooled = last.clamp(min=FLOOR).mean(dim=(2, 3))
            rows: torch.Tensor = self.bn(self.fc(pooled))
            return rows

    with torch.device("meta"):
        return Isc().eval()


def read_state(path: Path) -> dict[str, Any]:
    """The numbers in a file by their names; those that training with many GPUs adds are gone.

    Raises:
        ModelError: no such file, or one that is not read without unpickling.
    """
    import torch

    if not path.is_file():
        expected = "isc_ft_v107.pth.tar or .safetensors"
        raise ModelError("no such weights", expected=expected, seen=str(path))
    if path.stat().st_size > MOST_BYTES:
        seen = f"{path.stat().st_size:,}"
        raise ModelError(f"{path.name} is too large", expected=f"{MOST_BYTES:,} bytes", seen=seen)
    found = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not all(
        isinstance(v, torch.Tensor) for v in found.values()
    ):
        raise ModelError(f"{path.name} holds no weights", expected="a state dict of tensors")
    return {_plain_name(str(name)): tensor for name, tensor in found.items()}


def fill(model: Any, state: Mapping[str, Any], *, name: str) -> None:
    """Put numbers into a network made on `meta`, every one of them and no others.

    Raises:
        ModelError: some are missing, of another shape, not numbers, or of another network.
    """
    import torch

    wanted = {k: v.shape for k, v in model.state_dict().items() if not k.endswith(COUNTER)}
    given = {k: v.shape for k, v in state.items() if not k.endswith(COUNTER)}
    missing = [k for k in wanted if k not in given]
    surplus = [k for k in given if k not in wanted]
    other = [k for k in wanted if k in given and given[k] != wanted[k]]
    if missing or surplus or other:
        facts = [
            f"{len(names)} {what}, such as {names[0]}"
            for what, names in (
                ("missing", missing),
                ("unknown", surplus),
                ("of another shape", other),
            )
            if names
        ]
        raise ModelError(
            f"{name} is not of isc_ft_v107", expected=f"{len(wanted)} weights",
            seen="; ".join(facts), do="Give the published file.",
        )  # fmt: skip
    broken = [k for k in wanted if not torch.isfinite(state[k]).all()]
    if broken:
        raise ModelError(f"{name} is broken", expected="numbers", seen=f"NaN in {broken[0]}")
    numbers = {k: state[k].float() for k in wanted}
    counters = {k: torch.zeros(()) for k in model.state_dict() if k.endswith(COUNTER)}
    model.load_state_dict(numbers | counters, assign=True)


def _plain_name(name: str) -> str:
    return ".".join(part for part in name.split(".") if part != "module")


def _read_safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:  # safetensors has errors of its own
        raise ModelError(f"cannot read {path.name}", seen=first_line(error)) from None


def _read_torch(path: Path) -> Any:
    import torch

    try:
        # The published file also holds the arguments it was trained with, as argparse made them.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ModelError(
            f"{path.name} is no file of weights, or needs unpickling, which can run code",
            expected="isc_ft_v107.pth.tar as published, or safetensors", seen=str(path),
        ) from None  # fmt: skip
    except Exception as error:  # a reader of foreign bytes may raise anything
        raise ModelError(f"cannot read {path.name}", seen=first_line(error)) from None
