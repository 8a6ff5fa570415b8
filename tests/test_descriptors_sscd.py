"""SSCD, on a TorchScript of the published architecture with random weights."""

import hashlib
import io
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models, transforms

from headwater.descriptors import open_descriptor, weights
from headwater.descriptors.sscd import seen_size
from headwater.errors import ModelError


class Gem(torch.nn.Module):
    """The mean over all places, in the third power."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clamp(min=1e-6).pow(3.0).mean(dim=[2, 3]).pow(1 / 3.0)


class Sscd(torch.nn.Module):
    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.backbone = models.resnet50(num_classes=dimensions)
        self.backbone.avgpool = Gem()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(self.backbone(x))


class Brief(torch.nn.Module):
    """Gives too few numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=[2, 3])


def script(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.script(model), buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Sscd(512).eval()


@pytest.fixture(scope="module")
def data(network):
    return script(network)


@pytest.fixture
def write(monkeypatch, tmp_path):
    """Write a file that counts as the published one."""

    def write(data, name="sscd_disc_mixup.torchscript.pt"):
        digest = hashlib.sha256(data).hexdigest()
        published = weights.Weights(name, "https://example.org/" + name, digest, len(data))
        monkeypatch.setattr(weights, "SSCD", published)
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    yield write
    for path in tmp_path.iterdir():  # pytest keeps the folders of its last runs
        path.unlink()


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    small = [rng.integers(256, size=(*shape, 3)) for shape in ((6, 7), (9, 6), (6, 7))]
    return [Image.fromarray(s.astype(np.uint8)).resize((60, 50)) for s in small[:2]] + [
        Image.fromarray(small[2].astype(np.uint8)).resize((41, 67))
    ]


def test_rows_are_those_of_the_published_recipe(network, data, write, pictures):
    descriptor = open_descriptor("sscd", weights=write(data), device="cpu")
    rows = descriptor.describe(pictures)
    recipe = transforms.Compose(
        [
            transforms.Resize(288),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    with torch.no_grad():
        wanted = [network(recipe(picture)[None])[0].numpy() for picture in pictures]
    np.testing.assert_allclose(rows, wanted, atol=1e-5)
    assert rows.dtype == np.float32
    assert (descriptor.name, descriptor.threshold) == ("sscd", 0.75)
    assert descriptor.digest == f"sscd-1-{hashlib.sha256(data).hexdigest()}"
    np.testing.assert_array_equal(descriptor.describe(pictures[2:]), rows[2:])


@pytest.mark.parametrize("size", [(640, 480), (100, 200), (333, 334), (5, 7), (288, 288)])
def test_pictures_are_seen_at_the_size_torchvision_makes(size):
    resized = transforms.Resize(288)(Image.new("RGB", size))
    assert seen_size(*size) == resized.size


def test_other_bytes_are_refused_before_they_are_opened(data, write, monkeypatch):
    path = write(data)
    path.write_bytes(data[:-1] + b"!")

    def load(*_, **__):
        raise AssertionError("opened")

    monkeypatch.setattr(torch.jit, "load", load)
    with pytest.raises(ModelError, match=r"not the published one: expected .* bytes with sha256"):
        open_descriptor("sscd", weights=path)


@pytest.mark.parametrize(
    "junk", [b"", b"no zip", b"PK\3\4 and no more"], ids=["empty", "text", "zip"]
)
def test_what_is_no_torchscript_is_one_clear_line(write, junk):
    with pytest.raises(ModelError, match="expected a TorchScript file") as error:
        open_descriptor("sscd", weights=write(junk))
    assert "\n" not in str(error.value)


def test_another_network_is_refused(write, pictures):
    descriptor = open_descriptor("sscd", weights=write(script(Brief())), device="cpu")
    with pytest.raises(ModelError, match="expected 512 numbers a picture"):
        descriptor.describe(pictures)


def test_the_pin_is_of_the_official_file():
    assert weights.SSCD.url.startswith("https://dl.fbaipublicfiles.com/sscd-copy-detection/")
    assert weights.SSCD.url.endswith("/" + weights.SSCD.name)
    assert len(bytes.fromhex(weights.SSCD.sha256)) == 32
