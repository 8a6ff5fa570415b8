"""Prompts to images: what an image depends on, what is refused, and what is flagged."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from tests.tiny_pipeline import SIDE, build_tiny_pipeline, one_thread
from transformers import CLIPConfig, CLIPImageProcessor

from headwater.errors import InputError, RunError
from headwater.synthesize.generator import load_generator, native_size
from headwater.synthesize.images import (
    BLANK,
    NAN,
    UNSAFE,
    generate_images,
    noise,
)

CAPTIONS = [f"a photo of the digit {n}" for n in range(11)]
QUICK: dict[str, Any] = {"seed": 5, "steps": 3}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_pipeline(tmp_path_factory.mktemp("generator"))


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> DiffusionPipeline:
    return load_generator(folder, device="cpu")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def pixels(pipeline: DiffusionPipeline, captions: list[str], **settings: Any) -> np.ndarray:
    return np.stack([one.image for one in generate_images(pipeline, captions, **QUICK | settings)])


def static(prompt: list[str], *, generator: list[torch.Generator], **_: Any) -> SimpleNamespace:
    """A pipeline that shows the noise it is given, drawn as diffusers pipelines draw it."""
    drawn = randn_tensor((len(prompt), 4, 4, 3), generator=generator)
    return SimpleNamespace(images=drawn.numpy() / 8 + 0.5)


def test_images_are_uint8_of_the_pipeline_s_size(pipeline: DiffusionPipeline) -> None:
    made = list(generate_images(pipeline, CAPTIONS[:2], **QUICK))
    assert [one.image.shape for one in made] == [(SIDE, SIDE, 3)] * 2
    assert made[0].image.dtype == np.uint8
    assert [one.reason for one in made] == [None, None]
    assert native_size(pipeline) == (SIDE, SIDE)


def test_an_image_is_what_the_bare_pipeline_draws(pipeline: DiffusionPipeline) -> None:
    made = pixels(pipeline, CAPTIONS[4:5], indices=[4], block=1)[0]
    bare = pipeline(
        CAPTIONS[4],
        num_inference_steps=3,
        guidance_scale=2.0,
        eta=0.0,
        generator=noise("image", 5, 4),
    ).images[0]
    assert np.array_equal(made, np.asarray(bare))


def test_pixels_hardly_depend_on_the_block(pipeline: DiffusionPipeline) -> None:
    one, three, eight = (pixels(pipeline, CAPTIONS, block=block) for block in (1, 3, 8))
    assert np.abs(one.astype(int) - three).max() <= 2
    assert np.abs(one.astype(int) - eight).max() <= 2
    assert one.std() > 10  # the pictures are not all gray


def test_noise_does_not_depend_on_the_block_at_all() -> None:
    one, three, eight = (pixels(static, CAPTIONS, block=block) for block in (1, 3, 8))
    assert np.array_equal(one, three)
    assert np.array_equal(one, eight)
    assert len(np.unique(one, axis=0)) == len(CAPTIONS)


@pytest.mark.parametrize("wanted", [[5, 6, 7, 8, 9, 10], [0, 1, 2, 3], [7], [0, 4, 9]])
def test_after_a_restart_the_rest_has_the_same_bytes(
    pipeline: DiffusionPipeline, wanted: list[int]
) -> None:
    whole = pixels(pipeline, CAPTIONS, block=4)
    rest = pixels(pipeline, [CAPTIONS[i] for i in wanted], indices=wanted, block=4)
    assert np.array_equal(rest, whole[wanted])


@pytest.mark.parametrize(
    "other", [{"seed": 6}, {"steps": 4}, {"guidance": 5.0}, {"indices": [1]}, {"captions": ["7"]}]
)
def test_everything_named_changes_the_image(
    pipeline: DiffusionPipeline, other: dict[str, Any]
) -> None:
    usual: dict[str, Any] = {"captions": CAPTIONS[:1], "block": 1}
    assert not np.array_equal(pixels(pipeline, **usual), pixels(pipeline, **usual | other))


def test_only_one_block_is_made_at_a_time_and_always_a_whole_one() -> None:
    calls = []

    def counting(prompt: list[str], **settings: Any) -> SimpleNamespace:
        calls.append(len(prompt))
        return static(prompt, **settings)

    images = generate_images(counting, CAPTIONS, seed=0, block=4)
    assert calls == []
    next(images)
    assert calls == [4]
    assert len(list(images)) == len(CAPTIONS) - 1
    assert calls == [4, 4, 4]


def test_sizes_drawn_and_saved(pipeline: DiffusionPipeline) -> None:
    wide = pixels(pipeline, CAPTIONS[:1], height=16, width=24)[0]
    assert wide.shape == (16, 24, 3)
    small = pixels(pipeline, CAPTIONS[:1], height=16, width=24, save_size=12)[0]
    resized = Image.fromarray(wide).resize((12, 8), Image.Resampling.BICUBIC)
    assert np.array_equal(small, np.asarray(resized))


def test_broken_and_blank_images_carry_their_reason(copy: Path) -> None:
    broken = load_generator(copy)
    torch.nn.init.zeros_(broken.vae.decoder.conv_out.weight)
    made = list(generate_images(broken, CAPTIONS[:2], **QUICK))
    assert [one.reason for one in made] == [BLANK, BLANK]
    torch.nn.init.constant_(broken.vae.decoder.conv_out.bias, torch.nan)
    made = list(generate_images(broken, CAPTIONS[:2], **QUICK))
    assert [one.reason for one in made] == [NAN, NAN]
    assert made[0].image.shape == (SIDE, SIDE, 3)


def test_one_broken_image_does_not_take_its_neighbors_along() -> None:
    def half_broken(prompt: list[str], **settings: Any) -> SimpleNamespace:
        output = static(prompt, **settings)
        output.images[1, 0, 0, 0] = np.nan
        return output

    made = generate_images(half_broken, CAPTIONS[:3], seed=0)
    assert [one.reason for one in made] == [None, NAN, None]


def test_the_safety_checker_s_flags_are_kept(copy: Path) -> None:
    tiny = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    checker = StableDiffusionSafetyChecker(
        CLIPConfig(
            vision_config={**tiny, "num_attention_heads": 1, "image_size": 8, "patch_size": 8},
            projection_dim=4,
        )
    )
    with torch.no_grad():  # any cosine is above this threshold
        checker.concept_embeds_weights.fill_(-2.0)
    guarded = load_generator(copy)
    guarded.register_modules(
        safety_checker=checker,
        feature_extractor=CLIPImageProcessor(
            size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}
        ),
    )
    made = list(generate_images(guarded, CAPTIONS[:2], **QUICK))
    assert [one.reason for one in made] == [UNSAFE, UNSAFE]


def test_out_of_memory_names_the_way_out() -> None:
    def full(prompt: list[str], **_: Any) -> SimpleNamespace:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(RunError, match="8 images at once"):
        list(generate_images(full, CAPTIONS, seed=0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"block": 0},
        {"guidance": -1.0},
        {"guidance": float("nan")},
        {"height": 30},
        {"width": 0},
        {"indices": [0, 1]},
        {"indices": [2, 1, 3]},
        {"indices": [-1, 0, 1]},
    ],
)
def test_settings_out_of_range_are_refused_before_any_work(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        generate_images(static, CAPTIONS[:3], **{"seed": 0} | wrong)


def test_nothing_but_headwater_shows_progress(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pipeline = load_generator(folder)
    list(generate_images(pipeline, CAPTIONS[:1], **QUICK))
    seen = capfd.readouterr()
    assert (seen.out, seen.err) == ("", "")
