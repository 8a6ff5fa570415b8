"""The command line, as a user meets it: help, one clean line for every mistake, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headwater.cli import run
from headwater.terminal import story

TASK = "format: 1\nname: garden\nclasses: [rose, fern]\n"


@pytest.fixture
def garden(tmp_path: Path) -> Path:
    (tmp_path / "garden.yaml").write_text(TASK)
    return tmp_path


def test_the_command_is_installed() -> None:
    command = [sys.executable, "-m", "headwater", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "retrieve" in done.stdout


def test_help_needs_no_heavy_library() -> None:
    code = "import sys; from headwater.cli import run; run(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"torch", "open_clip", "diffusers", "transformers", "matplotlib"}


def test_tasks_are_listed_and_shown(capsys: pytest.CaptureFixture[str], garden: Path) -> None:
    assert run(["task", "list"]) == 0
    assert "miniature" in capsys.readouterr().out
    assert run(["task", "show", str(garden / "garden.yaml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "garden"


def test_terminal_tricks_in_names_are_disarmed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "t.yaml"
    path.write_text('format: 1\nname: x\nclasses: ["\\e[31mred[/]\\u202e [bold]x[/bold]"]\n')
    assert run(["task", "show", str(path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "[bold]x[/bold]" in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["retreive"], 2, "No such command 'retreive'"),
        (["task", "show", "gardn"], 2, "unknown task gardn: expected a task file"),
        (["pool", "describe", "nowhere"], 2, "no such pool"),
        (["retrieve", "nowhere", "--task", "miniature", "--out", "o"], 2, "no such pool"),
        (["retrieve", "nowhere", "--out", "o"], 2, "Missing option '--task'"),
        (["run", "nothing.yaml", "--out", "o"], 2, "no such file nothing.yaml"),
        (["run", "nothing", "--out", "o"], 2, "unknown recipe nothing"),
        (["status", "nowhere"], 2, "nowhere is not a study: expected recipe.yaml"),
        (["why", "nowhere", "x:1"], 2, "no such set"),
        (["import", "nowhere", "--task", "miniature", "--out", "o"], 2, "nothing to import"),
        (["predict", "nowhere", "."], 2, "no images"),
        (
            ["retrieve", "p", "--task", "miniature", "--seed", "-1", "--out", "o"],
            2,
            "Invalid value for '--seed'",
        ),
        (
            ["synthesize", "--task", "miniature", "--generator", "g", "-n", "0", "--out", "o"],
            2,
            "headwater: -n: Input should be greater than or equal to 1: saw 0",
        ),
        (
            ["retrieve", "p", "--task", "miniature", "--pool-name", "a:b", "--out", "o"],
            2,
            "a name that ids cannot begin with: expected letters, digits, '-', '_' and '.', saw",
        ),
        (
            ["doctor", "--task", "miniature", "--pool", "p", "--html", "."],
            2,
            "cannot write a page to .: expected a file such as page.html, saw a folder",
        ),
    ],
)
def test_a_mistake_is_one_clean_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == code
    error = capsys.readouterr().err
    assert words in error.replace("  ", " ")
    assert error.startswith("headwater: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error


def test_ctrl_c_is_answered_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("headwater.task.load_task", stopped)
    assert run(["task", "show", "miniature"]) == 130
    told = capsys.readouterr().err.strip()
    assert told == "headwater: stopped; the same command goes on where it was."


def test_a_caption_of_any_length_is_shown_in_a_few_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = {"id": "w:1", "label": "rose", "kept": True, "step": "decodes", "reason": "kept"}
    pair = {"caption": "rose " * 10_000}
    known: dict[str, Any] = {
        "score": None,
        "scores": [],
        "pool": "w",
        "key": "1",
        "image": None,
        "copy": None,
        "match": None,
    }
    story([{**row, **known, "passed": ["decodes"], "pair": pair}])
    told = capsys.readouterr().out
    assert len(told) < 1_000
    assert "(50,000 letters)" in told
