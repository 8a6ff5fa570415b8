"""Captions counted per class and attribute: one pass says what a plain loop would say."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import yaml

from headwater.cli import run
from headwater.errors import InputError, PoolError, QueryError, SetError
from headwater.retrieve.words import match_captions
from headwater.steps.hybrid import composition as steps
from headwater.steps.hybrid.composition import (
    chart,
    composition_facts,
    read_composition,
)
from headwater.store import WORK
from headwater.task import Task, load_task

CLASSES = ["rose", "fern", "snow leopard"]
ATTRIBUTES = ["in snow", "at night"]
SHARDS = [
    ["a rose in snow", "a rose and a fern", None, "nothing of note", "A ROSE, in snow, at night"],
    ["primrose in snow", "fern at night", "a rose; a rose", "the snow leopard in snow"],
]


def make_task(folder: Path) -> Task:
    told = {"format": 1, "name": "garden", "classes": CLASSES}
    (folder / "garden.yaml").write_text(yaml.safe_dump(told))
    return load_task(folder / "garden.yaml")


def make_pool(folder: Path, shards: list[list[str | None]] = SHARDS) -> Path:
    folder.mkdir()
    for number, captions in enumerate(shards):
        table = pl.DataFrame({"caption": captions}, schema={"caption": pl.String})
        keys = [f"{number}-{row}" for row in range(len(captions))]
        urls = [f"https://example.org/{key}" for key in keys]
        table = table.with_columns(
            key=pl.Series(keys, dtype=pl.String), url=pl.Series(urls, dtype=pl.String)
        )
        table.write_parquet(folder / f"{number:05d}.parquet")
    return folder


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return make_task(tmp_path)


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    return make_pool(tmp_path / "pool")


def plainly(task: Task, mode: str) -> dict[tuple[str, str], int]:
    """Each class and each attribute searched for on its own, one caption after the other."""
    captions = [caption for shard in SHARDS for caption in shard]

    def rows(phrase: str) -> set[int]:
        return set(match_captions(captions, {"x": phrase}, mode=mode)["row"].to_list())

    return {
        (name, attribute): len(rows(name) & (rows(attribute) if attribute else rows(name)))
        for name in task.names
        for attribute in ("", *ATTRIBUTES)
    }


@pytest.mark.parametrize("mode", ["phrase", "substring", "all", "reference"])
def test_one_pass_counts_what_a_plain_loop_counts(
    tmp_path: Path, task: Task, pool: Path, mode: str
) -> None:
    counts = chart(pool, task, tmp_path / "out", attributes=ATTRIBUTES, mode=mode, workers=1)
    table, _ = read_composition(tmp_path / "out", task)
    told = {(label, attribute): n for label, attribute, n in table.iter_rows()}
    assert told == plainly(task, mode)
    assert list(told) == [(name, a) for name in CLASSES for a in ("", *ATTRIBUTES)]
    cells = [n for (_, attribute), n in told.items() if attribute]
    assert (counts["captions"], counts["cells"]) == (9, 6)
    assert counts["empty"] == cells.count(0)


def test_a_caption_counts_once_for_a_class_however_often_it_names_it(
    tmp_path: Path, task: Task, pool: Path
) -> None:
    counts = chart(pool, task, tmp_path / "out", workers=1)
    table, _ = read_composition(tmp_path / "out", task)
    assert table.rows() == [("rose", "", 4), ("fern", "", 2), ("snow leopard", "", 1)]
    assert counts == {"captions": 9, "matched": 6, "cells": 3, "empty": 0}


def test_the_number_of_workers_changes_nothing(tmp_path: Path, task: Task, pool: Path) -> None:
    files = []
    for workers in (1, 2):
        out = tmp_path / f"out-{workers}"
        chart(pool, task, out, attributes=ATTRIBUTES, workers=workers)
        files.append((out / "composition.parquet").read_bytes())
    assert files[0] == files[1]


def test_a_killed_count_goes_on_with_the_shards_that_are_left(
    tmp_path: Path, task: Task, pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, counted = tmp_path / "out", []
    count = steps._count_shard

    def count_first_only(matcher, classes, folder, shard):  # type: ignore[no-untyped-def]
        if shard.number:
            raise KeyboardInterrupt
        count(matcher, classes, folder, shard)

    monkeypatch.setattr(steps, "_count_shard", count_first_only)
    with pytest.raises(KeyboardInterrupt):
        chart(pool, task, out, attributes=ATTRIBUTES, workers=1)
    with pytest.raises(SetError, match="unfinished"):
        read_composition(out, task)

    def count_and_tell(matcher, classes, folder, shard):  # type: ignore[no-untyped-def]
        counted.append(shard.number)
        count(matcher, classes, folder, shard)

    monkeypatch.setattr(steps, "_count_shard", count_and_tell)
    chart(pool, task, out, attributes=ATTRIBUTES, workers=1)
    assert counted == [1]
    chart(pool, task, tmp_path / "whole", attributes=ATTRIBUTES, workers=1)
    same = [(folder / "composition.parquet").read_bytes() for folder in (out, tmp_path / "whole")]
    assert same[0] == same[1]
    assert not (out / WORK).exists()


def test_a_class_may_be_called_like_an_attribute(tmp_path: Path, pool: Path) -> None:
    told = {"format": 1, "name": "odd", "classes": ["in snow", "0", "rose"]}
    (tmp_path / "odd.yaml").write_text(yaml.safe_dump(told))
    task = load_task(tmp_path / "odd.yaml")
    chart(pool, task, tmp_path / "out", attributes=["in snow"], workers=1)
    table, _ = read_composition(tmp_path / "out", task)
    assert table.filter(label="in snow")["captions"].to_list() == [4, 4]
    assert table.filter(label="rose")["captions"].to_list() == [4, 2]


def test_facts_count_holes_below_the_target(tmp_path: Path, task: Task, pool: Path) -> None:
    chart(pool, task, tmp_path / "out", attributes=ATTRIBUTES, workers=1)
    told = composition_facts(tmp_path / "out", task, target=2)
    assert told["classes"][0] == {"label": "rose", "name": "rose", "captions": 4, "with": [2, 1]}
    assert (told["holes"], told["empty"]) == (5, 2)


@pytest.mark.parametrize(
    ("attributes", "error", "said"),
    [
        (["in snow", " "], InputError, "empty"),
        (["in snow", "in snow"], InputError, "twice"),
        (["!"], QueryError, "nothing to search for"),
    ],
)
def test_an_attribute_that_cannot_be_is_refused(
    tmp_path: Path, task: Task, pool: Path, attributes: list[str], error: type, said: str
) -> None:
    with pytest.raises(error, match=said):
        chart(pool, task, tmp_path / "out", attributes=attributes, workers=1)


def test_a_pool_without_a_pair_is_refused(tmp_path: Path, task: Task) -> None:
    empty = make_pool(tmp_path / "empty", [[]])
    with pytest.raises(PoolError, match="no pair"):
        chart(empty, task, tmp_path / "out", workers=1)


def test_a_composition_of_another_task_is_refused(tmp_path: Path, task: Task, pool: Path) -> None:
    chart(pool, task, tmp_path / "out", workers=1)
    told = {"format": 1, "name": "garden", "classes": ["rose"]}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(told))
    with pytest.raises(SetError, match="one of another task"):
        read_composition(tmp_path / "out", load_task(tmp_path / "other.yaml"))


def test_the_command_counts_prints_and_draws(
    tmp_path: Path, task: Task, pool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--pool", str(pool), "--task", str(tmp_path / "garden.yaml"), "--workers", "1"]
    asked = [*where, "--attribute", "in snow", "--target", "2", "--out", str(tmp_path / "out")]
    page = tmp_path / "map.html"
    assert run(["composition", *asked, "--html", str(page)]) == 0
    assert "1 of 3 pairs" not in capsys.readouterr().out.splitlines()[0]
    assert "in snow" in page.read_text(encoding="utf-8")
    assert run(["composition", *asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["with"] for row in told["classes"]] == [[2], [0], [1]]
    assert run(["composition", *asked, "--attribute", "at night"]) == 2
    assert "made differently" in capsys.readouterr().err
