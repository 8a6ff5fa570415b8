"""A captioner says the same of an image whatever other images are shown with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny_captioner import FAMILIES, build_tiny_captioner
from tests.tiny_language_model import build_tiny_language_model

from headwater.decode import Image8
from headwater.errors import ModelError, RunError
from headwater.synthesize.captions.captioner import QUESTION, Captioner
from headwater.synthesize.captions.instructions import clean_line

TOKENS = 12


def pictures(n: int) -> list[Image8]:
    """Noise over a color, of different sizes, one with a side of 3 pixels."""
    made = []
    for number in range(n):
        random = np.random.default_rng(number)
        shape = (3 if number == 2 else 20 + 9 * number, 40, 3)
        noise = random.integers(0, 100, shape)
        made.append((noise + random.integers(0, 150, 3)).astype(np.uint8))
    return made


IMAGES = pictures(8)


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_captioner(tmp_path_factory.mktemp("eyes") / "tiny", family=request.param)


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_captioner(tmp_path_factory.mktemp("blip") / "tiny")


def opened(folder: Path, **settings: Any) -> Captioner:
    return Captioner(folder, **{"tokens": TOKENS, "device": "cpu"} | settings)


def test_a_line_does_not_depend_on_the_batch(folder: Path) -> None:
    one, three, eight = (opened(folder, block=block).describe(IMAGES) for block in (1, 3, 8))
    assert one == three == eight
    assert len(set(one)) > 2
    assert all("\n" not in line for line in one)
    assert opened(folder).describe(IMAGES[::-1]) == one[::-1]
    assert opened(folder).describe([]) == []


def test_the_question_is_not_in_the_answer(folder: Path) -> None:
    lines = opened(folder).describe(IMAGES)
    assert not any(QUESTION[:20] in line or "assistant" in line for line in lines)


def test_it_says_what_the_model_says_by_itself(blip: Path) -> None:
    captioner = opened(blip)
    for image, line in zip(IMAGES, captioner.describe(IMAGES), strict=True):
        seen = captioner.processor(
            images=np.asarray(image), return_tensors="pt", input_data_format="channels_last"
        )
        grown = captioner.model.generate(**seen, max_new_tokens=TOKENS, do_sample=False)
        assert line == clean_line(captioner.processor.decode(grown[0], skip_special_tokens=True))


def test_a_close_choice_is_made_again_alone(blip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = opened(blip, block=8).describe(IMAGES)
    looks: list[int] = []
    look = Captioner._look

    def watched(self: Captioner, images: Any) -> Any:
        looks.append(len(images))
        texts, _ = look(self, images)
        return texts, [number != 2 for number in range(len(texts))]

    monkeypatch.setattr(Captioner, "_look", watched)
    assert opened(blip, block=8).describe(IMAGES) == expected
    assert looks == [8, 1]


def test_memory_that_ends_halves_the_block(blip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captioner, room = opened(blip, block=8), 3
    expected = captioner.describe(IMAGES)
    generate = captioner.model.generate

    def cramped(**told: Any) -> Any:
        if len(told["pixel_values"]) > room:
            raise torch.OutOfMemoryError("no room")
        return generate(**told)

    monkeypatch.setattr(captioner.model, "generate", cramped)
    assert captioner.describe(IMAGES) == expected
    room = 0
    with pytest.raises(RunError, match="does not fit into memory"):
        captioner.describe(IMAGES)


def test_fewer_tokens_say_less(blip: Path) -> None:
    short = opened(blip, tokens=2).describe(IMAGES)
    long = opened(blip, tokens=30).describe(IMAGES)
    assert sum(map(len, short)) < sum(map(len, long)) / 2


def test_a_name_and_a_digest_are_without_a_place(blip: Path, tmp_path: Path) -> None:
    captioner = opened(blip)
    assert captioner.name == "tiny"
    assert opened(blip, block=2).digest == captioner.digest
    assert opened(blip, tokens=3).digest != captioner.digest
    assert opened(build_tiny_captioner(tmp_path / "tiny", seed=1)).digest != captioner.digest


def test_a_model_that_sees_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot load the model blind"):
        opened(build_tiny_language_model(tmp_path / "blind"))


def test_a_pickle_and_half_a_file_are_refused(tmp_path: Path) -> None:
    folder = build_tiny_captioner(tmp_path / "tiny")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="is not whole"):
        opened(folder)
    weights.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(ModelError, match=r"are a pickle.*convert it once"):
        opened(folder)


def test_a_processor_that_is_missing_is_one_line(tmp_path: Path) -> None:
    folder = build_tiny_captioner(tmp_path / "tiny")
    (folder / "processor_config.json").unlink()
    with pytest.raises(ModelError, match="cannot load the model tiny"):
        opened(folder)


def test_nothing_is_said_beside_the_lines(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    opened(folder).describe(IMAGES[:2])
    said = capfd.readouterr()
    assert said.out + said.err == ""
