"""The commands of a generator, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import yaml
from tests.tiny_pipeline import build_tiny_pipeline, one_thread

from headwater.cli import run
from headwater.pairs import read_pairs
from headwater.task import load_task


@pytest.fixture
def task(tmp_path: Path) -> str:
    told = {"format": 1, "name": "garden", "classes": ["rose", "tree fern"]}
    (tmp_path / "garden.yaml").write_text(yaml.safe_dump(told))
    return str(tmp_path / "garden.yaml")


def test_captions_are_written_looked_at_and_painted(
    tmp_path: Path, task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    written, out = tmp_path / "captions", tmp_path / "painted"
    ask = ["synthesize", "--task", task]
    kinds = ["--kind", "texture=1", "--kind", "attribute=1", "--attribute", "in snow"]
    only = [*ask, "--captions-only", "--per-class", "3", *kinds, "--out", str(written), "--json"]
    assert run(only) == 0
    assert json.loads(capsys.readouterr().out) == {"captions": 6, "repeated": 0}
    captions = pl.read_parquet(written / "captions.parquet")
    assert set(captions["kind"]) <= {"texture", "attribute"}
    painting = ["--generator", str(build_tiny_pipeline(tmp_path / "generator")), "--steps", "1"]
    sides = ["--size", "32", "--save-size", "32", "--captions", str(written)]
    with one_thread():
        code = run([*ask, *painting, *sides, "-n", "6", "--out", str(out)])
    assert code == 0, capsys.readouterr().err
    assert set(read_pairs(out)["caption"]) <= set(captions["caption"])


def test_backgrounds_are_kept_in_the_task(tmp_path: Path, task: str) -> None:
    out = tmp_path / "outside.yaml"
    ask = ["task", "backgrounds", task, "--domain", "flowers", "--count", "4", "--out", str(out)]
    assert run(ask) == 0
    classes = load_task(out).classes
    assert [len(c.backgrounds) for c in classes] == [4, 4]
    assert load_task(out).digest == load_task(task).digest


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-n", "4"], "nothing to paint with: expected --generator, or --captions-only"),
        (["--captions-only"], "say one of n and per_class"),
        (["-n", "4", "--captions-only", "--kind", "x"], "--kind: expected KIND=SHARE, saw x"),
        (["-n", "4", "--captions-only", "--captions", "poet"], "no such captions: expected gram"),
        (["-n", "4", "--captions-only", "--captions", "model"], "captions by model need model"),
        (["-n", "4", "--captions-only", "--url", "x"], "url says nothing to captions by grammar"),
        (["-n", "4", "--captions-only", "--domain", "flowres"], "flowers"),
        (["-n", "4", "--generator", "gone", "--precision", "int8"], "--precision"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    tmp_path: Path, task: str, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["synthesize", "--task", task, "--out", str(tmp_path / "out"), *flags]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert len(told.splitlines()) == 1


def test_what_is_no_task_is_not_replaced(tmp_path: Path, task: str) -> None:
    out = tmp_path / "letter.txt"
    out.write_text("dear reader")
    assert run(["task", "backgrounds", task, "--out", str(out)]) == 2
    assert out.read_text() == "dear reader"
