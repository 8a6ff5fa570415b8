"""Top-ups: holes are filled, and only they; the two controls add as many; all of it again alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny_garden import picture

from headwater.cli import run
from headwater.decode import encode_png
from headwater.errors import InputError, SetError
from headwater.pairs import (
    decide,
    funnel,
    image_column,
    join_decisions,
    read_decisions,
    read_funnel,
    read_pairs,
    sha256_of,
    shard_path,
    to_pairs,
    write_summary,
)
from headwater.steps.agreement import check_classes, check_mix
from headwater.steps.hybrid.composition import chart
from headwater.steps.hybrid.picks import Hole, fill_holes, repeat_rows, spread_out
from headwater.steps.hybrid.settings import TopUp
from headwater.steps.hybrid.top_up import top_up, topped_up_classes
from headwater.store import digest_folder, read_json, step, write_json, write_table
from headwater.task import Task, load_task

CLASSES = ["rose", "fern", "moss"]
ATTRIBUTES = ["in snow", "at night"]
Told = Sequence[tuple[str, str]]  # label and caption of each pair

REAL = [("rose", "a rose")] * 5 + [("fern", "a fern")] * 2
PAINTED = [(name, f"a {name} in snow") for name in CLASSES for _ in range(4)]
PAINTED += [(name, f"a {name} at night") for name in CLASSES for _ in range(2)]


def make_task(folder: Path) -> Task:
    told = {"format": 1, "name": "garden", "classes": CLASSES}
    (folder / "garden.yaml").write_text(yaml.safe_dump(told))
    return load_task(folder / "garden.yaml")


def make_set(
    folder: Path,
    told: Told,
    *,
    name: str,
    score: str | None = None,
    pixels: str | None = None,
    shards: int = 2,
    classes: Sequence[str] = CLASSES,
) -> Path:
    """A set of small pictures, the first id `name:0`."""
    images = [encode_png(picture_of(number, name)) for number in range(len(told))]
    table = pl.DataFrame(
        {
            "id": [f"{name}:{number}" for number in range(len(told))],
            "label": [label for label, _ in told],
            "caption": [caption for _, caption in told],
            "source": "synthetic" if name == "made" else "retrieved",
            "sha256": [sha256_of(data) for data in images],
        }
    ).with_columns(image_column(images, [None] * len(told)))
    if score:
        table = table.with_columns(pl.lit(0.5, pl.Float32).alias(score))
    with step(folder, "curate" if pixels else "import", arguments={"name": name}) as this:
        for number in range(shards):
            write_table(shard_path(folder, number, shards), to_pairs(table[number::shards]))
        kept = decide(table, kept=True, step="decodes", reason="kept")
        counts = funnel(classes, ["found", "decodes"], kept)
        write_summary(folder, decisions=join_decisions([kept]), counts=counts, title="t", story="s")
        if pixels:
            write_json(folder / "pixels.json", looks(pixels))
        this.counts = {}
    return folder


def picture_of(number: int, name: str) -> Any:
    import numpy as np

    return np.asarray(picture(number + (500 if name == "made" else 0), side=8))


def looks(codec: str) -> dict[str, Any]:
    side = {"p5": 8, "median": 8, "p95": 8}
    look = {
        "short_side": side, "not_square": 0.0, "padded": 0.0, "padding": None,
        "codecs": {codec: 1.0}, "bytes_per_pixel": 1.0,
    }  # fmt: skip
    return {"images": 1, "before": look, "after": look}


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return make_task(tmp_path)


@pytest.fixture
def real(tmp_path: Path) -> Path:
    return make_set(tmp_path / "real", REAL, name="web", score="clip_score", pixels="JPEG")


@pytest.fixture
def painted(tmp_path: Path) -> Path:
    return make_set(tmp_path / "made", PAINTED, name="made", score="beauty", pixels="JPEG")


def asked(target: int, how: str = "top_up", attributes: Sequence[str] = ()) -> TopUp:
    told = {"source": "real", "fill": "made", "target": target, "how": how}
    return TopUp(**told, attributes=tuple(attributes))  # type: ignore[arg-type]


def per_class(folder: Path, *, source: str | None = None) -> dict[str, int]:
    pairs = read_pairs(folder, ["label", "source"])
    if source:
        pairs = pairs.filter(source=source)
    return dict(Counter(pairs["label"].to_list()))


def keys(folder: Path) -> set[tuple[str, str]]:
    rows = read_pairs(folder, ["id", "label"]).rows()
    assert len(set(rows)) == len(rows), "a key stands there twice"
    return set(rows)


def test_rare_classes_are_filled_to_the_target(
    tmp_path: Path, task: Task, real: Path, painted: Path
) -> None:
    out = tmp_path / "out"
    counts = top_up(real, painted, task, out, how=asked(5))
    assert per_class(out) == {"rose": 5, "fern": 5, "moss": 5}
    assert per_class(out, source="synthetic") == {"fern": 3, "moss": 5}
    assert counts == {"considered": 25, "needed": 15, "holes": 2, "added": 8, "lacking": 0}
    assert keys(real) < keys(out)
    holes = pl.read_parquet(out / "holes.parquet")
    assert holes.rows() == [("fern", "", None, 2, 3, 3), ("moss", "", None, 0, 5, 5)]
    assert topped_up_classes(out) == ["fern", "moss"]


def test_every_pair_considered_has_a_decision_and_a_reason(
    tmp_path: Path, task: Task, real: Path, painted: Path
) -> None:
    out = tmp_path / "out"
    top_up(real, painted, task, out, how=asked(5))
    decisions = read_decisions(out)
    told = Counter(decisions.select("label", "kept", "reason").rows())
    assert told == {
        ("rose", True, "kept"): 5,
        ("fern", True, "kept"): 2,
        ("fern", True, "fills fern"): 3,
        ("moss", True, "fills moss"): 5,
        ("rose", False, "fills no hole"): 6,
        ("fern", False, "fills no hole"): 3,
        ("moss", False, "fills no hole"): 1,
    }
    assert set(decisions.filter("kept").select("id", "label").rows()) == keys(out)
    assert read_funnel(out)["classes"]["fern"] == {"considered": 8, "needed": 5}


def test_the_spread_control_adds_as_many_over_all_classes(
    tmp_path: Path, task: Task, real: Path, painted: Path
) -> None:
    out = tmp_path / "out"
    counts = top_up(real, painted, task, out, how=asked(5, "spread"))
    assert per_class(out, source="synthetic") == {"rose": 3, "fern": 3, "moss": 2}
    assert counts["added"] == 8
    assert keys(real) < keys(out)


def test_the_repeat_control_fills_the_same_holes_with_the_sets_own(
    tmp_path: Path, task: Task, real: Path, painted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    counts = top_up(real, painted, task, out, how=asked(7, "repeat"))
    assert per_class(out) == {"rose": 7, "fern": 7}
    assert per_class(out, source="synthetic") == {}
    assert (counts["added"], counts["lacking"]) == (7, 7)  # of moss there is nothing to repeat
    assert "7 images are lacking in 1 of 3 holes: moss (7)" in capsys.readouterr().err
    ferns = Counter(pair_id.partition("~")[0] for pair_id, label in keys(out) if label == "fern")
    assert sorted(ferns.values()) == [3, 4]  # both as often, as far as that goes
    images = read_pairs(out, ["id", "sha256"])
    by_id = dict(images.select("id", "sha256").rows())
    assert by_id["web:5~1"] == by_id["web:5"]
    reasons = dict(read_decisions(out).select("id", "reason").rows())
    assert reasons["web:5~2"] == "repeats web:5"


def test_where_the_fill_has_too_few_the_set_says_so(
    tmp_path: Path, task: Task, real: Path, painted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    counts = top_up(real, painted, task, out, how=asked(20))
    assert counts["lacking"] == 9 + 12 + 14
    assert per_class(out) == {"rose": 11, "fern": 8, "moss": 6}
    said = capsys.readouterr()
    assert "images are lacking in 3 of 3 holes: rose (9), fern (12), moss (14)" in said.err


@pytest.mark.parametrize("how", ["top_up", "spread", "repeat"])
def test_a_higher_target_keeps_what_a_lower_one_took(
    tmp_path: Path, task: Task, real: Path, painted: Path, how: str
) -> None:
    before: set[tuple[str, str]] = set()
    for target in (1, 3, 5, 7):
        out = tmp_path / f"out-{target}"
        top_up(real, painted, task, out, how=asked(target, how))
        assert before <= keys(out)
        before = keys(out)


@pytest.mark.parametrize("how", ["top_up", "spread", "repeat"])
def test_the_seed_decides_which_and_nothing_else_does(
    tmp_path: Path, task: Task, real: Path, painted: Path, how: str
) -> None:
    digests = []
    for number, seed in enumerate((0, 0, 1)):
        out = tmp_path / f"out-{number}"
        top_up(real, painted, task, out, how=asked(6, how), seed=seed)
        digests.append(digest_folder(out))
    assert digests[0] == digests[1] != digests[2]


def test_a_killed_top_up_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, task: Task, real: Path, painted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headwater.steps.hybrid import top_up as steps

    whole, out, read = tmp_path / "whole", tmp_path / "out", []
    top_up(real, painted, task, whole, how=asked(5))
    once = steps.read_shard

    def two_shards_only(path: Path) -> pl.DataFrame:
        read.append(path.name)
        if len(read) == 3:
            raise KeyboardInterrupt
        return once(path)

    monkeypatch.setattr(steps, "read_shard", two_shards_only)
    with pytest.raises(KeyboardInterrupt):
        top_up(real, painted, task, out, how=asked(5))
    top_up(real, painted, task, out, how=asked(5))
    assert len(read) == 5  # two, the one that died, and the two that were left
    assert digest_folder(out) == digest_folder(whole)


@pytest.mark.parametrize("shards", [2, 3])
def test_a_set_that_has_changed_is_topped_up_anew(
    tmp_path: Path, task: Task, real: Path, painted: Path, shards: int
) -> None:
    out = tmp_path / "out"
    top_up(real, painted, task, out, how=asked(5))
    how: dict[str, Any] = {"name": "web", "score": "clip_score", "pixels": "JPEG"}
    fewer = make_set(tmp_path / "fewer", REAL[:-1], shards=shards, **how)
    top_up(fewer, painted, task, out, how=asked(5))
    assert per_class(out, source="synthetic") == {"fern": 4, "moss": 5}
    top_up(fewer, painted, task, tmp_path / "fresh", how=asked(5))
    assert digest_folder(out) == digest_folder(tmp_path / "fresh")
    with pytest.raises(SetError, match=r"expected arguments\.target 6, saw 5"):
        top_up(fewer, painted, task, out, how=asked(6))


def test_shards_have_the_scores_of_both_sets(
    tmp_path: Path, task: Task, real: Path, painted: Path
) -> None:
    out = tmp_path / "out"
    top_up(real, painted, task, out, how=asked(5))
    schemas = [pl.read_parquet_schema(path) for path in sorted((out / "data").glob("*.parquet"))]
    assert len(schemas) == 4
    assert all(schema == schemas[0] for schema in schemas)
    assert list(schemas[0])[-2:] == ["clip_score", "beauty"]


def test_the_result_fits_the_task_and_mixes_with_its_parents(
    tmp_path: Path, task: Task, real: Path, painted: Path
) -> None:
    folders = []
    for how in ("top_up", "spread", "repeat"):
        folders.append(tmp_path / how)
        top_up(real, painted, task, folders[-1], how=asked(5, how))
        check_classes(folders[-1], task)
    assert check_mix([folders[0], real]) == 7
    assert check_mix([folders[0], painted]) == 8
    assert check_mix([folders[2], real]) == 7
    assert check_mix(folders) >= 3 * 7


# attributes


@pytest.fixture
def counted(tmp_path: Path, task: Task) -> Path:
    """A pool with no rose in snow, one fern in snow, and three of every other pair."""
    captions = ["a fern in snow"]
    captions += [f"a {name} at night" for name in CLASSES for _ in range(3)]
    captions += ["some moss in snow"] * 3
    (tmp_path / "pool").mkdir()
    table = pl.DataFrame({"caption": captions, "url": [f"u{i}" for i in range(len(captions))]})
    table.write_parquet(tmp_path / "pool" / "00000.parquet")
    chart(tmp_path / "pool", task, tmp_path / "counts", attributes=ATTRIBUTES, workers=1)
    return tmp_path / "counts"


def test_holes_of_attributes_are_filled_with_images_that_say_them(
    tmp_path: Path, task: Task, real: Path, painted: Path, counted: Path
) -> None:
    out = tmp_path / "out"
    how = asked(3, attributes=ATTRIBUTES)
    top_up(real, painted, task, out, how=how, composition=counted)
    added = read_pairs(out, ["label", "caption", "source"]).filter(source="synthetic")
    assert Counter(added.select("label", "caption").rows()) == {
        ("rose", "a rose in snow"): 3,
        ("fern", "a fern in snow"): 2,
    }
    assert pl.read_parquet(out / "holes.parquet").rows() == [
        ("rose", "in snow", 0, 0, 3, 3),
        ("fern", "in snow", 1, 0, 2, 2),
    ]


def test_the_spread_control_says_the_same_attributes_in_all_classes(
    tmp_path: Path, task: Task, real: Path, painted: Path, counted: Path
) -> None:
    out = tmp_path / "out"
    how = asked(3, "spread", ATTRIBUTES)
    top_up(real, painted, task, out, how=how, composition=counted)
    added = read_pairs(out, ["label", "caption", "source"]).filter(source="synthetic")
    assert Counter(added["label"].to_list()) == {"rose": 2, "fern": 2, "moss": 1}
    assert all(caption.endswith("in snow") for caption in added["caption"])


def test_attributes_need_a_composition_that_counted_them(
    tmp_path: Path, task: Task, real: Path, painted: Path, counted: Path
) -> None:
    with pytest.raises(InputError, match="a composition of it, saw none"):
        top_up(real, painted, task, tmp_path / "a", how=asked(3, attributes=["in snow"]))
    how = asked(3, attributes=["in snow", "on fire"])
    with pytest.raises(InputError, match="did not count an attribute"):
        top_up(real, painted, task, tmp_path / "b", how=how, composition=counted)


# picks


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(CLASSES), st.sampled_from(["", *ATTRIBUTES])),
        st.lists(st.integers(0, 30), max_size=12, unique=True),
        max_size=9,
    ),
    st.lists(st.integers(0, 8), min_size=9, max_size=9),
    st.integers(1, 5),
)
def test_no_image_fills_two_holes_and_more_wanted_never_takes_one_away(
    orders: Mapping[tuple[str, str], list[int]], wanted: Sequence[int], more: int
) -> None:
    every = [(label, attribute) for label in CLASSES for attribute in ("", *ATTRIBUTES)]
    holes = [Hole(*key, None, 0, n) for key, n in zip(every, wanted, strict=True)]
    few = fill_holes(holes, orders)
    many = fill_holes([hole._replace(wanted=hole.wanted + more) for hole in holes], orders)
    rows = [row for mine in few for row in mine]
    assert len(rows) == len(set(rows))
    assert set(rows) <= {row for mine in many for row in mine}
    for hole, mine in zip(holes, few, strict=True):
        assert len(mine) <= hole.wanted
        assert set(mine) <= set(orders.get(hole.key, ()))


@given(st.lists(st.integers(0, 6), min_size=3, max_size=3), st.integers(0, 20))
def test_a_spread_is_as_even_as_the_images_allow(sizes: Sequence[int], n: int) -> None:
    starts = [sum(sizes[:i]) for i in range(3)]
    orders = {
        (label, ""): list(range(start, start + size))
        for label, start, size in zip(CLASSES, starts, sizes, strict=True)
    }
    mine = spread_out({"": n}, orders, CLASSES)[""]
    got = [len(set(mine) & set(orders[label, ""])) for label in CLASSES]
    assert sum(got) == min(n, sum(sizes))
    for count, size in zip(got, sizes, strict=True):
        assert count == size or count >= max(got) - 1


def test_a_spread_has_as_many_images_where_one_says_two_attributes() -> None:
    """Both holes can be filled (2 is red, 1 in snow), but red takes 1 first when spread."""
    orders = {("rose", ""): [2, 3], ("fern", ""): [1],
              ("fern", "red"): [1], ("rose", "red"): [2], ("fern", "in snow"): [1]}  # fmt: skip
    found = spread_out({"red": 1, "in snow": 1}, orders, ["fern", "rose"])
    assert found == {"red": [1], "in snow": [], "": [2]}


def test_an_image_that_is_repeated_for_two_holes_is_numbered_on() -> None:
    holes = [Hole("rose", "in snow", 0, 1, 2, 2), Hole("rose", "at night", 0, 0, 1, 1)]
    repeats = repeat_rows(holes, {("rose", "in snow"): [7], ("rose", ""): [7, 8]})
    assert repeats == [[(7, 1), (7, 2)], [(7, 3)]]


# what is said, and refused


def test_a_codec_that_gives_synthetic_images_away_is_told(
    tmp_path: Path, task: Task, real: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = make_set(tmp_path / "odd", PAINTED, name="made", pixels="PNG")
    top_up(real, odd, task, tmp_path / "out", how=asked(5))
    told = "real and synthetic images still differ in how they were made into files"
    assert told in capsys.readouterr().err
    assert told in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    raw = make_set(tmp_path / "raw", PAINTED, name="made")
    top_up(real, raw, task, tmp_path / "out-raw", how=asked(5))
    assert "Not both sets were curated" in capsys.readouterr().err
    top_up(real, raw, task, tmp_path / "out-repeat", how=asked(5, "repeat"))
    assert "curated" not in capsys.readouterr().err


def test_sets_that_cannot_be_topped_up_are_refused(
    tmp_path: Path, task: Task, real: Path, painted: Path
) -> None:
    others = make_set(
        tmp_path / "others", [("oak", "an oak")], name="web", classes=["oak"], shards=1
    )
    with pytest.raises(SetError, match="was not made for the classes"):
        top_up(real, others, task, tmp_path / "a", how=asked(3))
    drawn = make_set(tmp_path / "drawn", [("", "an oak")], name="web", classes=[""], shards=1)
    with pytest.raises(SetError, match="has no classes"):
        top_up(drawn, painted, task, tmp_path / "b", how=asked(3))
    top_up(real, painted, task, tmp_path / "again", how=asked(5, "repeat"))
    with pytest.raises(SetError, match="repeats images"):
        top_up(tmp_path / "again", painted, task, tmp_path / "c", how=asked(9))
    with pytest.raises(SetError, match="no such set"):
        top_up(real, tmp_path / "nowhere", task, tmp_path / "d", how=asked(3))


def test_a_topped_up_set_can_be_topped_up_by_attributes(
    tmp_path: Path, task: Task, real: Path, painted: Path, counted: Path
) -> None:
    top_up(real, painted, task, tmp_path / "one", how=asked(3))
    how = asked(3, attributes=ATTRIBUTES)
    top_up(tmp_path / "one", painted, task, tmp_path / "two", how=how, composition=counted)
    assert keys(tmp_path / "one") < keys(tmp_path / "two")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"target": 0}, "greater than or equal to 1"),
        ({"fill": "real"}, "not topped up with itself"),
        ({"attributes": (" ",)}, "empty"),
        ({"attributes": ("a", "a")}, "twice"),
        ({"how": "sprinkle"}, "spread"),
    ],
)
def test_settings_say_what_cannot_be(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TopUp(**{"source": "real", "fill": "made", "target": 3, **changes})


def test_the_command_tops_up(
    tmp_path: Path, task: Task, real: Path, painted: Path, counted: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    common = ["top-up", str(real), "--fill", str(painted), "--task", str(tmp_path / "garden.yaml")]
    assert run([*common, "--target", "5", "--out", str(tmp_path / "a")]) == 0
    assert "added" in capsys.readouterr().out
    more = ["--attribute", "in snow", "--counts", str(counted), "--how", "spread"]
    assert run([*common, "--target", "3", *more, "--out", str(tmp_path / "b"), "--json"]) == 0
    assert read_json(tmp_path / "b" / "step.json")["arguments"] == {
        "seed": 0, "target": 3, "attributes": ["in snow"], "how": "spread",
    }  # fmt: skip
    assert run([*common, "--target", "0", "--out", str(tmp_path / "c")]) == 2
    assert "--target" in capsys.readouterr().err
