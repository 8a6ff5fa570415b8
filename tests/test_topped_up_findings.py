"""Topped-up classes apart from the others: counted from predictions, told on the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.tiny_study import tiny_study

from headwater.evaluate import SCHEMA
from headwater.gate import Gate
from headwater.recipe import OFF_THE_SHELF, ModelPlace, Recipe
from headwater.report import render_report
from headwater.report.views import topped_up
from headwater.steps.hybrid.top_up import HOLES
from headwater.steps.settings import Adaptation
from headwater.store import step, write_json, write_table
from headwater.task import Task
from headwater.topped_up import (
    OTHERS,
    TOPPED,
    TOPPED_UP_SCHEMA,
    arms_beside,
    count_group,
    hybrids,
    tell_topped_up,
    topped_up_notes,
)
from headwater.trials import Heat, reference_folder
from headwater.trials import test_folder as folder_of_test

LABELS = ["rose", "fern", "moss"]
TASK = Task.model_validate(
    {"format": 1, "name": "garden", "classes": LABELS, "images": {"val": "val", "test": "test"}}
)
TOP_UP = {"source": "web", "fill": "made", "target": 9}
TRUTH = ["rose"] * 4 + ["fern"] * 2


def recipe(**more: Any) -> Recipe:
    told = {
        "format": 1, "name": "hybrid", "task": "garden.yaml", "learner": {"model": "m"},
        "pool": {"path": "pool"}, "generator": "sd", "scales": [10],
        "sources": {"web": {"retrieve": {"by": "captions"}}, "made": {"synthesize": {"n": 9}}},
        "arms": {
            "web": {"source": "web"}, "hybrid": {"top_up": TOP_UP}, "made": {"source": "made"},
        },
        "primary": {"arm": "hybrid", "against": "web"},
    }  # fmt: skip
    return Recipe.model_validate({**told, **more})


def predictions(folder: Path, predicted: list[str], metric: str = "zero_shot") -> None:
    rows = {
        "id": [f"{number}.png" for number in range(len(predicted))],
        "label": TRUTH,
        "predicted": predicted,
        "metric": metric,
        "split": "test",
    }
    table = pl.DataFrame(rows)
    blank = [pl.lit(None, kind).alias(c) for c, kind in SCHEMA.items() if c not in table.columns]
    write_table(folder / "predictions.parquet", table.with_columns(blank))
    write_json(folder / "metrics.json", {metric: {"test": {"top1": 0.5}}})


def a_heat(root: Path, arm: str, seed: int, predicted: list[str]) -> Heat:
    heat = Heat(
        root, arm, 10, seed, (1e-3,), (), "cross_entropy", TASK, ModelPlace(model="m"),
        Adaptation(), ("zero_shot",), "none",
    )  # fmt: skip
    write_json(heat.folder(1e-3) / "metrics.json", {"zero_shot": {"val": 0.5}})
    predictions(folder_of_test(heat, "zero_shot"), predicted)
    return heat


def a_set(folder: Path, added: dict[str, int]) -> Path:
    holes = [(label, "", None, 0, n, n) for label, n in added.items()]
    names = ["label", "attribute", "upstream", "had", "wanted", "added"]
    kinds = [pl.String, pl.String, pl.Int64, pl.Int64, pl.Int64, pl.Int64]
    schema = dict(zip(names, kinds, strict=True))
    with step(folder, "top-up", arguments={}) as this:
        write_table(folder / HOLES, pl.DataFrame(holes, schema=schema, orient="row"))
        this.counts = {"added": sum(added.values()), "lacking": 2}
    return folder


@pytest.fixture
def sets(tmp_path: Path) -> dict[str, Path]:
    names = ("hybrid", "hybrid-spread", "hybrid-repeat")
    made = {name: a_set(tmp_path / "sets" / name, {"fern": 3, "moss": 0}) for name in names}
    return {**made, "web": tmp_path / "web", "made": tmp_path / "made"}


R, F, M = LABELS
WEB = [R, R, R, R, R, R]
ALL_FERN = [F, F, R, M, F, F]  # two roses taken for the fern, one for moss


@pytest.fixture
def heats(tmp_path: Path) -> list[Heat]:
    predictions(reference_folder(tmp_path), [R, R, F, F, F, R])
    return [
        a_heat(tmp_path, "hybrid", 0, ALL_FERN),
        a_heat(tmp_path, "hybrid", 1, [R, R, R, F, F, R]),
        a_heat(tmp_path, "web", 0, WEB),
        a_heat(tmp_path, "hybrid-repeat", 0, [R, R, R, R, F, R]),
        a_heat(tmp_path, "hybrid-spread", 0, [R, R, R, R, F, F]),
        a_heat(tmp_path, "made", 0, WEB),
    ]


def test_false_positives_are_counted_into_the_topped_up_classes(
    tmp_path: Path, heats: list[Heat], sets: dict[str, Path]
) -> None:
    table = tell_topped_up(tmp_path, recipe(), TASK, heats, sets)
    told = table.filter(classes=TOPPED).select(
        "arm", "scale", "images", "accuracy", "false_positives", "share", "seeds"
    )
    assert told.rows() == [
        ("web", 10, 2, 0.0, 0.0, 0.0, 1),
        ("hybrid", 10, 2, 0.75, 1.5, 0.375, 2),
        ("hybrid-spread", 10, 2, 1.0, 0.0, 0.0, 1),
        ("hybrid-repeat", 10, 2, 0.5, 0.0, 0.0, 1),
        (OFF_THE_SHELF, 0, 2, 0.5, 2.0, 0.5, 1),
    ]
    others = table.filter(classes=OTHERS, arm="hybrid").row(0, named=True)
    assert (others["labels"], others["images"], others["accuracy"]) == (2, 4, 0.5)
    assert (others["false_positives"], others["share"]) == (0.5, 0.25)
    assert set(table["hybrid"]) == {"hybrid"}


def test_groups_are_counted_like_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    names = list("abcde")
    truth, predicted = (rng.choice(names, 200).tolist() for _ in range(2))
    table = pl.DataFrame({"label": truth, "predicted": predicted})
    for labels in ({"a"}, {"b", "e"}, set(), set(names)):
        both = list(zip(truth, predicted, strict=True))
        assert count_group(table, labels) == (
            sum(t in labels for t, _ in both),
            sum(t in labels and t == p for t, p in both),
            sum(t not in labels and p in labels for t, p in both),
            sum(t not in labels for t, _ in both),
        )


def test_classes_without_test_images_have_no_accuracy(
    tmp_path: Path, heats: list[Heat], sets: dict[str, Path]
) -> None:
    sets["hybrid"] = a_set(tmp_path / "other", {"moss": 4})
    row = tell_topped_up(tmp_path, recipe(), TASK, heats, sets).filter(classes=TOPPED, arm="hybrid")
    assert row.select("images", "accuracy", "false_positives").row(0) == (0, None, 0.5)


def test_only_arms_of_the_set_of_the_top_up_and_of_its_controls_are_compared() -> None:
    other = {"top_up": {**TOP_UP, "target": 99}}
    arms = {"web": {"source": "web"}, "hybrid": {"top_up": TOP_UP}, "more": other}
    told = recipe(arms=arms)
    assert arms_beside(told, "hybrid") == {
        "web": "began", "hybrid": "top_up", "hybrid-spread": "spread", "hybrid-repeat": "repeat",
    }  # fmt: skip
    assert list(arms_beside(told, "more")) == ["web", "more", "more-spread", "more-repeat"]


def test_a_study_without_a_top_up_has_nothing_to_tell(tmp_path: Path, heats: list[Heat]) -> None:
    arms = {"web": {"source": "web"}, "made": {"source": "made"}}
    plain = recipe(arms=arms, primary={"arm": "made", "against": "web"})
    table = tell_topped_up(tmp_path, plain, TASK, heats, {})
    assert (table.height, table.schema) == (0, pl.Schema(TOPPED_UP_SCHEMA))
    assert topped_up_notes(plain, TASK, {}) == []


def test_a_set_that_is_not_made_yet_and_a_task_without_test_images_tell_nothing(
    tmp_path: Path, heats: list[Heat], sets: dict[str, Path]
) -> None:
    assert hybrids(recipe(), {**sets, "hybrid": tmp_path / "nowhere"}) == []
    blind = TASK.model_copy(update={"images": {}})
    assert tell_topped_up(tmp_path, recipe(), blind, heats, sets).is_empty()


def test_a_note_names_what_was_topped_up(tmp_path: Path, sets: dict[str, Path]) -> None:
    told = topped_up_notes(recipe(), TASK, sets)
    assert told == ["hybrid: 3 images top up 1 of 3 classes (fern); 2 more are lacking."]
    sets["hybrid"] = a_set(tmp_path / "full", {})
    assert topped_up_notes(recipe(), TASK, sets) == ["hybrid is the same set: no hole was filled."]


def test_a_note_names_a_control_that_could_not_add_as_many(
    tmp_path: Path, sets: dict[str, Path]
) -> None:
    sets["hybrid-repeat"] = a_set(tmp_path / "short", {"fern": 1})
    arms = {"hybrid": {"top_up": TOP_UP}}
    told = recipe(arms=arms, primary={"arm": "hybrid", "against": "off-the-shelf"})
    assert topped_up_notes(told, TASK, sets)[1:] == [
        "hybrid-repeat adds only 1 image, where hybrid adds 3."
    ]


def test_a_leak_stops_the_run_where_it_came_in_not_in_what_was_made_of_it(
    tmp_path: Path, sets: dict[str, Path]
) -> None:
    arms = {"hybrid": {"top_up": TOP_UP}}
    told = recipe(arms=arms, primary={"arm": "hybrid", "against": "off-the-shelf"})
    gate = Gate(tmp_path, told, TASK, sets)
    controls = ["hybrid", "hybrid-spread", "hybrid-repeat"]
    assert gate.sources == [*controls, "web", "made"]
    assert [name for name in gate.sources if gate.stops(name)] == ["web", "made"]


# the report


def role(arm: str) -> str:
    """As the arms of a recipe are called."""
    known = {
        "hybrid": "top_up",
        "hybrid-spread": "spread",
        "hybrid-repeat": "repeat",
        "web": "began",
    }
    return known.get(arm, "as it comes")


def frame(scales: dict[str, list[int]]) -> pl.DataFrame:
    rows = [
        ("hybrid", role(arm), arm, n, "zero_shot", group, 1 + (group == OTHERS), 50, at / 100,
         2.5, 0.05, 3)
        for arm, own in scales.items()
        for at, n in enumerate(own, start=50)
        for group in (TOPPED, OTHERS)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=TOPPED_UP_SCHEMA, orient="row")


ARMS = {"web": [100, 300], "hybrid": [100, 300, 900], "hybrid-spread": [100, 300, 900]}


def test_the_report_shows_the_largest_scale_of_the_top_up_and_its_controls() -> None:
    (part,) = topped_up(frame({**ARMS, "hybrid-repeat": [100, 300], OFF_THE_SHELF: [0]}))
    assert part["classes"] == "1 of 3 classes"
    assert part["images"] == "50 of 100 test images"
    assert part["tables"]["Zero-shot accuracy"].rows == [
        ["web", "300", "51.0", "51.0", "2.5", "5.0"],
        ["hybrid", "300", "51.0", "51.0", "2.5", "5.0"],
        ["hybrid-spread", "300", "51.0", "51.0", "2.5", "5.0"],
        ["hybrid-repeat", "300", "51.0", "51.0", "2.5", "5.0"],
        [OFF_THE_SHELF, "\u2013", "50.0", "50.0", "2.5", "5.0"],
    ]


def test_the_set_that_was_topped_up_may_be_smaller() -> None:
    (part,) = topped_up(frame(ARMS))
    scales = [row[:2] for row in part["tables"]["Zero-shot accuracy"].rows]
    assert scales == [["web", "300"], ["hybrid", "900"], ["hybrid-spread", "900"]]


def test_the_page_has_a_section_only_where_something_was_topped_up() -> None:
    page = render_report(tiny_study(topped_up=frame(ARMS)))
    assert 'href="#topped-up"' in page
    assert "1 of 3 classes are topped up: 50 of 100 test images." in page
    for empty in (None, frame(ARMS).clear()):
        assert (
            "topped-up" not in render_report(tiny_study(topped_up=empty)).partition("</style>")[2]
        )
