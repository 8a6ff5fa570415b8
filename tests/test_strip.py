"""The strip page: the same images at every gamma, in order, with numbers of pixels alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.tiny_garden import import_set, make_task, numbered
from tests.tiny_pipeline import SIDE, build_tiny_pipeline, one_thread

from headwater.cli import run
from headwater.errors import SetError
from headwater.report.strip import Column, Strip, StripData, render_strip
from headwater.report.views import NONE
from headwater.steps.synthesis.painter import close_painter
from headwater.steps.synthesis.perturb import perturb_curve
from headwater.steps.synthesis.settings import Perturbation
from headwater.steps.synthesis.strip import measure, strip_data, write_strip
from headwater.task import Task, load_task

GAMMAS = ["1", "autoencoder", "0.5", "0"]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield
    close_painter()


@pytest.fixture(scope="module")
def garden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a task, the set `found`, and its `curve`."""
    folder = tmp_path_factory.mktemp("garden")
    task = make_task(folder)
    import_set(folder / "found", task, numbered(400, 4))
    how = Perturbation(source="found", gamma=0, size=SIDE, save_size=None, steps=4)
    perturb_curve(
        folder / "found", task, folder / "curve", gammas=GAMMAS, how=how, workers=1,
        generator=build_tiny_pipeline(folder / "generator"),
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def task(garden: Path) -> Task:
    return load_task(garden / "garden.yaml")


def folders(garden: Path, *gammas: str) -> list[Path]:
    return [garden / "curve" / f"gamma={gamma}" for gamma in gammas]


def data(**changes: Any) -> StripData:
    column = Column("0.4", valid=9, broken=0, away=12.34, detail=0.5, alike=0.25)
    usual = {"title": "t", "sentence": "s", "columns": [column], "strips": {}, "measured": 9,
             "paired": 9}  # fmt: skip
    return StripData(**usual | changes)


def test_columns_are_ordered_by_gamma(garden: Path, task: Task) -> None:
    told = strip_data(garden / "found", folders(garden, *GAMMAS), task)
    assert [column.name for column in told.columns] == ["0", "autoencoder", "0.5", "1"]
    assert {name: len(rows) for name, rows in told.strips.items()} == {"rose": 3, "fern": 3}
    assert {len(row.images) for rows in told.strips.values() for row in rows} == {4}
    assert (told.measured, told.paired) == (8, 8)


def test_codec_and_resizing_cost_less_than_a_random_generator(garden: Path, task: Task) -> None:
    told = strip_data(garden / "found", folders(garden, *GAMMAS), task)
    away = [column.away for column in told.columns]
    alike = [column.alike for column in told.columns]
    assert away[0] < 3 < min(away[1:])
    assert alike[0] == 1 and max(alike[1:]) < 0.5
    first, codec, last = (f"{away[at]:.1f}" for at in (0, 1, 3))
    assert told.sentence == (
        f"Pixels move by {first} at gamma 0, {codec} by the autoencoder and {last} at gamma 1,"
        " in gray levels of 255."
    )


def test_the_same_sets_make_the_same_page(garden: Path, task: Task, tmp_path: Path) -> None:
    for name, some in (("a", GAMMAS), ("b", GAMMAS[::-1])):
        write_strip(garden / "found", folders(garden, *some), task, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_measures_against_plain_loops() -> None:
    before, after = np.random.default_rng(0).integers(0, 256, (2, 6, 5, 3)).astype(np.uint8)

    def detail(image: np.ndarray) -> float:
        light = [[0.299 * r + 0.587 * g + 0.114 * b for r, g, b in row] for row in image.tolist()]
        told = [
            abs(4 * light[y][x] - light[y - 1][x] - light[y + 1][x] - light[y][x - 1]
                - light[y][x + 1])
            for y in range(1, 5) for x in range(1, 4)
        ]  # fmt: skip
        return sum(told) / len(told)

    told = measure(before, after)
    apart = [
        abs(a - b) for a, b in zip(before.ravel().tolist(), after.ravel().tolist(), strict=True)
    ]
    assert told.away == pytest.approx(sum(apart) / len(apart))
    assert told.detail == pytest.approx(detail(after) / detail(before), rel=1e-4)
    flat = np.full((4, 4, 3), 9, np.uint8)
    assert measure(flat, flat) == (0, None)


def test_a_set_of_another_parent_is_refused(garden: Path, task: Task, tmp_path: Path) -> None:
    other = import_set(tmp_path / "other", task, numbered(500, 1))
    with pytest.raises(SetError, match="no perturbed set of"):
        strip_data(other, folders(garden, "0"), task)
    with pytest.raises(SetError, match="saw a set of `import`"):
        strip_data(garden / "found", [other], task)


def test_the_page_shows_every_image_with_its_distance() -> None:
    png = bytes.fromhex("89504e470d0a1a0a")
    row = Strip("w:1", png, [(png, 41.6)])
    page = render_strip(data(strips={"rose": [row, row]}))
    assert page.count("<img") == 4
    assert page.count('<span class="away">42</span>') == 2
    cells = re.findall(r"<td>([^<]+)<svg", page)
    assert cells == ["12.3", "50 %", "25 %"]
    assert "broken" not in page


def test_broken_images_have_a_row_of_their_own() -> None:
    column = Column("1", valid=8, broken=2, away=None, detail=None, alike=None)
    page = render_strip(data(columns=[column], measured=0))
    assert re.findall(r"<td>([^<]+)<svg", page) == [NONE, NONE, NONE, "2"]
    assert "No image is valid at every gamma." in page


def test_nothing_of_a_set_is_markup() -> None:
    evil = "<script>alert(1)</script>\x1b"
    row = Strip(f'"{evil}', None, [(None, 0.0)])
    page = render_strip(data(title=evil, strips={evil: [row], "": [row]}, notes=[evil]))
    assert "<script" not in page and "\x1b" not in page
    assert "style=" not in page
    assert "(no label)" in page


def test_the_command_makes_one_set_or_several(
    garden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ["perturb", str(garden / "found"), "--task", str(garden / "garden.yaml"),
            "--generator", str(garden / "generator"), "--size", str(SIDE), "--steps", "2",
            "--workers", "1"]  # fmt: skip
    one = [*told, "--gamma", "0", "--out", str(tmp_path / "one")]
    assert run([*one, "--html", str(tmp_path / "one.html")]) == 0
    assert capsys.readouterr().out == "8 inherited -> 8 valid\n"
    several = [*told, "--gamma", "0", "--gamma", "autoencoder", "--gamma", "1.0"]
    several += ["--out", str(tmp_path / "some"), "--html", str(tmp_path / "some.html")]
    assert run(several) == 0
    assert capsys.readouterr().out.splitlines() == [
        "gamma=0: 8 inherited -> 8 valid",
        "gamma=autoencoder: 8 inherited -> 8 valid",
        "gamma=1: 8 inherited -> 8 valid",
    ]
    assert run([*several, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gamma=1"] == {"inherited": 8, "valid": 8}
    assert "\N{GREEK SMALL LETTER GAMMA}&nbsp;1" in (tmp_path / "some.html").read_text(
        encoding="utf-8"
    )
    assert run([*told, "--gamma", "2", "--out", str(tmp_path / "x")]) == 2
    assert "--gamma: expected 0 to 1, or autoencoder" in capsys.readouterr().err
    assert run([*told, "--gamma", "0.1", "--out", str(tmp_path / "x")]) == 2
    assert "gamma 0.1 is less than one of 2 steps" in capsys.readouterr().err
