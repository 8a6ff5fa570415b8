"""The shared small CLIP on real photos: the zero-shot and probe numbers its README states."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from headwater.adapt.head import zero_shot_head
from headwater.adapt.probe import linear_probe
from headwater.clip import Clip, load_clip
from headwater.clip.encoder import Encoder
from headwater.decode import decode_rgb
from headwater.evaluate import accuracy, predictions_table

DATA = Path(os.environ.get("HEADWATER_DATA", Path(__file__).parents[3] / "shared" / "data"))
MODEL = DATA / "models" / "mini-RN-64"
TASK = DATA / "tasks" / "tiny20"
PROMPTS = ["a photo of a {}.", "a photo of the {}.", "{}", "a close-up photo of a {}."]
ZERO_SHOT, PROBE = 0.119, 0.569  # its README, tiny20 test

pytestmark = pytest.mark.skipif(
    not (MODEL.is_dir() and TASK.is_dir()), reason=f"no shared model and task under {DATA}"
)


@pytest.fixture(scope="module")
def clip() -> Clip:
    torch.set_num_threads(2)
    weights, config = MODEL / "mini-RN-64.safetensors", MODEL / "mini-RN-64.json"
    return load_clip(
        "mini-RN-64", pretrained=weights, config=config, activation="gelu", device="cpu"
    )


def names() -> list[str]:
    return sorted(folder.name for folder in (TASK / "test").iterdir())


def encode(clip: Clip, split: str) -> tuple[np.ndarray, list[int]]:
    files = [(p, i) for i, n in enumerate(names()) for p in sorted((TASK / split / n).iterdir())]
    images = [decode_rgb(path.read_bytes()) for path, _ in files]
    return clip.encode_images(images), [label for _, label in files]


def score(labels: list[int], scores: np.ndarray) -> float:
    ids, truth = [str(i) for i in range(len(labels))], [names()[label] for label in labels]
    return accuracy(predictions_table(ids, truth, scores, names()))


def test_zero_shot_and_probe_are_as_its_readme_says(clip):
    (train_x, train_y), (val_x, val_y), (test_x, test_y) = (
        encode(clip, split) for split in ("train", "val", "test")
    )
    assert len(test_y) == 1000
    head = zero_shot_head(clip.class_text_features(names(), PROMPTS), clip.logit_scale)
    assert score(test_y, test_x @ head.T) == pytest.approx(ZERO_SHOT, abs=0.02)
    probe = linear_probe(train_x, train_y, test_x, val_x=val_x, val_y=val_y)
    assert score(test_y, probe.scores) == pytest.approx(PROBE, abs=0.02)


def test_the_half_precision_file_saves_and_opens_as_a_folder(clip, tmp_path):
    clip.save(tmp_path)
    again = load_clip(tmp_path, device="cpu")
    assert again.image_size == 64
    texts = ["a photo of an ox."]
    np.testing.assert_array_equal(again.encode_texts(texts), clip.encode_texts(texts))


def test_bf16_is_within_a_hundredth_of_float32(clip):
    images = [path.read_bytes() for path in sorted((TASK / "val").rglob("*.*"))]
    texts = [prompt.format(name) for name in names() for prompt in PROMPTS]
    for kind, data in (("images", images), ("captions", texts)):
        exact, half = (features(clip, kind, data, precision=p) for p in ("float32", "bf16"))
        assert not np.array_equal(exact, half)
        assert (exact * half).sum(1).min() > 1 - 1e-2


def features(clip: Clip, kind: str, data: list, *, precision: str) -> np.ndarray:
    encoder = Encoder(clip, precision=precision, workers=0)
    found = np.zeros((len(data), clip.dim), np.float32)
    for rows, made in getattr(encoder, kind)(enumerate(data)):
        found[rows] = made
    return found
