"""Pictures shown to a network: sizes, batches, and what a network may not answer."""

import numpy as np
import pytest
import torch
from PIL import Image

from headwater.descriptors import network
from headwater.descriptors.network import Network, choose_device
from headwater.errors import InputError, ModelError


def tiny():
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2)
    return torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(32, 5))


def looking(model=None, *, batch=1, size=lambda width, height: (width, height)):
    half = (0.5, 0.4, 0.3)
    return Network(model or tiny(), size, half, (0.2, 0.3, 0.4), 5, "cpu", batch)


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    shapes = [(9, 12, 3), (12, 9, 3), (9, 12, 3), (20, 20, 3), (9, 12, 3)] * 30
    return [rng.integers(256, size=shape).astype(np.uint8) for shape in shapes]


def plain(picture):
    """One picture, written out."""
    pixels = (picture / 255 - np.array([0.5, 0.4, 0.3])) / np.array([0.2, 0.3, 0.4])
    with torch.no_grad():
        row = tiny()(torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None])
    return (row / row.norm()).numpy()[0]


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_rows_are_those_of_each_picture_alone(pictures, batch):
    rows = looking(batch=batch).describe(pictures)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [plain(picture) for picture in pictures], atol=1e-5)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_row_is_the_same_number_whoever_is_beside_it(pictures, batch):
    rows = looking(batch=batch).describe(pictures)
    for chosen in ([3], [7, 2, 9], range(50, 130)):
        again = looking(batch=batch).describe([pictures[place] for place in chosen])
        np.testing.assert_array_equal(again, rows[list(chosen)])


def test_the_network_sees_batches_of_one_size_and_never_too_many(pictures, monkeypatch):
    monkeypatch.setattr(network, "BLOCK", 10)
    seen = []

    def model(batch):
        seen.append(tuple(batch.shape))
        return torch.ones(len(batch), 5)

    looking(model, batch=4).describe(pictures)
    assert {shape[0] for shape in seen} == {4}
    assert {shape[2:] for shape in seen} == {(9, 12), (12, 9), (20, 20)}
    assert len(seen) == 15 * (2 + 1 + 1)  # of ten pictures six, two and two are alike


def test_pictures_are_resized_as_pillow_does():
    seen = []

    def model(batch):
        seen.append(batch)
        return torch.ones(1, 5)

    image = Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3))
    looking(model, size=lambda width, height: (7, 4)).describe([image])
    small = np.asarray(image.resize((7, 4), Image.Resampling.BILINEAR)) / 255
    wanted = (small - np.array([0.5, 0.4, 0.3])) / np.array([0.2, 0.3, 0.4])
    np.testing.assert_allclose(seen[0][0].permute(1, 2, 0).numpy(), wanted, atol=1e-6)


def test_of_a_generator_one_picture_at_a_time_is_in_memory(pictures, monkeypatch):
    monkeypatch.setattr(network, "BLOCK", 10)
    rows = looking().describe(pictures)
    drawn, ready = 0, []

    def draw():
        nonlocal drawn
        for picture in pictures:
            drawn += 1
            yield picture

    def size(width, height):
        ready.append(drawn)
        return width, height

    np.testing.assert_array_equal(looking(size=size).describe(draw()), rows)
    assert ready == list(range(1, len(pictures) + 1))


def test_no_pictures_no_rows():
    assert looking().describe([]).shape == (0, 5)


def test_what_is_no_picture_is_refused():
    with pytest.raises(InputError, match="not a picture"):
        looking().describe([np.zeros((4, 4), np.uint8)])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda batch: torch.ones(len(batch), 6), r"expected 5 numbers a picture, saw .*6"),
        (lambda batch: [torch.ones(5)], "expected 5 numbers a picture, saw list"),
        (lambda batch: torch.full((len(batch), 5), torch.nan), "no number"),
        (lambda batch: torch.zeros(len(batch), 5), "a row of zeros"),
    ],
    ids=["too long", "no tensor", "NaN", "zeros"],
)
def test_a_network_that_answers_something_else_is_refused(pictures, answer, words):
    with pytest.raises(ModelError, match=words):
        looking(answer).describe(pictures[:2])


def test_pictures_are_seen_one_by_one_on_a_processor_and_together_on_a_gpu():
    assert choose_device("cpu") == ("cpu", 1)
    assert choose_device("cuda:1") == ("cuda:1", network.BATCH)
    assert choose_device(None)[0] == ("cuda" if torch.cuda.is_available() else "cpu")
