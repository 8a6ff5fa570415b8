"""A part of a set by its novelty: what stays, why the rest does not, and what is refused."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from tests.tiny_clip import tiny_clip
from tests.tiny_garden import import_set, make_task
from tests.tiny_pool import planted_set, pool_images, write_pool

from headwater.descriptors import open_descriptor
from headwater.errors import InputError, SetError
from headwater.pairs import read_decisions, read_funnel, read_pairs
from headwater.steps.agreement import check_classes, check_mix
from headwater.steps.novelty.novelty import find_novelty
from headwater.steps.novelty.subset import subset
from headwater.task import Task, load_task


@pytest.fixture(scope="module")
def garden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`set`, and `novelty`, how new it is to a pool."""
    folder = tmp_path_factory.mktemp("garden")
    write_pool(folder / "pool", pool_images())
    source = planted_set(folder / "set", make_task(folder))
    find_novelty(
        source, folder / "pool", folder / "novelty", descriptor=open_descriptor("builtin"),
        clip=tiny_clip(),
    )  # fmt: skip
    return folder


def task_of(folder: Path) -> Task:
    return load_task(folder / "garden.yaml")


def test_a_part_and_a_reason_for_every_other(garden: Path, tmp_path: Path) -> None:
    counts = subset(garden / "set", garden / "novelty", tmp_path / "s", keep=["new", "near"])
    assert counts == {"given": 12, "novelty": 7}
    whole, kept = read_pairs(garden / "set"), read_pairs(tmp_path / "s")
    assert kept.equals(whole.filter(~pl.col("id").str.contains("copy")))
    dropped = read_decisions(tmp_path / "s").filter(~pl.col("kept"))
    assert len(dropped) == 5
    assert set(dropped["step"]) == {"novelty"}
    same = dropped.filter(pl.col("id").str.contains("copy-same"))["reason"].item()
    assert same == "memorized: copy of pool:0000"


def test_the_parts_are_the_whole(garden: Path, tmp_path: Path) -> None:
    parts = []
    for band in ("memorized", "near", "new"):
        subset(garden / "set", garden / "novelty", tmp_path / band, keep=[band])
        parts.append(read_pairs(tmp_path / band))
    assert pl.concat(parts).sort("id").equals(read_pairs(garden / "set").sort("id"))
    reasons = read_decisions(tmp_path / "memorized").filter(~pl.col("kept"))["reason"]
    assert reasons.str.contains(r"^near pool:00\d\d \(0\.999\)$|^near .*$|^new$").all()


def test_a_part_is_a_set_like_any_other(garden: Path, tmp_path: Path) -> None:
    subset(garden / "set", garden / "novelty", tmp_path / "s", keep=["memorized"])
    check_classes(tmp_path / "s", task_of(garden))
    assert check_mix([tmp_path / "s", garden / "set"]) == 5
    assert list(read_funnel(tmp_path / "s")["classes"]) == task_of(garden).labels


def test_order_and_repeats_of_what_is_kept_do_not_matter(garden: Path, tmp_path: Path) -> None:
    subset(garden / "set", garden / "novelty", tmp_path / "s", keep=["new", "near", "new"])
    subset(garden / "set", garden / "novelty", tmp_path / "s", keep=["near", "new"])
    with pytest.raises(SetError, match="made differently"):
        subset(garden / "set", garden / "novelty", tmp_path / "s", keep=["new"])


@pytest.mark.parametrize("keep", [[], ["newest"], ["new", "old"]])
def test_bands_there_are_not_are_refused(garden: Path, tmp_path: Path, keep: list[str]) -> None:
    with pytest.raises(InputError, match="memorized, near, new"):
        subset(garden / "set", garden / "novelty", tmp_path / "s", keep=keep)
    assert not (tmp_path / "s").exists()


def test_novelty_of_another_set_is_refused(garden: Path, tmp_path: Path) -> None:
    other = import_set(tmp_path / "other", task_of(garden), {"rose/1.png": 1})
    with pytest.raises(SetError, match="made of another"):
        subset(other, garden / "novelty", tmp_path / "s", keep=["new"])
    with pytest.raises(SetError, match="a import"):
        subset(other, other, tmp_path / "s", keep=["new"])
    with pytest.raises(SetError, match="no such set"):
        subset(other, tmp_path / "nothing", tmp_path / "s", keep=["new"])
