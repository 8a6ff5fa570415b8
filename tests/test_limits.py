"""How much of a caption is read: held against what the text encoders make of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from tests.tiny_pipeline import (
    TOKENS,
    one_thread,
    spelling_t5_tokenizer,
)
from transformers import ByT5Tokenizer

from headwater.synthesize.limits import Fit, Reader, caption_readers, read_part

LONG = "a photo of a Red Rose, " * 20  # a token a letter, and for T5 one a word


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def embedded(pipeline: DiffusionPipeline, caption: str) -> torch.Tensor:
    """What the network gets of a caption."""
    names = inspect.signature(pipeline.encode_prompt).parameters
    others = {name: None for name in ("prompt_2", "prompt_3") if name in names}
    with torch.inference_mode():
        return pipeline.encode_prompt(
            caption, **others, device="cpu", num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )[0]  # fmt: skip


def test_a_short_caption_is_read_whole(either: DiffusionPipeline) -> None:
    [fit] = read_part(either, ["a dog"])
    assert fit == Fit(tokens=6, read=6, text="a dog")  # start, 4 letters, end


def test_the_part_said_to_be_read_is_what_the_encoders_read(either: DiffusionPipeline) -> None:
    [fit] = read_part(either, [LONG])
    assert LONG.startswith(fit.text)
    assert len(fit.text) < len(LONG)
    assert fit.read < fit.tokens
    whole = embedded(either, LONG)
    assert torch.equal(whole, embedded(either, fit.text + "zz, seen from above"))
    assert not torch.equal(whole, embedded(either, fit.text[:-1] + "z"))


def test_the_encoder_that_reads_most_counts(flow: DiffusionPipeline) -> None:
    assert [limit for _, limit in caption_readers(flow)] == [TOKENS, TOKENS, 256]
    [fit] = read_part(flow, [LONG])
    assert fit.read == 256


def test_a_pipeline_without_its_t5_reads_less(flow: DiffusionPipeline) -> None:
    less = SimpleNamespace(components=dict(flow.components, text_encoder_3=None))
    assert read_part(less, [LONG])[0].read == TOKENS


def test_the_limit_of_an_encoder_without_positions_is_that_of_the_call() -> None:
    class Flux:
        def __init__(self) -> None:
            self.components = {
                "tokenizer_2": spelling_t5_tokenizer(),
                "text_encoder_2": object(),
            }

        def __call__(self, prompt: str, max_sequence_length: int = 512) -> None: ...

    class Aura(Flux):
        def __call__(self, prompt: str) -> None: ...
        def encode_prompt(self, prompt: str, max_sequence_length: int = 128) -> None: ...

    assert [reader.limit for reader in caption_readers(Flux())] == [512]
    assert [reader.limit for reader in caption_readers(Aura())] == [128]


def test_tokenizers_without_offsets_tell_the_part_too() -> None:
    slow = ByT5Tokenizer(model_max_length=6)
    assert not slow.is_fast
    parts = {"tokenizer": slow, "text_encoder": object()}
    assert caption_readers(SimpleNamespace(components=parts)) == [Reader(slow, 6)]
    assert read_part(SimpleNamespace(components=parts), ["Red Rose"])[0].text == "Red R"


def test_captions_in_any_script_are_cut_between_their_letters(pipeline: DiffusionPipeline) -> None:
    [fit] = read_part(pipeline, ["ein Überzug aus 猫猫猫 " * 4])
    assert fit.text and fit.text in "ein Überzug aus 猫猫猫 " * 4


def test_without_captions_or_tokenizers_there_is_nothing_to_cut(flow: DiffusionPipeline) -> None:
    assert read_part(flow, []) == []
    assert read_part(SimpleNamespace(components={}), ["a dog"]) == [Fit(0, 0, "a dog")]


def test_long_captions_are_counted_without_a_warning(
    either: DiffusionPipeline, capfd: pytest.CaptureFixture[str], caplog: Any
) -> None:
    read_part(either, [LONG] * 3)
    seen = capfd.readouterr()
    assert (seen.out, seen.err, caplog.text) == ("", "", "")
