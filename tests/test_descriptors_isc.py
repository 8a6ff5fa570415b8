"""ISC, on files of the published architecture with random weights."""

import argparse
import pickle

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import transforms

from headwater.descriptors import isc, open_descriptor
from headwater.descriptors.isc import build_isc, fill, read_state
from headwater.errors import ModelError
from headwater.store import digest_file


def shapes():
    return {name: tensor.shape for name, tensor in build_isc().state_dict().items()}


def invented(name, shape):
    """Numbers of a size that lets 57 blocks pass a picture on."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        return torch.full(shape, 0.9)
    if len(shape) == 1:
        return torch.randn(shape) / 10
    return 1.6 * torch.randn(shape) / shape[1:].numel() ** 0.5


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return {name: invented(name, shape).half() for name, shape in shapes().items()}


@pytest.fixture(scope="module")
def published(state, tmp_path_factory):
    """A file made as the published one was: by training on many GPUs."""
    path = tmp_path_factory.mktemp("isc") / "isc_ft_v107.pth.tar"
    args = argparse.Namespace(arch="tf_efficientnetv2_m_in21ft1k", input_size=512, weight=None)
    record = {
        "epoch": 10,
        "arch": args.arch,
        "state_dict": {f"module.{name}": tensor for name, tensor in state.items()},
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": []},
        "args": args,
    }
    torch.save(record, path)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    noise = rng.integers(256, size=(3, 5, 6, 3)).astype(np.uint8)
    sizes = (70, 50), (64, 64), (30, 90)
    return [Image.fromarray(n).resize(s) for n, s in zip(noise, sizes, strict=True)]


def plain_row(state, picture, side):
    """As the repository of ISC ft_v107 describes a picture, written out."""
    recipe = transforms.Compose(
        [
            transforms.Resize((side, side)),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    with torch.device("meta"):
        backbone = timm.create_model("tf_efficientnetv2_m.in21k_ft_in1k", features_only=True)
    own = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
    whole = {k: v if k.endswith("tracked") else v.float() for k, v in own.items()}
    backbone.load_state_dict(whole, assign=True, strict=True)
    with torch.no_grad():
        last = backbone.eval()(recipe(picture)[None])[-1]
        gem = torch.nn.functional.avg_pool2d(last.clamp(min=1e-6).pow(1), last.shape[2:])
        row = state["fc.weight"].float() @ gem.flatten()
        names = ("running_mean", "running_var", "weight", "bias")
        mean, var, weight, bias = (state[f"bn.{name}"].float() for name in names)
        row = (row - mean) / torch.sqrt(var + 1e-5) * weight + bias
    return (row / row.norm()).numpy()


def test_rows_are_those_of_the_published_recipe(state, published, pictures, monkeypatch):
    monkeypatch.setattr(isc, "SIDE", 64)
    descriptor = open_descriptor("isc", weights=published, device="cpu")
    rows = descriptor.describe(pictures)
    wanted = plain_row(state, pictures[0], 64)
    np.testing.assert_allclose(rows[0], wanted, atol=1e-5)
    assert rows.shape == (3, 256)
    assert rows.dtype == np.float32
    assert abs(rows @ rows.T)[~np.eye(3, dtype=bool)].max() < 0.999
    assert (descriptor.name, descriptor.threshold) == ("isc", 0.604169)
    assert descriptor.digest == f"isc-1-{digest_file(published)}"
    np.testing.assert_array_equal(descriptor.describe(pictures[1:2]), rows[1:2])


def test_safetensors_say_the_same(state, published, tmp_path):
    some = {name: state[name] for name in ("backbone.conv_stem.weight", "fc.weight", "bn.weight")}
    save_file(some, tmp_path / "isc.safetensors")
    both = read_state(tmp_path / "isc.safetensors"), read_state(published)
    for name, tensor in some.items():
        assert all(torch.equal(found[name], tensor) for found in both)
    assert set(both[0]) == set(some)
    assert set(both[1]) == set(state)


def test_the_network_is_an_efficientnetv2_m_with_a_head_of_256():
    sizes = shapes()
    assert sizes["backbone.conv_stem.weight"] == (24, 3, 3, 3)
    assert sizes["backbone.blocks.6.4.conv_pwl.weight"] == (512, 3072, 1, 1)
    assert sizes["fc.weight"] == (256, 512)
    assert sizes["bn.running_var"] == (256,)
    assert "fc.bias" not in sizes
    # 54.14 million of timm's table, less its classifier and the convolution before that.
    whole = 54_139_356 - (1280 * 1000 + 1000) - (512 * 1280 + 2 * 1280)
    learned = sum(parameter.numel() for parameter in build_isc().parameters())
    assert learned == whole + 512 * 256 + 2 * 256


def zeros():
    """A whole state that takes no memory."""
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes().items()}


def test_counters_of_training_may_be_missing():
    model = build_isc()
    fill(model, {k: v for k, v in zeros().items() if not k.endswith("tracked")}, name="x.pt")
    assert not any(tensor.is_meta for tensor in model.state_dict().values())


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: s.pop("fc.weight"), "saw 1 missing, such as fc.weight. Give the published"),
        (lambda s: s.update(more=torch.ones(1)), "saw 1 unknown, such as more"),
        (lambda s: s.update({"bn.bias": torch.ones(255)}), "1 of another shape, such as bn.bias"),
        (lambda s: s.update({"bn.bias": torch.full((256,), torch.nan)}), "saw NaN in bn.bias"),
        (lambda s: s.clear(), r"saw \d+ missing, such as backbone.conv_stem.weight"),
    ],
    ids=["missing", "surplus", "shape", "NaN", "all missing"],
)
def test_the_weights_of_another_network_are_one_clear_line(spoil, words):
    state = zeros()
    spoil(state)
    with pytest.raises(ModelError, match=words) as error:
        fill(build_isc(), state, name="mine.pt")
    assert "\n" not in str(error.value)


class Trap:
    """What is run when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_is_unpickled(tmp_path):
    sprung = tmp_path / "sprung"
    torch.save({"state_dict": {}, "args": Trap(sprung)}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Trap(sprung), protocol=2))
    for name in ("a.pth", "b.pth"):
        with pytest.raises(ModelError, match="needs unpickling, which can run code"):
            open_descriptor("isc", weights=tmp_path / name)
    assert not sprung.exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.pth.tar", b"text", "a.pth.tar"),
        ("a.pth.tar", b"", "a.pth.tar"),
        ("a.pth.tar", b"PK\3\4 and no more", "a.pth.tar"),
        ("a.safetensors", b"text", "cannot read a.safetensors"),
        ("a.safetensors", b"", "cannot read a.safetensors"),
    ],
)
def test_other_files_are_one_clear_line(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=words) as error:
        open_descriptor("isc", weights=tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("thing", [[torch.ones(2)], {"a": 1}, {"state_dict": {"a": "b"}}])
def test_a_file_without_weights_is_refused(tmp_path, thing):
    torch.save(thing, tmp_path / "a.pt")
    with pytest.raises(ModelError, match=r"a.pt holds no weights"):
        read_state(tmp_path / "a.pt")


def test_a_file_too_large_is_not_opened(tmp_path):
    with (tmp_path / "a.pt").open("wb") as file:
        file.truncate(isc.MOST_BYTES + 1)
    with pytest.raises(ModelError, match=r"a.pt is too large: expected 1,073,741,824 bytes"):
        open_descriptor("isc", weights=str(tmp_path / "a.pt"))


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ModelError, match=r"no such weights: .*nothing.pt"):
        open_descriptor("isc", weights=tmp_path / "nothing.pt")


def test_weights_in_the_cache_are_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HEADWATER_CACHE", str(tmp_path))
    (tmp_path / "weights").mkdir()
    save_file({"fc.weight": torch.ones(1)}, tmp_path / "weights" / "isc_ft_v107.safetensors")
    with pytest.raises(ModelError, match=r"isc_ft_v107.safetensors is not of isc_ft_v107"):
        open_descriptor("isc")
