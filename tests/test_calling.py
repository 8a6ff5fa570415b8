"""One call of a pipeline: reasons to drop an image, memory, guidance, and switches left alone."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from tests.tiny_pipeline import SIDE, build_tiny_flow_pipeline, build_tiny_pipeline, one_thread
from transformers import CLIPConfig, CLIPImageProcessor

from headwater.errors import InputError, ModelError
from headwater.synthesize.calling import (
    BLANK,
    NAN,
    UNSAFE,
    Generated,
    OutOfMemoryError,
    finish,
    guide,
    run_pipeline,
)
from headwater.synthesize.generator import load_generator
from headwater.synthesize.images import noise
from headwater.synthesize.memory import is_out_of_memory


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_pipeline(tmp_path_factory.mktemp("generator"))


@pytest.fixture
def pipeline(folder: Path) -> DiffusionPipeline:
    return load_generator(folder, device="cpu")


def draw(pipeline: Any, count: int = 2, **settings: Any) -> list[Generated]:
    usual = {"num_inference_steps": 2, "guidance_scale": 2.0}
    prompt = [f"digit {n}" for n in range(count)]
    generator = [noise(n) for n in range(count)]
    return run_pipeline(pipeline, prompt=prompt, generator=generator, **usual | settings)


def reasons(made: list[Generated]) -> list[str | None]:
    return [one.reason for one in made]


def test_blank_and_broken_images_carry_their_reason(pipeline: DiffusionPipeline) -> None:
    last = pipeline.vae.decoder.conv_out
    torch.nn.init.zeros_(last.weight)
    assert reasons(draw(pipeline)) == [BLANK, BLANK]
    torch.nn.init.constant_(last.bias, torch.inf)
    assert reasons(draw(pipeline)) == [BLANK, BLANK]  # all white
    torch.nn.init.constant_(last.bias, torch.nan)
    made = draw(pipeline)
    assert reasons(made) == [NAN, NAN]
    assert made[0].image.shape == (SIDE, SIDE, 3)


def test_an_autoencoder_beyond_float16_is_found_out(folder: Path) -> None:
    with torch.no_grad():
        whole = load_generator(folder, device="cpu")
        half = load_generator(folder, device="cpu", precision="float16")
        for loud in (whole, half):  # float16 ends at 65,504
            loud.vae.decoder.conv_in.weight.mul_(3e4)
    assert reasons(draw(whole)) == [None, None]
    assert reasons(draw(half)) == [NAN, NAN]


def test_one_broken_image_does_not_take_its_neighbors_along() -> None:
    def half_broken(prompt: list[str], **_: Any) -> SimpleNamespace:
        images = np.random.default_rng(0).random((len(prompt), 4, 4, 3))
        images[1, 0, 0, 0] = np.nan
        return SimpleNamespace(images=images)

    assert reasons(draw(half_broken, 3)) == [None, NAN, None]


def test_an_image_with_one_bright_dot_is_not_blank() -> None:
    pixels = np.zeros((64, 64, 3), np.float32)
    assert finish(pixels).reason == BLANK
    pixels[33, 41, 1] = 1
    assert finish(pixels).reason is None


def tiny_safety_checker(threshold: float) -> StableDiffusionSafetyChecker:
    """The real checker; above -1 any cosine is, above 1 none."""
    tiny = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    vision = {**tiny, "num_attention_heads": 1, "image_size": 8, "patch_size": 8}
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=4))
    with torch.no_grad():
        checker.concept_embeds_weights.fill_(threshold)
        checker.special_care_embeds_weights.fill_(threshold)
    return checker


@pytest.mark.parametrize(("threshold", "reason"), [(-2.0, UNSAFE), (2.0, None)])
def test_the_safety_checker_of_a_saved_pipeline_is_on(
    pipeline: DiffusionPipeline, tmp_path: Path, threshold: float, reason: str | None
) -> None:
    pipeline.register_modules(
        safety_checker=tiny_safety_checker(threshold),
        feature_extractor=CLIPImageProcessor(
            size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}
        ),
    )
    pipeline.save_pretrained(tmp_path)
    guarded = load_generator(tmp_path, device="cpu")
    made = draw(guarded)
    assert reasons(made) == [reason, reason]
    assert (made[0].image.max() == 0) == (reason is UNSAFE)  # black, and told as flagged


def test_flags_by_another_name_are_read_too() -> None:
    def flagging(prompt: list[str], **_: Any) -> SimpleNamespace:
        return SimpleNamespace(images=np.zeros((2, 4, 4, 3)), nsfw_detected=[True, False])

    assert reasons(draw(flagging)) == [UNSAFE, BLANK]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("Tried to allocate 20.00 MiB."),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't "
                     "allocate memory: you tried to allocate 9 bytes. Error code 12"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        RuntimeError("MPS backend out of memory (MPS allocated: 17 GB, max allowed: 18 GB)."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
    ],
)  # fmt: skip
def test_memory_that_is_full_is_known_on_every_device(error: Exception) -> None:
    def full(prompt: list[str], **_: Any) -> SimpleNamespace:
        raise error

    assert is_out_of_memory(error)
    with pytest.raises(OutOfMemoryError, match="2 images at once"):
        draw(full)


def test_what_filled_the_memory_is_let_go_of_before_going_on() -> None:
    kept: list[weakref.ref[torch.Tensor]] = []

    def full(prompt: list[str], **_: Any) -> SimpleNamespace:
        large = torch.zeros(10)
        kept.append(weakref.ref(large))
        raise torch.OutOfMemoryError("full")

    try:
        draw(full)
    except OutOfMemoryError:
        assert kept[0]() is None


def test_other_errors_of_a_pipeline_stay_what_they_are(pipeline: DiffusionPipeline) -> None:
    def wrong(prompt: list[str], **_: Any) -> SimpleNamespace:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        draw(wrong)
    with pytest.raises(InputError, match="divisible by 8 but are 30"):
        draw(pipeline, height=30, width=30)


def test_a_pipeline_without_images_is_refused() -> None:
    with pytest.raises(ModelError, match="drew no images"):
        draw(lambda prompt, **_: SimpleNamespace(images=np.zeros((2, 4, 8))))
    with pytest.raises(ModelError, match="drew no images"):
        draw(lambda prompt, **_: SimpleNamespace(audios=np.zeros((2, 44100))))


def test_a_pipeline_that_wants_more_than_a_prompt_says_so() -> None:
    def controlled(prompt: list[str], image: Any, **_: Any) -> None: ...

    with pytest.raises(InputError, match=r"refuses its settings: saw .* argument: 'image'"):
        draw(controlled)


def test_guidance_goes_where_the_pipeline_takes_it(tmp_path: Path) -> None:
    def distilled(prompt, negative_prompt=None, true_cfg_scale=1.0, guidance_scale=3.5): ...
    def qwen(prompt, negative_prompt=None, true_cfg_scale=4.0, guidance_scale=None): ...
    def unguided(prompt): ...

    flow = load_generator(build_tiny_flow_pipeline(tmp_path), device="cpu")
    for pipeline in (flow, distilled):
        assert guide(pipeline, 2.0, count=2) == {"guidance_scale": 2.0}
    assert guide(qwen, 2.0, count=2) == {"true_cfg_scale": 2.0, "negative_prompt": [" ", " "]}
    assert guide(qwen, 1.0, count=2) == {"true_cfg_scale": 1.0}
    assert guide(unguided, 2.0, count=2) == {}


def test_the_switches_of_torch_are_left_as_they_were() -> None:
    seen = []
    cudnn = torch.backends.cudnn

    def look(prompt: list[str], **_: Any) -> SimpleNamespace:
        seen.append((cudnn.deterministic, cudnn.benchmark, cudnn.conv.fp32_precision))
        raise torch.OutOfMemoryError("full")

    before = cudnn.deterministic, cudnn.conv.fp32_precision
    cudnn.benchmark = True
    try:
        with pytest.raises(OutOfMemoryError):
            draw(look)
        assert seen == [(True, False, "ieee")]
        assert (cudnn.deterministic, cudnn.conv.fp32_precision) == before
        assert cudnn.benchmark
    finally:
        cudnn.benchmark = False
