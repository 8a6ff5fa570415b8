"""Synthesis as a set: who paints, what a set holds, and what a kill or more workers change."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.shard_work import ROOT
from tests.tiny_pipeline import build_tiny_flow_pipeline, build_tiny_pipeline

from headwater.cost import SCHEMA as COST_SCHEMA
from headwater.cost import read_costs
from headwater.decode import decode_rgb
from headwater.pairs import read_decisions, read_pairs
from headwater.steps.synthesis import easel, painter
from headwater.steps.synthesis import synthesize as module
from headwater.steps.synthesis.ledger import BLOCKS, join_blocks
from headwater.steps.synthesis.painter import close_painter, open_painter
from headwater.steps.synthesis.settings import Synthesis
from headwater.steps.synthesis.synthesize import synthesize
from headwater.store import digest_file, read_json, read_step
from headwater.synthesize import images
from headwater.synthesize.calling import BLANK, UNSAFE, Generated, OutOfMemoryError, run_pipeline
from headwater.synthesize.captions import SCHEMA, repeated_captions
from headwater.synthesize.captions.given import CAPTIONS
from headwater.synthesize.images import generate_images
from headwater.task import Task, load_task

SETTINGS: dict[str, Any] = {"scheduler": "auto", "precision": "float32"}
HOW: dict[str, Any] = {"steps": 1, "size": 32, "save_size": 24, "block": 4}

TASK = """
format: 1
name: shore
classes: [gull, crab]
prompts: {synthesis: ["a {}", "one {}", "the {}"]}
"""

RUN = """
import os, signal
from pathlib import Path
from headwater.steps.synthesis import easel
from headwater.steps.synthesis.settings import Synthesis
from headwater.steps.synthesis.synthesize import synthesize
from headwater.task import load_task

paint, painted = easel.generate_images, []

def painted_until_killed(*args, **how):
    for image in paint(*args, **how):
        painted.append(image)
        if len(painted) > 40:
            os.kill(os.getpid(), signal.SIGKILL)
        yield image

easel.generate_images = painted_until_killed
synthesize(load_task(Path({task!r})), Path({out!r}), generator={generator!r},
           how=Synthesis(**{how}), seed=3)
"""


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_pipeline(tmp_path_factory.mktemp("generator"))


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    path = tmp_path_factory.mktemp("task") / "shore.yaml"
    path.write_text(TASK)
    return load_task(path)


@pytest.fixture(scope="module")
def whole(generator: Path, task: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of three parts."""
    out = tmp_path_factory.mktemp("sets") / "whole"
    synthesize(task, out, generator=generator, how=Synthesis(n=70, **HOW), seed=3)
    return out


def test_a_pipeline_is_opened_once(generator: Path) -> None:
    first = open_painter(generator, **SETTINGS)
    assert open_painter(generator, **SETTINGS) is first
    assert open_painter(generator, **SETTINGS | {"scheduler": "own"}) is not first
    close_painter()
    assert open_painter(generator, **SETTINGS) is not first


def test_a_folder_that_was_written_to_is_opened_anew(generator: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(generator, tmp_path / "copy"))
    first = open_painter(copy, **SETTINGS)
    os.utime(copy / "unet" / "diffusion_pytorch_model.safetensors", (0, 0))
    assert open_painter(copy, **SETTINGS) is not first


