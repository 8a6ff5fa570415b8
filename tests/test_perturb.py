"""Images perturbed at gamma: geometry at 0, paired noise above it, and the steps it takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMPipeline,
    DiffusionPipeline,
    StableDiffusionImg2ImgPipeline,
)
from PIL import Image
from tests.tiny_garden import import_set, make_task, numbered
from tests.tiny_pipeline import SIDE, build_tiny_pipeline, one_thread, tiny_unet

from headwater.decode import Image8
from headwater.errors import InputError, ModelError
from headwater.steps.synthesis.perturb import perturb
from headwater.steps.synthesis.settings import Perturbation
from headwater.store import read_json
from headwater.synthesize.calling import NAN
from headwater.synthesize.generator import load_generator
from headwater.synthesize.images import noise
from headwater.synthesize.perturb import (
    image_to_image,
    letterbox,
    perturb_images,
)

PROMPTS = [f"a photo of {name}" for name in ("iris", "rose", "oak", "fern", "elm")]
KEYS = [f"garden:{n}" for n in range(len(PROMPTS))]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> DiffusionPipeline:
    return load_generator(build_tiny_pipeline(tmp_path_factory.mktemp("generator")), device="cpu")


@pytest.fixture(scope="module")
def garden() -> list[Image8]:
    grain = np.random.default_rng(0)
    return [grain.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for _ in PROMPTS]


def perturbed(pipeline: DiffusionPipeline | None, images: list[Image8], **other: Any) -> np.ndarray:
    usual = {"gamma": 0.5, "seed": 3, "steps": 6, "keys": KEYS, "prompts": PROMPTS}
    return np.stack([one.image for one in perturb_images(pipeline, images, **usual | other)])


@pytest.fixture
def noises(pipeline: DiffusionPipeline, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The noise the scheduler was asked to add, call by call."""
    seen: list[torch.Tensor] = []
    add_noise = pipeline.scheduler.add_noise

    def listening(latents: torch.Tensor, noise: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        seen.append(noise.clone())
        return add_noise(latents, noise, at)

    monkeypatch.setattr(pipeline.scheduler, "add_noise", listening)
    return seen


def test_gamma_0_is_the_resizing_and_no_model() -> None:
    images = [np.full((height, 10, 3), 9 * height, np.uint8) for height in (5, 10, 20)]
    sizes: dict[str, Any] = {"height": 16, "width": 24, "keys": "abc", "prompts": "xyz"}
    plain = perturbed(None, images, gamma=0, **sizes)
    assert np.array_equal(plain, [letterbox(image, 16, 24) for image in images])
    saved = perturbed(None, images, gamma=0, save_size=12, **sizes)
    small = Image.fromarray(plain[0]).resize((12, 8), Image.Resampling.BICUBIC)
    assert np.array_equal(saved[0], np.asarray(small))


def test_gamma_0_leaves_images_of_the_generator_s_size_alone(
    pipeline: DiffusionPipeline, garden: list[Image8]
) -> None:
    assert np.array_equal(perturbed(pipeline, garden, gamma=0), garden)


def test_letterbox_centers_the_image_on_white() -> None:
    tall = np.zeros((20, 10, 3), np.uint8)
    boxed = letterbox(tall, 10, 10)
    dark = (boxed == 0).all(axis=2)
    assert dark[:, 2:7].all() and dark.sum() == 50
    assert (boxed[~dark] == 255).all()


@pytest.mark.parametrize("gamma", [0.1, 0.3, 0.55, 0.6, 1.0])
def test_gamma_sets_the_number_of_steps(
    pipeline: DiffusionPipeline, garden: list[Image8], gamma: float
) -> None:
    calls: list[int] = []
    hook = pipeline.unet.register_forward_hook(lambda *_: calls.append(1))
    perturbed(pipeline, garden[:1], gamma=gamma, steps=10, block=1, keys=["a"], prompts=["b"])
    hook.remove()
    assert len(calls) == int(10 * gamma)


def test_an_image_is_what_the_bare_pipeline_makes_of_it(
    pipeline: DiffusionPipeline, garden: list[Image8]
) -> None:
    made = perturbed(pipeline, garden[:1], keys=KEYS[:1], prompts=PROMPTS[:1], block=1)[0]
    bare = StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
    bare.set_progress_bar_config(disable=True)
    expected = bare(
        PROMPTS[0],
        Image.fromarray(garden[0]),
        strength=0.5,
        num_inference_steps=6,
        guidance_scale=2.0,
        generator=noise("perturb", 3, KEYS[0]),
    ).images[0]
    assert np.array_equal(made, np.asarray(expected))


def test_every_gamma_adds_the_same_noise(
    pipeline: DiffusionPipeline, garden: list[Image8], noises: list[torch.Tensor]
) -> None:
    for gamma in (0.2, 0.5, 1.0):
        perturbed(pipeline, garden, gamma=gamma, block=5)
    first, *others = noises
    assert len(others) == 2
    assert all(torch.equal(first, other) for other in others)
    assert len(torch.unique(first, dim=0)) == len(KEYS)


def test_noise_belongs_to_the_key_whatever_the_block(
    pipeline: DiffusionPipeline, garden: list[Image8], noises: list[torch.Tensor]
) -> None:
    for block in (1, 3, 5):
        perturbed(pipeline, garden, block=block)
    ones, threes, five = torch.cat(noises[:5]), torch.cat(noises[5:7])[:5], noises[7]
    assert torch.equal(ones, threes)
    assert torch.equal(ones, five)


def test_pixels_hardly_depend_on_the_block(
    pipeline: DiffusionPipeline, garden: list[Image8]
) -> None:
    one, three, eight = (perturbed(pipeline, garden, block=block) for block in (1, 3, 8))
    assert np.abs(one.astype(int) - three).max() <= 2
    assert np.abs(one.astype(int) - eight).max() <= 2


def test_bytes_do_not_depend_on_where_the_images_end(
    pipeline: DiffusionPipeline, garden: list[Image8]
) -> None:
    batches: set[int] = set()
    hook = pipeline.unet.register_forward_hook(lambda _, given, __: batches.add(len(given[0])))
    whole = perturbed(pipeline, garden, block=3)
    begun = perturbed(pipeline, garden[:4], block=3, keys=KEYS[:4], prompts=PROMPTS[:4])
    hook.remove()
    assert np.array_equal(whole[:4], begun)
    assert batches == {6}  # the last block too is whole, each image with and without its prompt


@pytest.mark.parametrize(
    "other", [{"seed": 4}, {"gamma": 0.9}, {"keys": ["b"]}, {"prompts": ["fog"]}, {"guidance": 6.0}]
)
def test_everything_named_changes_the_image(
    pipeline: DiffusionPipeline, garden: list[Image8], other: dict[str, Any]
) -> None:
    usual: dict[str, Any] = {"keys": ["a"], "prompts": ["sun"], "block": 1}
    first = perturbed(pipeline, garden[:1], **usual)
    assert not np.array_equal(first, perturbed(pipeline, garden[:1], **usual | other))


def test_images_are_taken_a_block_at_a_time(
    pipeline: DiffusionPipeline, garden: list[Image8]
) -> None:
    taken: list[int] = []
    stream = (taken.append(n) or image for n, image in enumerate(garden))  # type: ignore[func-returns-value]
    made = perturb_images(pipeline, stream, PROMPTS, gamma=0.5, keys=KEYS, seed=0, steps=2, block=2)
    assert taken == []
    next(made)
    assert taken == [0, 1]


def test_a_broken_generator_is_noticed(tmp_path: Path, garden: list[Image8]) -> None:
    broken = load_generator(build_tiny_pipeline(tmp_path))
    torch.nn.init.constant_(broken.vae.decoder.conv_out.bias, torch.nan)
    made = perturb_images(broken, garden, PROMPTS, gamma=0.5, keys=KEYS, seed=0, steps=2)
    assert {one.reason for one in made} == {NAN}


def test_the_image_form_shares_the_weights(pipeline: DiffusionPipeline) -> None:
    form = image_to_image(pipeline)
    assert form.unet is pipeline.unet
    assert form.vae is pipeline.vae


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"gamma": -0.1}, "expected 0 to 1"),
        ({"gamma": 1.1}, "expected 0 to 1"),
        ({"gamma": float("nan")}, "expected 0 to 1"),
        ({"gamma": 0.1}, "less than one of 6 steps"),
        ({"steps": 0}, "expected 1 or more"),
        ({"height": 12}, "multiple of 8"),
    ],
)
def test_settings_out_of_range_are_refused(
    pipeline: DiffusionPipeline, garden: list[Image8], wrong: dict[str, Any], says: str
) -> None:
    usual = {"gamma": 0.5, "seed": 0, "steps": 6, "keys": KEYS}
    with pytest.raises(InputError, match=says):
        perturb_images(pipeline, garden, PROMPTS, **usual | wrong)


def test_a_pipeline_without_an_image_form_is_refused(garden: list[Image8]) -> None:
    blind = DDPMPipeline(unet=tiny_unet(), scheduler=DDIMScheduler())
    with pytest.raises(ModelError, match="DDPMPipeline has no image-to-image form"):
        perturbed(blind, garden, height=SIDE, width=SIDE)
    with pytest.raises(InputError, match="gamma above 0 needs a generator"):
        perturbed(None, garden, height=SIDE, width=SIDE)
    with pytest.raises(ModelError, match="does not say what size"):
        perturbed(None, garden, gamma=0)


def test_what_the_images_were_like_before_and_after_is_told(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    parent = import_set(tmp_path / "found", task, numbered(400, 2))
    how = Perturbation(source="found", gamma=0, size=48, save_size=32)
    perturb(parent, task, tmp_path / "child", generator=None, how=how)
    told = read_json(tmp_path / "child" / "pixels.json")
    assert told["images"] == 4
    assert (told["before"]["codecs"], told["after"]["codecs"]) == ({"PNG": 1.0}, {"JPEG": 1.0})
    assert told["before"]["short_side"]["median"] == 48
    assert told["after"]["short_side"]["median"] == 32
