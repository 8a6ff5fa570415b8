"""Heads: small networks on CLIP features, whose published weights say how pleasing or unsafe.

A weights file holds matrices and nothing of what stands between them, so only layouts whose code is
published are read, told by the names in the file:

    weight, bias                    one linear layer (LAION's aesthetic predictor; any you train)
    layers.0, 2, 4, 6, 7            five layers, nothing between (the improved one, linearMSE)
    layers.0, 3, 6, 9, 11           the same with ReLU between (the improved one, reluMSE)
    layers.0, 3, 6, 9, 12, 15, 16   LAION's NSFW head for ViT-H-14: ReLU, none before the last
    linear_1, linear_2, ...         its NSFW heads for ViT-B-32 and L-14: norm, ReLU, sigmoid

Sources stand in docs/scores.md. Files are safetensors, or loaded with `weights_only=True`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.errors import ModelError, first_line
from headwater.store import digest_file

Floats = NDArray[np.float32]
Kind = Literal["aesthetic", "safety"]

MAX_BYTES = 1 << 30
EPSILON = 1e-10  # added to the deviation by LAION's NSFW heads
BLOCK = 1 << 14  # rows at a time: 128 MB for a layer of 2,048
NORM = {"norm.mean", "norm.variance"}


class _Layout(NamedTuple):
    """What the published code does around the matrices of a file."""

    kinds: tuple[Kind, ...]
    relus: tuple[bool, ...]  # after each layer but the last
    sigmoid: bool


LAYERS = {
    (0, 2, 4, 6, 7): _Layout(("aesthetic",), (False,) * 4, sigmoid=False),
    (0, 3, 6, 9, 11): _Layout(("aesthetic",), (True,) * 4, sigmoid=False),
    (0, 3, 6, 9, 12, 15, 16): _Layout(("safety",), (True,) * 5 + (False,), sigmoid=False),
}


@dataclass(frozen=True, eq=False)
class Head:
    """A head ready to judge. Made by `open_head`.

    Attributes:
        kind: aesthetic or safety.
        layers: weights (out, in) and bias (out,) of each linear layer.
        relus: whether a ReLU follows each layer but the last.
        sigmoid: whether the output is a logit.
        mean, scale: what features are shifted and divided by first; None for nothing.
        digest: sha256 of the file.
    """

    kind: Kind
    layers: tuple[tuple[Floats, Floats], ...]
    relus: tuple[bool, ...]
    sigmoid: bool
    mean: Floats | None
    scale: Floats | None
    digest: str

    def predict(self, features: Floats) -> Floats:
        """The score of each image, higher is better: how pleasing, or 1 - p(unsafe).

        Args:
            features: (n, d) CLIP image features, L2-normalized, of the model the head is for.

        Returns:
            (n,) float32; NaN for a feature that is NaN.

        Raises:
            ModelError: features of another length.
        """
        expected = self.layers[0][0].shape[1]
        if features.ndim != 2 or features.shape[1] != expected:
            raise ModelError(
                f"the {self.kind} head is for another model", expected=f"features of {expected}",
                seen=f"{features.shape[-1]} from this model",
                do="Curate with the model the head was trained on, or leave the head out.",
            )  # fmt: skip
        blocks = [self._output(features[i : i + BLOCK]) for i in range(0, len(features), BLOCK)]
        output = np.concatenate([np.zeros(0, np.float32), *blocks])
        return 1 - output if self.kind == "safety" else output

    def _output(self, rows: Floats) -> Floats:
        if self.mean is not None and self.scale is not None:
            rows = (rows - self.mean) / self.scale
        for (weight, bias), relu in zip(self.layers, (*self.relus, False), strict=True):
            rows = rows @ weight.T + bias
            rows = np.maximum(rows, 0) if relu else rows
        output = rows[:, 0]
        # tanh, so that a large negative logit cannot overflow
        return np.asarray((1 + np.tanh(output / 2)) / 2 if self.sigmoid else output, np.float32)


def open_head(path: Path, *, kind: Kind) -> Head:
    """Read a head's weights.

    Args:
        path: .safetensors, or .pth / .pt / .bin with a plain state dict.
        kind: what it judges. A single layer is an aesthetic predictor as it is, or a logistic
            regression for p(unsafe).

    Raises:
        ModelError: unreadable, in need of unpickling, of a layout nobody published, made for the
            other kind, or with matrices that do not follow on each other.
    """
    state = _read(path)
    prefixes, layout = _layout(state, path)
    if kind not in layout.kinds:
        raise ModelError(
            f"{path.name} is no {kind} head", expected=f"a head published for {kind}",
            seen=f"the layout of a published {layout.kinds[0]} head",
        )  # fmt: skip
    layers = tuple((state[f"{prefix}weight"], state[f"{prefix}bias"]) for prefix in prefixes)
    _check_chain(layers, path)
    normed = state.keys() >= NORM
    if normed:
        _check_norm(state, layers[0][0].shape[1], path)
    return Head(
        kind=kind,
        layers=layers,
        relus=layout.relus,
        sigmoid=layout.sigmoid or (len(layers) == 1 and kind == "safety"),
        mean=state["norm.mean"] if normed else None,
        scale=np.sqrt(state["norm.variance"]) + np.float32(EPSILON) if normed else None,
        digest=digest_file(path),
    )


def _read(path: Path) -> dict[str, Floats]:
    """Every tensor of a file, float32."""
    import torch
    from safetensors.torch import load_file

    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        seen = "a file over 1 GB" if path.is_file() else "no such file"
        raise ModelError(f"cannot read the head {path}", expected="a weights file", seen=seen)
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors, pickle and zip each have their own errors
        raise ModelError(
            f"cannot read the head {path.name}",
            expected="safetensors, or a state dict that needs no unpickling",
            seen=first_line(error),
        ) from None
    if not isinstance(state, Mapping) or not all(torch.is_tensor(v) for v in state.values()):
        raise ModelError(
            f"{path.name} is no head", expected="a state dict: names and tensors",
            seen=type(state).__name__, do="Save the module's state_dict() alone.",
        )  # fmt: skip
    numbers = {str(name): _numbers(tensor) for name, tensor in state.items()}
    odd = next((name for name, array in numbers.items() if array is None), None)
    if odd is not None:
        raise ModelError(
            f"{path.name} is no head", expected="tensors of finite real numbers",
            seen=f"other ones in {odd}",
        )  # fmt: skip
    return {name: array for name, array in numbers.items() if array is not None}


def _numbers(tensor: Any) -> Floats | None:
    """A tensor as float32; None if it is sparse, quantized, complex or empty of values."""
    import torch

    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_complex():
        return None
    if tensor.device.type != "cpu":
        return None
    array: Floats = tensor.detach().float().numpy()
    return array if np.isfinite(array).all() else None


def _layout(state: Mapping[str, Floats], path: Path) -> tuple[list[str], _Layout]:
    """What each layer's names begin with, in order, and what the code around them does."""
    names = set(state)
    if names == _names([""]):
        return [""], _Layout(("aesthetic", "safety"), (), sigmoid=False)
    places = sorted({int(m[1]) for n in names if (m := re.match(r"layers\.(\d{1,3})\.", n))})
    prefixes = [f"layers.{place}." for place in places]
    if tuple(places) in LAYERS and names == _names(prefixes):
        return prefixes, LAYERS[tuple(places)]
    prefixes = [f"linear_{i + 1}." for i in range(len(names) // 2 - 1)]
    if prefixes and names == _names(prefixes) | NORM:
        return prefixes, _Layout(("safety",), (True,) * (len(prefixes) - 1), sigmoid=True)
    raise ModelError(
        f"{path.name} is a head of an unknown layout", expected="one that docs/scores.md lists",
        seen=", ".join(sorted(names)[:4]) or "nothing", do="Write it as a score of your own.",
    )  # fmt: skip


def _names(prefixes: Sequence[str]) -> set[str]:
    return {f"{prefix}{part}" for prefix in prefixes for part in ("weight", "bias")}


def _check_chain(layers: Sequence[tuple[Floats, Floats]], path: Path) -> None:
    """Raise `ModelError` unless each layer takes what the last gave, and one number comes out."""
    shapes = [(*weight.shape, "+", *bias.shape) for weight, bias in layers]
    good = all(weight.ndim == 2 and bias.shape == weight.shape[:1] for weight, bias in layers)
    gives = [weight.shape[0] for weight, _ in layers if good]
    takes = [weight.shape[1] for weight, _ in layers if good]
    if not good or gives != [*takes[1:], 1]:
        told = "; ".join(" ".join(map(str, shape)) for shape in shapes)
        raise ModelError(
            f"the layers of {path.name} do not follow on each other",
            expected="matrices (out, in) with a bias (out), the last to 1", seen=told,
        )  # fmt: skip


def _check_norm(state: Mapping[str, Floats], length: int, path: Path) -> None:
    """Raise `ModelError` unless there is a mean and a variance for every number of a feature."""
    shapes = [state[name].shape for name in sorted(NORM)]
    if shapes != [(length,)] * 2 or (state["norm.variance"] < 0).any():
        raise ModelError(
            f"the norm of {path.name} does not fit its layers", expected=f"({length},), no"
            " variance below 0", seen=" and ".join(map(str, shapes)),
        )  # fmt: skip
