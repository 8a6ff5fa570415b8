"""Opening a generator: what is chosen for it, and what is refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
)
from tests.tiny_pipeline import SIDE, build_tiny_flow_pipeline, build_tiny_pipeline, one_thread

from headwater.errors import InputError, ModelError
from headwater.synthesize.generator import generator_digest, load_generator, native_size


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_pipeline(tmp_path_factory.mktemp("generator"))


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_the_scheduler_is_ddim_where_the_pipeline_can_use_it(copy: Path) -> None:
    own = PNDMScheduler(steps_offset=1, skip_prk_steps=True, beta_schedule="scaled_linear")
    own.save_pretrained(copy / "scheduler")
    set_scheduler(copy, "PNDMScheduler")
    assert type(load_generator(copy, scheduler="own").scheduler) is PNDMScheduler
    ddim = load_generator(copy).scheduler
    assert type(ddim) is DDIMScheduler
    assert ddim.config.beta_schedule == "scaled_linear"
    assert not ddim.config.clip_sample


def test_a_flow_matching_pipeline_is_not_forced_into_ddim(copy: Path) -> None:
    FlowMatchEulerDiscreteScheduler().save_pretrained(copy / "scheduler")
    set_scheduler(copy, "FlowMatchEulerDiscreteScheduler")
    assert type(load_generator(copy).scheduler) is FlowMatchEulerDiscreteScheduler
    with pytest.raises(ModelError, match="Set the scheduler to auto or own"):
        load_generator(copy, scheduler="ddim")


def test_unknown_settings_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="expected auto, ddim, own"):
        load_generator(folder, scheduler="euler")
    with pytest.raises(InputError, match="expected float32, float16, bfloat16"):
        load_generator(folder, precision="int8")


def test_weights_have_the_precision_asked_for(folder: Path) -> None:
    assert load_generator(folder, precision="bfloat16").dtype is torch.bfloat16


def set_scheduler(folder: Path, name: str) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", name]
    (folder / "model_index.json").write_text(json.dumps(index))


def test_a_generator_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for name, says in [
        (tmp_path / "nothing", "no generator there"),
        ("no such name!", "no generator no such name!"),
        (tmp_path, "expected a model_index.json"),
    ]:
        with pytest.raises(ModelError, match=says):
            load_generator(name)


def test_a_name_on_the_hub_without_a_network_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="without a network, give a folder") as caught:
        load_generator("someone/small-diffusion")
    assert "\n" not in str(caught.value)


def test_an_unknown_device_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="on nonsense"):
        load_generator(folder, device="nonsense")


def test_the_digest_is_of_contents_and_not_of_the_place(folder: Path, copy: Path) -> None:
    assert generator_digest(copy) == generator_digest(folder)
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert generator_digest(copy) != generator_digest(folder)


@pytest.mark.parametrize("build", [build_tiny_pipeline, build_tiny_flow_pipeline])
def test_the_tiny_pipelines_are_the_same_every_time(
    build: Callable[[Path], Path], tmp_path: Path
) -> None:
    once, again = build(tmp_path / "once"), build(tmp_path / "again")
    assert generator_digest(once) == generator_digest(again)


def test_the_flow_pipeline_keeps_its_own_scheduler(tmp_path: Path) -> None:
    flow = load_generator(build_tiny_flow_pipeline(tmp_path))
    assert type(flow.scheduler) is FlowMatchEulerDiscreteScheduler
    assert native_size(flow) == (SIDE, SIDE)
