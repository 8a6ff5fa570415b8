"""Images perturbed at gamma: geometry at 0, paired noise above it, and the steps it takes."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    DDPMPipeline,
    DiffusionPipeline,
    StableDiffusionImg2ImgPipeline,
)
from diffusers.image_processor import VaeImageProcessor
from PIL import Image
from tests.tiny_garden import import_set, make_task, numbered
from tests.tiny_pipeline import (
    SIDE,
    build_tiny_pipeline,
    one_thread,
    tiny_unet,
)

from headwater.decode import Image8
from headwater.errors import InputError, ModelError
from headwater.steps.synthesis.perturb import perturb
from headwater.steps.synthesis.settings import Perturbation
from headwater.store import read_json
from headwater.synthesize.calling import BLANK, NAN, UNSAFE
from headwater.synthesize.gamma import AUTOENCODER, Gamma
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
def garden() -> list[Image8]:
    grain = np.random.default_rng(0)
    return [grain.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for _ in PROMPTS]


def perturbed(pipeline: DiffusionPipeline | None, images: list[Image8], **other: Any) -> np.ndarray:
    usual = {"gamma": 0.5, "seed": 3, "steps": 6, "keys": KEYS, "prompts": PROMPTS}
    return np.stack([one.image for one in perturb_images(pipeline, images, **usual | other)])


class Heard(NamedTuple):
    """What the scheduler was asked to put together: encoded images and their noise."""

    latents: torch.Tensor
    noise: torch.Tensor


@pytest.fixture
def heard(either: DiffusionPipeline, monkeypatch: pytest.MonkeyPatch) -> list[Heard]:
    """What noise was added to what, call by call."""
    told: list[Heard] = []
    scheduler = either.scheduler
    name = "add_noise" if hasattr(scheduler, "add_noise") else "scale_noise"
    add = getattr(scheduler, name)

    def add_noise(latents: torch.Tensor, noise: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        told.append(Heard(latents.clone(), noise.clone()))
        return add(latents, noise, at)

    def scale_noise(latents: torch.Tensor, at: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        told.append(Heard(latents.clone(), noise.clone()))
        return add(latents, at, noise)

    monkeypatch.setattr(scheduler, name, add_noise if name == "add_noise" else scale_noise)
    return told


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
    either: DiffusionPipeline, garden: list[Image8], gamma: float
) -> None:
    calls: list[int] = []
    network = getattr(either, "unet", None) or either.transformer
    hook = network.register_forward_hook(lambda *_: calls.append(1))
    perturbed(either, garden[:1], gamma=gamma, steps=10, block=1, keys=["a"], prompts=["b"])
    hook.remove()
    whole = int if hasattr(either, "unet") else ceil  # each family's own rule
    assert len(calls) == whole(10 * gamma)


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


def test_every_gamma_adds_the_same_noise_to_the_same_latents(
    either: DiffusionPipeline, garden: list[Image8], heard: list[Heard]
) -> None:
    """Not the noise alone: what is drawn from the autoencoder's posterior comes before it."""
    for gamma in (0.2, 0.5, 1.0):
        perturbed(either, garden, gamma=gamma, block=5)
    first, *others = heard
    assert len(others) == 2
    for other in others:
        assert torch.equal(first.noise, other.noise)
        assert torch.equal(first.latents, other.latents)
    assert len(torch.unique(first.noise, dim=0)) == len(KEYS)


def test_noise_belongs_to_the_key_whatever_the_block(
    either: DiffusionPipeline, garden: list[Image8], heard: list[Heard]
) -> None:
    for block in (1, 3, 5):
        perturbed(either, garden, block=block)
    noises = [each.noise for each in heard]
    ones, threes, five = torch.cat(noises[:5]), torch.cat(noises[5:7])[:5], noises[7]
    assert torch.equal(ones, threes)
    assert torch.equal(ones, five)


