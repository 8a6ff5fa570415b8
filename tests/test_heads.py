"""Heads against the published networks, written down again in torch with random weights."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from headwater.curate.heads import EPSILON, LAYERS, open_head
from headwater.curate.scoring import open_score
from headwater.errors import ModelError

DIM = 6


def stack(*widths: int, relus: tuple[bool, ...], dropouts: tuple[bool, ...]) -> nn.Sequential:
    """Linear layers with what stands between them; the places are those of the published code."""
    layers: list[nn.Module] = []
    for i, (takes, gives) in enumerate(pairwise(widths)):
        layers.append(nn.Linear(takes, gives))
        layers += [nn.ReLU()] if i < len(relus) and relus[i] else []
        layers += [nn.Dropout(0.5)] if i < len(dropouts) and dropouts[i] else []
    return nn.Sequential(*layers)


class Mlp(nn.Module):
    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Normed(nn.Module):
    """The NSFW heads of ViT-B-32 (three layers) and ViT-L-14 (four)."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.norm = nn.Module()
        self.norm.register_buffer("mean", torch.randn(widths[0]))
        self.norm.register_buffer("variance", torch.rand(widths[0]) + 0.1)
        self.count = len(widths) - 1
        for i in range(self.count):
            setattr(self, f"linear_{i + 1}", nn.Linear(widths[i], widths[i + 1]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x - self.norm.mean) / (self.norm.variance.sqrt() + EPSILON)
        for i in range(1, self.count):
            x = torch.relu(getattr(self, f"linear_{i}")(x))
        return torch.sigmoid(getattr(self, f"linear_{self.count}")(x))


def linear_mse() -> nn.Module:
    return Mlp(stack(DIM, 8, 7, 5, 3, 1, relus=(), dropouts=(True, True, True)))


def relu_mse() -> nn.Module:
    return Mlp(stack(DIM, 8, 7, 5, 3, 1, relus=(True,) * 4, dropouts=(True, True, True)))


def nsfw_h14() -> nn.Module:
    return Mlp(stack(DIM, 8, 9, 8, 5, 4, 3, 1, relus=(True,) * 5, dropouts=(True,) * 5))


def nsfw_b32() -> nn.Module:
    return Normed(DIM, 4, 4, 1)


def nsfw_l14() -> nn.Module:
    return Normed(DIM, 4, 5, 3, 1)


def unit_features(n: int = 20) -> torch.Tensor:
    return nn.functional.normalize(torch.randn(n, DIM), dim=-1)


def write(folder: Path, state: dict[str, torch.Tensor], kind: str = "pth") -> Path:
    path = folder / f"head.{kind}"
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("file", ["pth", "safetensors"])
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: nn.Linear(DIM, 1), "aesthetic"),
        (linear_mse, "aesthetic"),
        (relu_mse, "aesthetic"),
        (nsfw_h14, "safety"),
        (nsfw_b32, "safety"),
        (nsfw_l14, "safety"),
    ],
)
def test_a_head_gives_what_the_published_network_gives(
    tmp_path: Path, make: Callable[[], nn.Module], kind: str, file: str
) -> None:
    torch.manual_seed(0)
    network, features = make().eval(), unit_features()
    score = open_score(kind, heads={kind: write(tmp_path, network.state_dict(), file)})
    with torch.no_grad():
        output = network(features)[:, 0].numpy()
    expected = 1 - output if kind == "safety" else output
    head = open_head(tmp_path / f"head.{file}", kind=kind)  # type: ignore[arg-type]
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(head.predict(features.numpy()), expected, atol=1e-6)
    assert score.digest == head.digest and len(head.digest) == 64


def test_the_places_of_the_layers_are_those_of_the_networks() -> None:
    """The layout is told by these places, so the networks above must have them."""
    for places, make in zip(LAYERS, (linear_mse, relu_mse, nsfw_h14), strict=True):
        names = {name for name in make().state_dict() if name.endswith("weight")}
        assert names == {f"layers.{place}.weight" for place in places}


def test_one_layer_for_safety_is_a_logistic_regression(tmp_path: Path) -> None:
    state = {"weight": torch.tensor([[100.0, 0.0]]), "bias": torch.tensor([0.0])}
    head = open_head(write(tmp_path, state), kind="safety")
    features = np.array([[1, 0], [0, 1], [-1, 0], [np.nan, 0]], np.float32)
    assert head.predict(features).tolist() == pytest.approx([0, 0.5, 1, np.nan], nan_ok=True)