@pytest.mark.parametrize(
    ("gpus", "devices"), [(0, ["cpu"] * 3), (2, ["cuda:0", "cuda:1", "cuda:0"])]
)
def test_gpus_are_shared_out_by_the_places_of_workers(
    gpus: int, devices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(painter, "gpu_count", lambda: gpus)
    for slot, device in enumerate(devices):
        monkeypatch.setattr(painter, "worker_slot", lambda slot=slot: slot)
        assert painter.own_device() == device


@pytest.mark.parametrize(
    ("asked", "gpus", "engine", "workers"),
    [(None, 0, "local", 1), (None, 4, "local", 4), (8, 4, "local", 4), (2, 4, "local", 2),
     (3, 0, "local", 3), (None, 4, "ray", None), (9, 4, "ray", 9)],
)  # fmt: skip
def test_as_many_paint_as_there_are_gpus(
    asked: int | None, gpus: int, engine: str, workers: int | None
) -> None:
    assert painter.painting_workers(asked, gpus=gpus, engine=engine) == workers


def test_a_set_holds_an_image_a_caption(whole: Path, generator: Path) -> None:
    captions = pl.read_parquet(whole / CAPTIONS)
    pairs = read_pairs(whole)
    assert captions.schema == SCHEMA
    assert captions["index"].to_list() == list(range(70))
    assert pairs["id"].to_list() == [f"synthetic-3:{index:07d}" for index in range(70)]
    assert pairs["caption"].to_list() == captions["caption"].to_list()
    assert pairs["query"].to_list() == captions["kind"].to_list()
    bare = generate_images(
        open_painter(generator, **SETTINGS), captions["caption"].to_list(), seed=3, steps=1,
        height=32, width=32, save_size=24, block=4,
    )  # fmt: skip
    for data, made in zip(pairs["image"].struct.field("bytes"), bare, strict=True):
        assert np.array_equal(decode_rgb(data), made.image)


def test_a_flow_matching_transformer_paints_too(task: Task, tmp_path: Path) -> None:
    flow = build_tiny_flow_pipeline(tmp_path / "flow")
    counts = synthesize(task, tmp_path / "set", generator=flow, how=Synthesis(n=5, **HOW))
    assert counts["valid"] == 5
    assert "painted by a StableDiffusion3Pipeline" in (tmp_path / "set" / "README.md").read_text()


def test_counts_say_what_was_left_and_what_was_odd(whole: Path) -> None:
    captions = pl.read_parquet(whole / CAPTIONS)
    repeated = repeated_captions(captions)
    cut = sum(len(caption.replace(" ", "")) > 22 for caption in captions["caption"])
    assert repeated > 0
    assert cut > 0
    counts = read_step(whole)["counts"]
    assert counts == {"written": 70, "fits": 70, "valid": 70, "repeated": repeated, "cut": cut}


def test_costs_are_told_by_part_and_are_no_content(whole: Path) -> None:
    costs = read_costs(whole)
    assert costs.schema == COST_SCHEMA
    assert costs["part"].to_list() == [0, 1, 2]
    assert costs["images"].to_list() == [32, 32, 6]
    assert costs["seconds"].min() > 0
    assert not (whole / "work").exists()
    card = (whole / "README.md").read_text()
    assert "images/s" not in card


def test_more_workers_make_the_same_set(
    whole: Path, generator: Path, task: Task, tmp_path: Path
) -> None:
    how = Synthesis(n=70, **HOW)
    synthesize(task, tmp_path / "two", generator=generator, how=how, seed=3, workers=2)
    assert read_step(tmp_path / "two")["digest"] == read_step(whole)["digest"]
    assert read_costs(tmp_path / "two")["images"].sum() == 70


def test_a_kill_in_the_middle_of_a_part_changes_nothing(
    whole: Path, generator: Path, task: Task, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    how = {"n": 70, **HOW}
    (tmp_path / "shore.yaml").write_text(TASK)
    script = RUN.format(
        task=str(tmp_path / "shore.yaml"), out=str(out), generator=str(generator), how=how
    )
    child = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": ROOT}, text=True,
        stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    assert child.returncode == -signal.SIGKILL, child.stderr
    made = out / "data" / "pairs-00000-of-00003.parquet"
    before, cost = digest_file(made), read_cost_of(out, 0)
    synthesize(task, out, generator=generator, how=Synthesis(**how), seed=3)
    assert digest_file(made) == before
    assert read_step(out)["digest"] == read_step(whole)["digest"]
    assert read_costs(out).row(0) == cost
    assert read_costs(out)["part"].to_list() == [0, 1, 2]


def read_cost_of(out: Path, part: int) -> tuple[Any, ...]:
    return pl.read_parquet(out / "work" / f"cost-{part:05d}.parquet").row(0)


def test_a_finished_set_is_not_painted_again(
    whole: Path, generator: Path, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(easel, "open_painter", None)
    how = Synthesis(n=70, **HOW)
    assert synthesize(task, whole, generator=generator, how=how, seed=3)["written"] == 70


def test_images_that_show_nothing_are_dropped_with_the_reason(
    generator: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons = [None, BLANK, UNSAFE, None, UNSAFE]

    def paint(*_: Any, **__: Any) -> Iterator[Generated]:
        picture = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
        return (Generated(picture, reason) for reason in reasons)

    monkeypatch.setattr(easel, "generate_images", paint)
    counts = synthesize(task, tmp_path / "set", generator=generator, how=Synthesis(n=5, **HOW))
    assert (counts["written"], counts["valid"]) == (5, 2)
    assert "Dropped: 1 (blank image), 2 (flagged by" in (tmp_path / "set" / "README.md").read_text()
    decisions = read_decisions(tmp_path / "set")
    assert decisions["reason"].to_list() == [reason or "kept" for reason in reasons]


FAR = "a very very very long day with a gull"
LONG = "a gull on a very very very long beach"


def test_what_the_generator_does_not_read_is_found(generator: Path) -> None:
    captions = [LONG, FAR, "a gull", "a very very very long day without"]
    rows = pl.DataFrame({"label": "bird", "caption": captions})
    read = easel.read_rows(open_painter(generator, **SETTINGS), rows, {"bird": "Gull"})
    assert read["cut"].to_list() == [True, True, False, True]
    beyond = "class name beyond the 24 tokens that the generator reads"
    assert read["unread"].to_list() == [None, beyond, None, None]


def test_a_caption_without_room_for_its_class_is_not_painted(
    generator: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    rows = [(0, "gull", LONG, "class"), (1, "gull", FAR, "class"), (2, "crab", "a crab", "class")]
    captions = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    monkeypatch.setattr(module, "task_captions", lambda *_, **__: captions)
    out = tmp_path / "set"
    counts = synthesize(task, out, generator=generator, how=Synthesis(n=3, **HOW))
    assert counts == {"written": 3, "fits": 2, "valid": 2, "cut": 1}
    assert read_pairs(out)["id"].to_list() == ["synthetic-0:0000000", "synthetic-0:0000002"]
    (dropped,) = read_decisions(out).filter(~pl.col("kept")).rows(named=True)
    assert (dropped["id"], dropped["step"]) == ("synthetic-0:0000001", "fits")
    assert pl.read_parquet(out / CAPTIONS).equals(captions)
    assert read_costs(out)["images"].sum() == 2
    assert "1 caption cut short: longer than the generator reads" in capsys.readouterr().err


class Memory:
    """A pipeline's calls, where only so many images fit; notes how many were asked for."""

    def __init__(self, room: int, calls: int) -> None:
        self.room, self.calls = room, calls
        self.seen: list[int] = []

    def run(self, pipeline: Any, **settings: Any) -> list[Generated]:
        self.seen.append(len(settings["prompt"]))
        if len(settings["prompt"]) > self.room:
            raise OutOfMemoryError("does not fit")
        if len(self.seen) > self.calls:
            raise KeyboardInterrupt
        return run_pipeline(pipeline, **settings)


def test_smaller_blocks_are_on_record_before_anything_is_painted_in_them(
    generator: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, how = tmp_path / "set", Synthesis(n=36, **HOW)
    full = Memory(room=2, calls=4)
    monkeypatch.setattr(images, "run_pipeline", full.run)
    with pytest.raises(KeyboardInterrupt):
        synthesize(task, out, generator=generator, how=how)
    assert full.seen == [4, 2, 2, 2, 2]
    roomy = Memory(room=8, calls=99)
    monkeypatch.setattr(images, "run_pipeline", roomy.run)
    counts = synthesize(task, out, generator=generator, how=how)
    assert roomy.seen == [2] * 16 + [4]  # what is on record holds, though there is room now
    assert counts["halved"] == 1
    assert read_json(out / BLOCKS)["blocks"] == [[0, 2], [32, 4]]


@given(st.lists(st.lists(st.integers(0, 15), max_size=3), min_size=1, max_size=4))
def test_the_blocks_of_a_set_are_those_of_its_parts(halved: list[list[int]]) -> None:
    starts = [16 * part for part in range(len(halved))]
    layouts = [images.Layout(8) for _ in starts]
    smaller: list[list[tuple[int, int]]] = []
    for start, layout, places in zip(starts, layouts, halved, strict=True):
        told = {}
        for place in sorted(places):
            block = layout.block_of(start + place)
            told.update([layout.shrink(block)] if len(block) > 1 else [])
        smaller.append(sorted(told.items()))
    whole = images.Layout(8, join_blocks(starts, smaller, block=8))
    for index in range(16 * len(starts)):
        assert whole.block_of(index) == layouts[index // 16].block_of(index)


def test_the_card_tells_generator_captions_and_what_went_wrong(whole: Path) -> None:
    card = (whole / "README.md").read_text()
    assert "70 images painted by a StableDiffusionPipeline (sha256 of its files " in card
    assert "Captions by a grammar: " in card
    assert "of their class say" in card
    assert "Dropped" not in card
    assert not (whole / BLOCKS).exists()
