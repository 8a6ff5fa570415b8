from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from headwater import progress
from headwater.progress import track

NESTED = """
import time
from headwater.progress import track
for outer in track([1, 2], label="outer [bold]work"):
    for inner in track(range(3), label="inner"):
        time.sleep(0.01)
print("through")
"""


def test_items_come_through_unchanged() -> None:
    assert list(track(iter("abc"), label="letters", total=3)) == ["a", "b", "c"]


def test_plain_lines_tell_rate_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 15))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    list(track([1, 2], label="work"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "work: 1 of 2 (0.1/s, 15 s left)"
    assert lines[-1].startswith("work: 2 done in")


def test_an_item_may_stand_for_many(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 15))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    list(track([[], [1, 2, 3]], label="work", total=6, unit="images", size=len))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "work: 0 of 6"
    assert lines[1] == "work: 3 of 6 (0.1 images/s, 30 s left)"
    assert lines[2].startswith("work: 3 done in 45.0 s (0.1 images/s)")


def test_work_inside_an_item_moves_the_bar_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 15))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    for part in track([[1, 2], [3]], label="painting", total=3, unit="images", size=len):
        list(track(part, label="inner", unit="images"))
        list(track(range(9), label="inner", unit="shards"))  # of another kind
    done = [line.split(" of ")[0] for line in capsys.readouterr().err.splitlines()]
    assert done[:5] == [f"painting: {n}" for n in (1, 2, 2, 3, 3)]
    assert done[5].startswith("painting: 3 done in ")


def test_what_is_told_twice_does_not_go_beyond_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0)
    for _ in track([2], label="painting", total=2, unit="images", size=abs):
        progress.count(5, "images")
    assert capsys.readouterr().err.startswith("painting: 2 of 2 ")


def test_a_line_holds_nothing_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    progress.say("5-\udcff.features\x1b[31m is not used")
    assert capsys.readouterr().err == "5-.features[31m is not used\n"


def test_work_inside_work_is_silent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 15))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    for _ in track([1, 2], label="outer"):
        list(track([1, 2], label="inner"))
    told = capsys.readouterr().err
    assert "outer" in told
    assert "inner" not in told


def test_bars_on_a_terminal_may_be_nested() -> None:
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", NESTED], stdout=subprocess.PIPE, stderr=theirs, text=True, check=True
    )
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    assert done.stdout == "through\n"
    assert "outer [bold]work" in shown
    assert "/s" in shown