def test_half_precision_weights_are_read(tmp_path: Path) -> None:
    state = {"weight": torch.tensor([[0.5, 0.25]]).half(), "bias": torch.tensor([1.0]).half()}
    head = open_head(write(tmp_path, state, "safetensors"), kind="aesthetic")
    predicted = head.predict(np.array([[1, 2]], np.float32))
    assert predicted.dtype == np.float32 and predicted.tolist() == [2.0]


def test_no_features_no_scores(tmp_path: Path) -> None:
    head = open_head(write(tmp_path, nn.Linear(DIM, 1).state_dict()), kind="aesthetic")
    assert head.predict(np.zeros((0, DIM), np.float32)).shape == (0,)


def test_features_of_another_model_are_refused(tmp_path: Path) -> None:
    head = open_head(write(tmp_path, nn.Linear(DIM, 1).state_dict()), kind="aesthetic")
    with pytest.raises(ModelError, match="expected features of 6, saw 512 from this model"):
        head.predict(np.zeros((3, 512), np.float32))


def test_a_head_of_the_other_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no aesthetic head.*published safety head"):
        open_head(write(tmp_path, nsfw_b32().state_dict()), kind="aesthetic")
    with pytest.raises(ModelError, match=r"no safety head.*published aesthetic head"):
        open_head(write(tmp_path, linear_mse().state_dict()), kind="safety")


def swapped(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**state, "layers.2.weight": state["layers.4.weight"]}


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ({}, "unknown layout.*saw nothing"),
        ({"visual.proj": torch.ones(2)}, "unknown layout.*saw visual.proj"),
        (stack(DIM, 3, 1, relus=(), dropouts=()).state_dict(), "unknown layout"),
        ({f"model.{k}": v for k, v in linear_mse().state_dict().items()}, "unknown layout"),
        (swapped(linear_mse().state_dict()), "do not follow on each other.*matrices"),
        (nn.Linear(DIM, 2).state_dict(), "do not follow on each other"),
        ({"weight": torch.ones(1), "bias": torch.ones(1)}, "do not follow on each other"),
        ({"weight": torch.tensor(1.0), "bias": torch.tensor(1.0)}, "do not follow on each other"),
        ({"weight": torch.ones(1, 2) * 1j, "bias": torch.ones(1)}, "finite real numbers.*weight"),
        ({"weight": torch.ones(1, 2).to_sparse(), "bias": torch.ones(1)}, "finite real numbers"),
        ({"weight": torch.ones(1, 2, device="meta"), "bias": torch.ones(1)}, "finite real numbers"),
        ({"weight": torch.ones(1, 2), "bias": torch.tensor([torch.nan])}, "real numbers.*bias"),
        ({"weight": torch.ones(1, 2), "bias": torch.ones(2)}, "do not follow on each other"),
        ({"state_dict": {"weight": torch.ones(1, 2)}}, "no head: expected a state dict"),
        ([torch.ones(2)], "no head: expected a state dict.*saw list"),
    ],
)
def test_weights_that_are_no_known_head(tmp_path: Path, state: object, why: str) -> None:
    with pytest.raises(ModelError, match=why):
        open_head(write(tmp_path, state), kind="aesthetic")  # type: ignore[arg-type]


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise AssertionError('it was unpickled')",))


@pytest.mark.parametrize("data", [b"", b"hello", pickle.dumps(Trap())])
@pytest.mark.parametrize("name", ["head.pth", "head.safetensors"])
def test_a_file_that_cannot_be_read_runs_nothing(tmp_path: Path, data: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ModelError, match="cannot read the head head"):
        open_head(tmp_path / name, kind="safety")


def test_a_trap_in_torchs_own_format_runs_nothing(tmp_path: Path) -> None:
    torch.save({"weight": Trap()}, tmp_path / "head.pth")
    with pytest.raises(ModelError, match="needs no unpickling"):
        open_head(tmp_path / "head.pth", kind="safety")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="saw no such file"):
        open_head(tmp_path / "head.pth", kind="safety")
