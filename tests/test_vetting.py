"""Pipeline folders that are refused: half of them there, pickled, with code, or of another kind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, UNet2DModel
from tests.tiny_pipeline import build_tiny_flow_pipeline, build_tiny_pipeline, one_thread

from headwater.errors import ModelError
from headwater.synthesize.generator import generator_digest, load_generator
from headwater.synthesize.opening import POINTER
from headwater.synthesize.vetting import check_kind, vet_pipeline

UNET = "unet/diffusion_pytorch_model.safetensors"


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


def refused(folder: Path, says: str) -> None:
    """By one clear line, and by the digest too: before anything else is done."""
    for look in (vet_pipeline, generator_digest, load_generator):
        with pytest.raises(ModelError, match=says) as caught:
            look(folder)
        assert "\n" not in str(caught.value)


def change_index(folder: Path, **changes: Any) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("build", [build_tiny_pipeline, build_tiny_flow_pipeline])
def test_whole_pipelines_pass(build: Callable[[Path], Path], tmp_path: Path) -> None:
    vet_pipeline(build(tmp_path))


@pytest.mark.parametrize("part", ["unet", "tokenizer", "scheduler"])
def test_a_part_that_is_missing(copy: Path, part: str) -> None:
    shutil.rmtree(copy / part)
    refused(copy, f"not whole: expected a folder {part} .*Fetch the whole pipeline again")


def test_a_part_the_index_alone_knows_of(copy: Path) -> None:
    change_index(copy, image_encoder=["transformers", "CLIPVisionModelWithProjection"])
    refused(copy, "expected a folder image_encoder")


def test_weights_that_are_missing(copy: Path) -> None:
    (copy / UNET).unlink()
    refused(copy, "not whole: expected diffusion_pytorch_model .* in unet, saw none")


def test_weights_of_one_variant_only(copy: Path) -> None:
    (copy / UNET).rename(copy / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    refused(copy, "in unet, saw diffusion_pytorch_model.fp16.safetensors")


@pytest.mark.parametrize("kept", [0, 5, 200, -100])
def test_weights_that_are_half_written(copy: Path, kept: int) -> None:
    (copy / UNET).write_bytes((copy / UNET).read_bytes()[:kept])
    refused(copy, "not whole: saw unet/diffusion_pytorch_model.safetensors")


def test_weights_that_were_not_fetched_by_git(copy: Path) -> None:
    (copy / UNET).write_bytes(POINTER + b".github.com/spec/v1\noid sha256:00\nsize 3438167540\n")
    refused(copy, "a pointer of Git LFS. Run `git lfs pull`")


def test_weights_that_are_not_loaded_may_be_anything(copy: Path) -> None:
    (copy / "unet" / "diffusion_pytorch_model.non_ema.safetensors").write_bytes(POINTER)
    (copy / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"never read")
    vet_pipeline(copy)


def test_weights_in_shards(copy: Path) -> None:
    whole = load_generator(copy, device="cpu")
    (copy / UNET).unlink()
    whole.unet.save_pretrained(copy / "unet", max_shard_size="20KB")
    shards = sorted((copy / "unet").glob("*-of-*.safetensors"))
    assert len(shards) > 1
    assert load_generator(copy, device="cpu").unet.num_parameters() == whole.unet.num_parameters()
    shards[1].unlink()
    refused(copy, f"expected the file {shards[1].name} in unet, saw none")


def test_shards_outside_of_the_folder(copy: Path, folder: Path) -> None:
    (copy / UNET).unlink()
    index = copy / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": f"../../../{folder.name}/{UNET}"}}))
    refused(copy, "expected the file ../../../")


@pytest.mark.parametrize(
    ("part", "name"),
    [("unet", "diffusion_pytorch_model.bin"), ("text_encoder", "pytorch_model.bin")],
)
def test_pickled_weights_are_refused_and_can_be_converted(
    copy: Path, part: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load_generator(copy, device="cpu")
    next((copy / part).glob("*.safetensors")).unlink()
    torch.save(getattr(whole, part).state_dict(), copy / part / name)
    refused(copy, f"in {part}, saw {name}. If you trust them, convert them: python -c ")
    monkeypatch.chdir(copy.parent)
    with pytest.raises(ModelError) as caught:
        vet_pipeline(copy)
    exec(str(caught.value).partition('-c "')[2].removesuffix('"'), {})
    assert load_generator("copy-safetensors").unet.num_parameters() == whole.unet.num_parameters()


@pytest.mark.parametrize("text", ['{"_class_name": "Stable', "[]", "[" * 100_000])
def test_an_index_that_is_not_json(copy: Path, text: str) -> None:
    (copy / "model_index.json").write_text(text)
    refused(copy, "the model_index.json of copy is not JSON")


@pytest.mark.parametrize("script", ["None.py", "pipeline.py", "unet/model.py"])
def test_a_generator_that_brings_code_is_refused_and_not_run(copy: Path, script: str) -> None:
    (copy / script).write_text(f"open({str(copy / 'ran')!r}, 'w')")
    refused(copy, script.rpartition("/")[2])
    assert not (copy / "ran").exists()


def test_code_that_lies_elsewhere(copy: Path) -> None:
    config = json.loads((copy / "text_encoder" / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "someone/elsewhere--model.Model"}
    (copy / "text_encoder" / "config.json").write_text(json.dumps(config))
    refused(copy, "brings code of its own: .* saw an auto_map in text_encoder/config.json")


def test_a_foreign_library(copy: Path) -> None:
    change_index(copy, unet=["antigravity", "Unet"])
    refused(copy, "saw antigravity")


@pytest.mark.parametrize("name", ["NoSuchPipeline", "UNet2DModel", "utils"])
def test_a_class_that_is_no_pipeline(copy: Path, name: str) -> None:
    change_index(copy, _class_name=name)
    refused(copy, f"of an unknown kind: .* saw {name}")


def test_a_class_of_a_part_that_is_not_there(copy: Path) -> None:
    change_index(copy, unet=["diffusers", "NoSuchModel"])
    refused(copy, "expected a class of the diffusers installed, saw NoSuchModel")


def test_a_pipeline_without_text_is_refused(tmp_path: Path) -> None:
    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(8,),
        norm_num_groups=4,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
    )
    DDPMPipeline(unet=unet, scheduler=DDIMScheduler()).save_pretrained(tmp_path / "blind")
    refused(tmp_path / "blind", "draws no images from text")


@pytest.mark.parametrize(
    ("name", "draws"),
    [
        ("StableDiffusionXLPipeline", True),
        ("StableDiffusion3Pipeline", True),
        ("FluxPipeline", True),
        ("QwenImagePipeline", True),
        ("PixArtSigmaPipeline", True),
        ("StableDiffusionImg2ImgPipeline", False),
        ("StableDiffusionInpaintPipeline", False),
        ("StableDiffusionUpscalePipeline", False),
        ("CogVideoXPipeline", False),
        ("AudioLDM2Pipeline", False),
    ],
)
def test_which_kinds_draw_images_from_text(name: str, draws: bool) -> None:
    kind = getattr(diffusers, name)
    if draws:
        check_kind(kind)
    else:
        with pytest.raises(ModelError, match=f"expected a text-to-image pipeline, saw {name}"):
            check_kind(kind)
