"""The miniature's generator: an ordinary pipeline, its text tower, and digits one can read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from headwater.clip import Clip
from headwater.miniature import generator
from headwater.miniature.contexts import PLAIN, show
from headwater.miniature.demo import read_upstream
from headwater.miniature.generator import (
    LATENTS,
    encode,
    read,
    renamed,
    text_tower,
    train_codec,
    train_generator,
)
from headwater.miniature.learner import untrained_learner
from headwater.miniature.scans import SIZE, Scans, split_scans
from headwater.miniature.world import build_world
from headwater.pairs import read_pairs
from headwater.prompts import fill
from headwater.steps.synthesis.settings import Perturbation, Synthesis, Writing
from headwater.steps.synthesis.synthesize import synthesize
from headwater.store import digest_folder
from headwater.synthesize.generator import load_generator
from headwater.synthesize.images import generate_images
from headwater.synthesize.perturb import perturb_images
from headwater.task import load_task

CAPTIONS = ["seven in white chalk", "a photo of the digit two", "handwritten 7", ""]


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("upstream")
    build_world(folder, pairs=600)
    return folder


@pytest.fixture(scope="module")
def quick(upstream: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generator") / "quick"
    train_generator(*read_upstream(upstream), folder, quick=True)
    return folder


def test_the_text_tower_is_open_clips_own(tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    clip: Clip = untrained_learner(CAPTIONS, tmp_path, seed=0)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    tower = text_tower(clip, tokenizer)
    hidden = read(tower, tokenizer, CAPTIONS)
    ends = (clip.tokens(CAPTIONS) == tokenizer.eos_token_id).int().argmax(dim=1)
    pooled = hidden[torch.arange(len(CAPTIONS)), ends] @ clip.model.text_projection
    expected = torch.from_numpy(clip.encode_texts(CAPTIONS))
    torch.testing.assert_close(pooled, expected, atol=1e-5, rtol=1e-4)


def test_every_text_weight_is_renamed(tmp_path: Path) -> None:
    weights = untrained_learner(CAPTIONS, tmp_path, seed=0).model.state_dict()
    text = [k for k in weights if not k.startswith("visual.")]
    left_out = {"logit_scale", "text_projection"}
    halves = sum(2 for k in text if "in_proj" in k)  # one weight of ours is three of theirs
    assert len(renamed(weights, 1)) == len(set(text) - left_out) + halves


def test_the_encoder_keeps_what_the_components_hold() -> None:
    pixels = torch.rand(64, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    smooth = torch.nn.functional.avg_pool2d(pixels, 5, stride=1, padding=2)
    codec = train_codec(smooth, 2)
    latents = encode(codec, smooth)
    assert latents.shape == (64, LATENTS, SIZE // generator.PATCH, SIZE // generator.PATCH)
    flat = latents.permute(1, 0, 2, 3).flatten(1)
    correlation = torch.corrcoef(flat) - torch.eye(LATENTS)
    assert correlation.abs().max() < 0.02  # principal components do not go together
    assert float(latents.std() * codec.config.scaling_factor) == pytest.approx(1, abs=1e-3)


def test_it_opens_as_an_ordinary_pipeline_and_paints(quick: Path) -> None:
    pipeline = load_generator(quick)
    made = list(generate_images(pipeline, CAPTIONS[:2], seed=0, steps=2, height=SIZE, width=SIZE))
    assert [one.image.shape for one in made] == [(SIZE, SIZE, 3)] * 2
    assert not (made[0].image == made[1].image).all()
    assert not list(quick.rglob("*.bin"))


def test_it_perturbs_more_the_larger_gamma_is(quick: Path) -> None:
    how = Perturbation(source="x", gamma=0.2, size=SIZE, save_size=SIZE, steps=10)
    pipeline = load_generator(quick)
    scan = split_scans()["upstream"].pixels[:1]
    image = show(PLAIN, scan, np.random.default_rng(0))
    prompts = [fill(how.prompt, "seven")]
    changes = []
    for gamma in (0.0, 0.2, 0.9):
        made = perturb_images(
            pipeline, [image], prompts, gamma=gamma, keys=["a"], seed=0, **how.arguments
        )
        changes.append(np.abs(next(iter(made)).image.astype(float) - image).mean())
    assert changes[0] == 0
    assert changes[0] < changes[1] < changes[2]


def test_training_again_gives_the_same_bytes(upstream: Path, quick: Path, tmp_path: Path) -> None:
    train_generator(*read_upstream(upstream), tmp_path / "again", quick=True)
    assert digest_folder(tmp_path / "again") == digest_folder(quick)


def shrink(images: np.ndarray) -> np.ndarray:
    """Pictures as 16 x 16 gray values from 0 to 1."""
    gray = images.astype(np.float32).mean(-1).reshape(len(images), 16, 2, 16, 2).mean((2, 4))
    flat = gray.reshape(len(images), -1)
    flat = flat - flat.min(1, keepdims=True)
    return flat / (flat.max(1, keepdims=True) + 1e-6)


def plain_pictures(scans: Scans) -> np.ndarray:
    pictures = [show(PLAIN, p[None], np.random.default_rng(i)) for i, p in enumerate(scans.pixels)]
    return np.stack(pictures)


def test_its_digits_can_be_read_and_differ(tmp_path: Path) -> None:
    """The whole training, as in `headwater demo`: about two minutes."""
    from sklearn.svm import SVC

    from headwater.decode import decode_rgb

    build_world(tmp_path, pairs=6000)
    train_generator(*read_upstream(tmp_path), tmp_path / "generator")
    task = load_task(tmp_path / "task.yaml")
    how = Synthesis(
        n=400,
        captions=Writing(kinds={"class": 1}),
        steps=10,
        guidance=3.0,
        size=SIZE,
        save_size=SIZE,
        block=100,
    )
    synthesize(task, tmp_path / "set", generator=tmp_path / "generator", how=how)
    made = read_pairs(tmp_path / "set", ["label", "image"])
    images = shrink(np.stack([decode_rgb(d) for d in made["image"].struct.field("bytes")]))
    digits = made["label"].cast(int).to_numpy()

    parts = split_scans()
    reader = SVC(C=10, gamma=0.02).fit(
        shrink(plain_pictures(parts["upstream"])), parts["upstream"].digits
    )
    real = shrink(plain_pictures(parts["val"]))
    assert (reader.predict(real) == parts["val"].digits).mean() > 0.9
    assert (reader.predict(images) == digits).mean() >= 0.7

    def spread(rows: np.ndarray) -> float:
        return float(np.linalg.norm(rows[:, None] - rows[None], axis=-1).mean())

    for digit in range(10):
        ours, theirs = images[digits == digit], real[parts["val"].digits == digit]
        assert spread(ours) > 0.4 * spread(theirs)
