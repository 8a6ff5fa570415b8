"""Prompts to images: what an image depends on, blocks that memory halves, what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.tiny_pipeline import (
    SIDE,
    one_thread,
)

from headwater.errors import InputError, RunError
from headwater.store import stable_seed
from headwater.synthesize.generator import load_generator, native_size
from headwater.synthesize.images import Layout, generate_images, noise

CAPTIONS = [f"a photo of the digit {n}" for n in range(11)]
QUICK: dict[str, Any] = {"seed": 5, "steps": 3}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


Wholes = Callable[[DiffusionPipeline, int], np.ndarray]


@pytest.fixture(scope="module")
def wholes() -> Wholes:
    """All captions in blocks of a size, by either pipeline; drawn once."""
    return cache(lambda pipeline, block: pixels(pipeline, CAPTIONS, block=block))


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


def test_an_image_is_what_the_bare_pipeline_draws(either: DiffusionPipeline) -> None:
    made = pixels(either, CAPTIONS[4:5], indices=[4], block=1)[0]
    bare = either(
        CAPTIONS[4],
        num_inference_steps=3,
        guidance_scale=2.0,
        generator=noise("image", 5, 4),
    ).images[0]
    assert np.array_equal(made, np.asarray(bare))


def test_pixels_hardly_depend_on_the_block(either: DiffusionPipeline) -> None:
    one, three, eight = (pixels(either, CAPTIONS, block=block) for block in (1, 3, 8))
    assert np.abs(one.astype(int) - three).max() <= 2
    assert np.abs(one.astype(int) - eight).max() <= 2
    assert one.std() > 10  # the pictures are not all gray


def test_noise_does_not_depend_on_the_block_at_all() -> None:
    one, three, eight = (pixels(static, CAPTIONS, block=block) for block in (1, 3, 8))
    assert np.array_equal(one, three)
    assert np.array_equal(one, eight)
    assert len(np.unique(one, axis=0)) == len(CAPTIONS)


@pytest.mark.parametrize("wanted", [[5, 6, 7, 8, 9, 10], [7], [0, 4, 9]])
@pytest.mark.parametrize("block", [1, 3, 8])
def test_after_a_restart_the_rest_has_the_same_bytes(
    either: DiffusionPipeline, wholes: Wholes, block: int, wanted: list[int]
) -> None:
    rest = pixels(either, [CAPTIONS[i] for i in wanted], indices=wanted, block=block)
    assert np.array_equal(rest, wholes(either, block)[wanted])


@pytest.mark.parametrize(
    "other", [{"seed": 6}, {"steps": 4}, {"guidance": 5.0}, {"indices": [1]}, {"captions": ["7"]}]
)
def test_everything_named_changes_the_image(
    either: DiffusionPipeline, other: dict[str, Any]
) -> None:
    usual: dict[str, Any] = {"captions": CAPTIONS[:1], "block": 1}
    assert not np.array_equal(pixels(either, **usual), pixels(either, **usual | other))


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
        {"blocks": [(0, 0)]},
    ],
)
def test_settings_out_of_range_are_refused_before_any_work(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        generate_images(static, CAPTIONS[:3], **{"seed": 0} | wrong)


def test_nothing_but_headwater_shows_progress(
    generator_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pipeline = load_generator(generator_folder)
    list(generate_images(pipeline, CAPTIONS[:1], **QUICK))
    seen = capfd.readouterr()
    assert (seen.out, seen.err) == ("", "")


@contextmanager
def room_for(pipeline: DiffusionPipeline, most: int) -> Iterator[None]:
    """A device that is full when the network gets more than `most` images, as torch says it."""

    def check(_: torch.nn.Module, args: tuple[Any, ...], settings: dict[str, Any]) -> None:
        batch = args[0] if args else settings["hidden_states"]
        if len(batch) > 2 * most:  # guidance sends each image through twice
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    network = getattr(pipeline, "unet", None) or pipeline.transformer
    hook = network.register_forward_pre_hook(check, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def test_a_block_that_does_not_fit_is_halved_and_told_before_it_is_made(
    either: DiffusionPipeline, wholes: Wholes
) -> None:
    told: list[tuple[int, int]] = []
    with room_for(either, 3):
        images = generate_images(
            either, CAPTIONS, **QUICK, on_halved=lambda *smaller: told.append(smaller)
        )
        next(images)
        assert told == [(0, 4), (0, 2)]
        made = np.stack([one.image for one in images])
    assert told == [(0, 4), (0, 2)]
    assert np.abs(made.astype(int) - wholes(either, 8)[1:]).max() <= 2
    assert np.array_equal(made, pixels(either, CAPTIONS, block=2)[1:])


def test_after_a_kill_recorded_sizes_give_the_same_bytes(either: DiffusionPipeline) -> None:
    told: list[tuple[int, int]] = []
    images = generate_images(
        either, CAPTIONS, **QUICK, block=4, on_halved=lambda *smaller: told.append(smaller)
    )
    first = [next(images).image for _ in range(4)]
    with room_for(either, 2):  # from the second block on
        first += [one.image for one in images]
    assert told == [(4, 2)]
    again = pixels(either, CAPTIONS[3:], indices=range(3, 11), block=4, blocks=told)
    assert np.array_equal(again, first[3:])


def test_recorded_sizes_hold_from_their_index_on() -> None:
    calls = []

    def counting(prompt: list[str], **settings: Any) -> SimpleNamespace:
        calls.append(prompt)
        return static(prompt, **settings)

    letters = list("abcdefghijk")
    list(generate_images(counting, letters, seed=0, block=4, blocks=[(4, 2), (7, 3)]))
    assert ["".join(call) for call in calls] == ["abcd", "ef", "g", "hij", "kkk"]


@given(
    block=st.integers(1, 9),
    blocks=st.dictionaries(st.integers(0, 40), st.integers(1, 9), max_size=4),
    index=st.integers(0, 60),
)
def test_blocks_are_runs_that_all_their_members_agree_on(
    block: int, blocks: dict[int, int], index: int
) -> None:
    layout = Layout(block, sorted(blocks.items()))
    own = layout.block_of(index)
    assert index in own
    assert {layout.block_of(other) for other in own} == {own}


def test_a_single_image_that_does_not_fit_names_the_way_out(pipeline: DiffusionPipeline) -> None:
    with room_for(pipeline, 0), pytest.raises(RunError, match="Draw smaller images"):
        pixels(pipeline, CAPTIONS[:1])


def test_no_two_of_many_images_begin_with_the_same_noise() -> None:
    first = {float(torch.randn(1, generator=noise("image", 0, i))) for i in range(2000)}
    assert len(first) == 2000


def test_the_noise_is_a_mersenne_twister_of_all_its_words() -> None:
    twister = np.random.MT19937()
    words = np.random.SeedSequence(stable_seed("image", 0, 7)).generate_state(624)
    twister.state = {"bit_generator": "MT19937", "state": {"key": words, "pos": 624}}
    plain = (twister.random_raw(2000) & 0xFFFFFF) / 2**24  # torch keeps 24 bits of a word
    drawn = torch.rand(2000, generator=noise("image", 0, 7)).numpy()
    assert np.array_equal(drawn, plain.astype(np.float32))
