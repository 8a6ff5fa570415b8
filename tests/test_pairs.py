from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.decode import encode_png
from headwater.errors import SetError
from headwater.pairs import (
    PAIR_SCHEMA,
    decide,
    funnel,
    image_column,
    iter_pairs,
    join_decisions,
    read_decisions,
    read_funnel,
    read_pairs,
    shard_path,
    shard_paths,
    to_pairs,
    total,
    write_summary,
)
from headwater.store import step, write_json, write_table

GATES = ["found", "safe", "decodes"]


def make_set(folder: Path, shards: int = 2) -> None:
    """Two roses and a fern in each shard; one rose more that was dropped."""
    with step(folder, "toy", arguments={}):
        decisions = []
        for number in range(shards):
            images = [encode_png(np.full((4, 5, 3), 50 * i, np.uint8)) for i in range(3)]
            pairs = to_pairs(
                pl.DataFrame(
                    {
                        "id": [f"w:{number}{i}" for i in range(3)],
                        "label": ["rose", "rose", "fern"],
                        "image": image_column(images, ["a.png", "b.png", "c.png"]),
                        "caption": ["a | rose", None, "<b>fern</b>"],
                        "clip_score": [0.1, 0.2, 0.3],
                    },
                    schema_overrides={"clip_score": pl.Float32},
                )
            )
            write_table(shard_path(folder, number, shards), pairs)
            dropped = pl.DataFrame({"id": [f"w:{number}9"], "label": ["rose"]})
            decisions += [
                decide(pairs, kept=True, step="decodes", reason="kept"),
                decide(dropped, kept=False, step="safe", reason="tagged NSFW"),
            ]
        table = join_decisions(decisions)
        counts = funnel(["rose", "fern", "ivy"], GATES, table)
        write_summary(folder, decisions=table, counts=counts, title="Toys", story="By hand.")


def test_a_set_comes_back_whole(tmp_path: Path) -> None:
    make_set(tmp_path / "set")
    pairs = read_pairs(tmp_path / "set")
    assert pairs.columns == [*PAIR_SCHEMA, "clip_score"]
    assert len(pairs) == 6
    assert sum(len(part) for part in iter_pairs(tmp_path / "set", ["id"])) == 6
    assert len(shard_paths(tmp_path / "set")) == 2


def test_the_funnel_adds_up_to_the_decisions(tmp_path: Path) -> None:
    make_set(tmp_path / "set")
    counts, decisions = read_funnel(tmp_path / "set"), read_decisions(tmp_path / "set")
    assert counts["classes"]["rose"] == {"found": 6, "safe": 4, "decodes": 4}
    assert counts["classes"]["ivy"] == {"found": 0, "safe": 0, "decodes": 0}
    assert total(counts, "found") == len(decisions)
    assert total(counts, "decodes") == decisions["kept"].sum() == len(read_pairs(tmp_path / "set"))


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([*GATES[1:], None]))))
def test_the_funnel_counts_like_a_loop(rows: list[tuple[str, str | None]]) -> None:
    table = pl.DataFrame(
        [(label, gate is None, gate or "decodes") for label, gate in rows],
        schema={"label": pl.String, "kept": pl.Boolean, "step": pl.String},
        orient="row",
    )
    plain = {
        label: {
            gate: sum(
                1
                for l, dropped in rows  # noqa: E741
                if l == label and (dropped is None or GATES.index(dropped) > position)
            )
            for position, gate in enumerate(GATES)
        }
        for label in ("a", "b")
    }
    assert funnel(["a", "b"], GATES, table)["classes"] == plain


def test_the_hub_library_opens_a_set_with_pictures(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    make_set(tmp_path / "set")
    loaded = datasets.load_dataset(
        str(tmp_path / "set"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded.num_rows == 6
    assert loaded[0]["image"].size == (5, 4)
    assert loaded[2]["caption"] == "<b>fern</b>"


def test_the_card_escapes_what_comes_from_outside(tmp_path: Path) -> None:
    counts = {"steps": ["found"], "classes": {"<script>|x": {"found": 1}}}
    from headwater.card import card

    text = card(title="T\n# <b>", story="S\n---\n<i>", counts=counts, schema={})
    assert "<script>" not in text
    assert "&lt;script>\\|x" in text
    assert "\n# T # &lt;b>\n\nS --- &lt;i>\n" in text


@pytest.mark.parametrize("broken", ["missing", "unfinished", "truncated"])
def test_a_broken_set_is_one_clear_line(tmp_path: Path, broken: str) -> None:
    folder = tmp_path / "set"
    if broken != "missing":
        make_set(folder)
    if broken == "unfinished":
        (folder / "step.json").rename(folder / "started.json")
    if broken == "truncated":
        path = shard_path(folder, 1, 2)
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SetError) as caught:
        read_pairs(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("caption", pl.lit(7).alias("caption")),
        ("image", pl.lit(b"junk").alias("image")),
        ("url", None),
    ],
)
def test_a_column_that_is_missing_or_of_another_kind_is_named(
    tmp_path: Path, column: str, change: pl.Expr | None
) -> None:
    make_set(tmp_path)
    path = shard_path(tmp_path, 1, 2)
    table = pl.read_parquet(path)
    write_table(path, table.drop(column) if change is None else table.with_columns(change))
    with pytest.raises(SetError, match=f"the column {column} of .*expected .*, saw "):
        read_pairs(tmp_path)
    assert len(read_pairs(tmp_path, ["id", "label"])) == 6


def test_a_shard_that_is_gone_and_one_too_many_are_told(tmp_path: Path) -> None:
    make_set(tmp_path)
    second = shard_path(tmp_path, 1, 2)
    write_table(shard_path(tmp_path, 0, 3), pl.read_parquet(second))
    with pytest.raises(SetError, match=r"not whole: expected 2 shards, saw 3\. Make the set"):
        read_pairs(tmp_path)
    shard_path(tmp_path, 0, 3).unlink()
    second.unlink()
    with pytest.raises(SetError, match=f"expected 2 shards, saw 1. Copy {second.name} there"):
        read_pairs(tmp_path)


@pytest.mark.parametrize(
    "told",
    [{}, {"steps": ["a"], "classes": {"rose": {"a": "x"}}}, {"steps": [], "classes": []}],
)
def test_a_funnel_that_is_none(tmp_path: Path, told: dict[str, object]) -> None:
    make_set(tmp_path)
    write_json(tmp_path / "funnel.json", told)
    with pytest.raises(SetError, match=r"funnel.json is no funnel: expected steps"):
        read_funnel(tmp_path)


def test_a_record_that_says_too_little(tmp_path: Path) -> None:
    make_set(tmp_path)
    (tmp_path / "step.json").write_text('{"format": 1, "verb": "toy", "digest": 5}')
    with pytest.raises(SetError, match="no arguments and no inputs and no counts and no digest"):
        read_pairs(tmp_path)