def test_the_autoencoder_takes_the_draw_that_every_gamma_takes(
    either: DiffusionPipeline,
    garden: list[Image8],
    heard: list[Heard],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    perturbed(either, garden, gamma=0.2, block=5)
    decoded: list[torch.Tensor] = []
    decode = either.vae.decode
    monkeypatch.setattr(
        either.vae, "decode", lambda latents, **k: decoded.append(latents) or decode(latents, **k)
    )
    perturbed(either, garden, gamma=AUTOENCODER, block=5)
    scale, shift = either.vae.config.scaling_factor, either.vae.config.shift_factor or 0
    assert torch.allclose((decoded[0] - shift) * scale, heard[0].latents, atol=1e-6)


def test_the_autoencoder_is_the_image_form_with_nothing_between(
    either: DiffusionPipeline, garden: list[Image8], monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = perturbed(either, garden, gamma=AUTOENCODER, block=5)
    idle = {
        "add_noise": lambda latents, noise, at: latents,
        "scale_noise": lambda latents, at, noise: latents,
        "step": lambda guess, at, latents, **_: (latents,),
    }
    for name, do in idle.items():
        monkeypatch.setattr(either.scheduler, name, do, raising=False)
    assert np.abs(perturbed(either, garden, block=5).astype(int) - codec).max() <= 1
    assert np.abs(codec.astype(int) - garden).max() > 10  # a codec loses something


def test_pixels_hardly_depend_on_the_block(either: DiffusionPipeline, garden: list[Image8]) -> None:
    for gamma in (AUTOENCODER, 0.5):
        one, three, eight = (
            perturbed(either, garden, gamma=gamma, block=block) for block in (1, 3, 8)
        )
        assert np.abs(one.astype(int) - three).max() <= 2
        assert np.abs(one.astype(int) - eight).max() <= 2


@pytest.mark.parametrize("gamma", [AUTOENCODER, 0.5])
def test_a_block_that_does_not_fit_is_halved_and_told(
    either: DiffusionPipeline, garden: list[Image8], gamma: Gamma, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = either.vae.decode

    def small(latents: torch.Tensor, **settings: Any) -> Any:
        if len(latents) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return decode(latents, **settings)

    told: list[tuple[int, int]] = []
    monkeypatch.setattr(either.vae, "decode", small)
    made = perturbed(either, garden, gamma=gamma, block=4, on_halved=lambda *x: told.append(x))
    assert told == [(0, 2)]
    monkeypatch.undo()
    assert np.array_equal(made, perturbed(either, garden, gamma=gamma, block=2))
    assert np.array_equal(made, perturbed(either, garden, gamma=gamma, block=4, blocks=told))


def test_only_what_the_generator_blanks_is_blank(
    pipeline: DiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    gray = torch.zeros(1, 3, SIDE, SIDE)
    monkeypatch.setattr(pipeline.vae, "decode", lambda z, **_: (gray.expand(len(z), -1, -1, -1),))
    flat, busy = np.full((SIDE, SIDE, 3), 70, np.uint8), np.eye(SIDE, dtype=np.uint8)
    images = [flat, np.dstack([200 * busy] * 3)]
    made = perturb_images(pipeline, images, PROMPTS[:2], gamma=0.5, keys=KEYS[:2], seed=0, steps=2)
    assert [one.reason for one in made] == [None, BLANK]


def test_bytes_do_not_depend_on_where_the_images_end(
    either: DiffusionPipeline, garden: list[Image8], heard: list[Heard]
) -> None:
    whole = perturbed(either, garden, block=3)
    begun = perturbed(either, garden[:4], block=3, keys=KEYS[:4], prompts=PROMPTS[:4])
    assert np.array_equal(whole[:4], begun)
    assert {len(each.noise) for each in heard} == {3}  # the last block too is whole


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


def test_what_the_safety_checker_flags_is_told(
    pipeline: DiffusionPipeline, garden: list[Image8], monkeypatch: pytest.MonkeyPatch
) -> None:
    def second(_: Any, image: torch.Tensor, *__: Any) -> tuple[torch.Tensor, list[bool]]:
        return image, [number == 1 for number in range(len(image))]

    monkeypatch.setattr(StableDiffusionImg2ImgPipeline, "run_safety_checker", second)
    made = perturb_images(pipeline, garden, PROMPTS, gamma=0.5, keys=KEYS, seed=0, steps=2, block=5)
    assert [one.reason for one in made] == [None, UNSAFE, None, None, None]


def test_the_autoencoder_refuses_a_size_it_would_change(
    flow: DiffusionPipeline, garden: list[Image8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "image_processor", VaeImageProcessor(vae_scale_factor=16))
    with pytest.raises(InputError, match="height and width are multiples of 16"):
        perturbed(flow, garden, gamma=AUTOENCODER, height=24, width=24)


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
        ({"gamma": "vae"}, "expected 0 to 1, or autoencoder"),
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
    with pytest.raises(ModelError, match="DDPMPipeline has no autoencoder"):
        perturbed(blind, garden, height=SIDE, width=SIDE, gamma=AUTOENCODER)
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


def test_a_tiny_autoencoder_will_do_as_well(
    pipeline: DiffusionPipeline, garden: list[Image8], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1),
    )  # fmt: skip
    monkeypatch.setattr(pipeline, "vae", tiny)
    made = perturb_images(pipeline, garden, PROMPTS, gamma=AUTOENCODER, keys=KEYS, seed=0)
    assert {one.image.shape for one in made} == {(SIDE, SIDE, 3)}
