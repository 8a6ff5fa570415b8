"""One pair's story: where it came from, what it scored, and what became of it."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny_curated import HOSTILE, LOW, tiny_sets

from headwater import terminal
from headwater.cli import run
from headwater.errors import SetError
from headwater.pairs import CANDIDATES
from headwater.steps.looking.why import near_ids, why


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tiny_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def kept(sets: tuple[Path, Path]) -> Path:
    return sets[1]


def test_a_kept_pair_tells_its_whole_way(kept: Path) -> None:
    fern, rose = why(kept, "w:r0")
    assert (rose["id"], rose["label"], rose["kept"], rose["reason"]) == (
        "w:r0", "rose", True, "kept",
    )  # fmt: skip
    assert (rose["pool"], rose["key"]) == ("w", "r0")
    assert rose["passed"] == [
        "matched", "safe", "decodes", "pixels", "clip_score", "no_copy", "not_rejected",
    ]  # fmt: skip
    assert rose["pair"]["url"] == "https://example.org/r0.png"
    assert rose["pair"]["source"] == "retrieved"
    assert (rose["pair"]["query"], rose["pair"]["found_by"]) == ("rose", "captions")
    assert (rose["pair"]["start"], rose["pair"]["end"]) == (6, 10)
    assert rose["match"] == {"before": "a red ", "match": "rose", "after": ""}
    assert rose["image"] == {"width": 24, "height": 24, "codec": "PNG"}  # not the 16 it is now
    assert rose["copy"] == {"of": "test/rose/1.png", "similarity": 0.25, "limit": None}
    assert (fern["label"], fern["kept"], fern["step"]) == ("fern", False, "clip_score")


def test_a_score_comes_with_its_rank_and_the_cut_of_its_class(kept: Path) -> None:
    clip, aspect = why(kept, "w:r1")[0]["scores"]
    assert (clip["score"], clip["gate"], clip["passed"]) == ("clip_score", "clip_score", True)
    assert (clip["rank"], clip["of"]) == (2, 7)  # of 8 roses one has no score
    assert clip["lowest_kept"] == pytest.approx(0.6)  # by this rule; another dropped it later
    assert clip["cut"] == LOW
    assert aspect == {
        "score": "aspect", "value": 0.25, "rank": 1, "of": 8,
        "gate": None, "passed": None, "lowest_kept": None, "cut": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pair", "step", "reason", "passes_clip", "last_passed"),
    [
        ("w:r4", "clip_score", LOW, False, "pixels"),
        ("w:r7", "clip_score", "no score", False, "pixels"),
        ("w:r2", "no_copy", "copy of test/rose/1.png (0.970)", True, "clip_score"),
        ("w:r3", "not_rejected", "rejected by hand", True, "no_copy"),
    ],
)
def test_a_dropped_pair_tells_as_much(
    kept: Path, pair: str, step: str, reason: str, passes_clip: bool, last_passed: str
) -> None:
    (told,) = why(kept, pair)
    assert (told["kept"], told["step"], told["reason"]) == (False, step, reason)
    assert told["passed"][-1] == last_passed
    assert told["scores"][0]["passed"] is passes_clip
    assert told["pair"]["caption"] and told["image"]["codec"] == "PNG"


def test_what_copied_is_named(kept: Path) -> None:
    (told,) = why(kept, "w:r2")
    assert told["copy"]["of"] == "test/rose/1.png"
    assert told["copy"]["similarity"] == pytest.approx(0.97)


@pytest.mark.parametrize(
    ("threshold", "limit"), [(None, 0.375), (0.5, 0.5)], ids=["the descriptor's", "the rule's"]
)
def test_a_copy_is_told_with_the_similarity_that_makes_one(
    tmp_path: Path, threshold: float | None, limit: float, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = tiny_sets(tmp_path)
    step = json.loads((folder / "step.json").read_text())
    step["arguments"]["rules"] = [
        {"score": "clip_score", "threshold": 0.1},
        {"copies": ["test"], "threshold": threshold},
    ]
    step["inputs"]["descriptor"] = {"name": "toy", "threshold": 0.375}
    (folder / "step.json").write_text(json.dumps(step))
    assert why(folder, "w:r1")[0]["copy"]["limit"] == limit
    assert f"similarity 0.125; a copy is above {limit}" in printed(capsys, folder, "w:r1")


@pytest.mark.parametrize(("pair", "step"), [("w:nsfw", "safe"), ("w:broken", "pixels")])
def test_a_pair_dropped_before_it_was_judged_has_its_decision(
    kept: Path, pair: str, step: str
) -> None:
    (told,) = why(kept, pair)
    assert (told["kept"], told["step"], told["pair"], told["scores"]) == (False, step, None, [])


def test_a_set_as_it_was_sourced_tells_what_it_knows(sets: tuple[Path, Path]) -> None:
    fern, rose = why(sets[0], "w:r0")
    assert (fern["kept"], rose["kept"]) == (True, True)
    assert rose["image"] == {"width": 24, "height": 24, "codec": "PNG"}
    assert rose["pair"]["sha256"] and rose["match"]["match"] == "rose"
    assert (rose["scores"], rose["copy"]) == ([], None)
    assert why(sets[0], "w:nsfw")[0]["pair"] is None
    assert why(sets[0], "w:broken")[0]["image"] is None


def test_a_curated_set_without_candidates_tells_what_it_has(tmp_path: Path) -> None:
    _, folder = tiny_sets(tmp_path)
    (folder / CANDIDATES).unlink()
    fern, rose = why(folder, "w:r0")
    assert rose["scores"][0]["value"] == pytest.approx(0.9)
    assert fern["pair"] is None


@pytest.mark.parametrize("asked", ["w:r4", "r4", "https://example.org/r4.png"])
def test_a_pair_is_found_by_id_key_and_url(kept: Path, asked: str) -> None:
    assert [told["id"] for told in why(kept, asked)] == ["w:r4"]


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("nsfw7", "w:nsfw"),
        ("roken", "w:broken"),
        ("v:r3", "w:r3"),
        ("https://example.org/r99.png", "w:broken"),
        ("", "w:broken"),
    ],
)
def test_an_unknown_id_is_one_line_with_ids_near_it(kept: Path, asked: str, near: str) -> None:
    with pytest.raises(SetError, match=rf"never considered .*Near it: .*{near}") as caught:
        why(kept, asked)
    assert "\n" not in str(caught.value)


def test_a_key_of_several_namespaces_is_not_guessed(tmp_path: Path) -> None:
    _, folder = tiny_sets(tmp_path)
    path = folder / "decisions.parquet"
    table = pl.read_parquet(path)
    twin = table.with_columns(pl.lit("x:r5").alias("id")).head(1)
    pl.concat([table, twin]).write_parquet(path)
    with pytest.raises(SetError, match=r"r5 is several pairs .* saw w:r5, x:r5"):
        why(folder, "r5")


def test_what_is_no_id_is_refused(kept: Path) -> None:
    for asked in ("w:" + "0" * 100_000, "w:\udcff"):
        with pytest.raises(SetError, match="no id of a pair") as caught:
            why(kept, asked)
        assert len(str(caught.value)) < 200


@given(
    ids=st.lists(st.text("ab:01", min_size=1), min_size=1, unique=True),
    asked=st.text("ab:01"),
)
def test_near_ids_are_some_that_there_are(ids: list[str], asked: str) -> None:
    near = near_ids(pl.Series(sorted(ids), dtype=pl.String), asked)
    assert 1 <= len(near) <= 3 and set(near) <= set(ids)
    if asked and any(asked in each for each in ids):
        assert all(asked in each for each in near)


def test_broken_tables_are_one_line(tmp_path: Path) -> None:
    _, folder = tiny_sets(tmp_path)
    (folder / CANDIDATES).write_bytes(b"PAR1 no more")
    with pytest.raises(SetError, match=r"cannot read .*kept.candidates.parquet: saw"):
        why(folder, "w:r0")


def printed(capsys: pytest.CaptureFixture[str], folder: Path, pair: str) -> str:
    assert run(["why", str(folder), pair]) == 0
    return capsys.readouterr().out


def test_the_story_reads_in_order(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, kept, "w:r1").splitlines()
    assert lines[0] == "w:r1 as rose: kept at not_rejected, score 0.8"
    told = [
        "from     w, key r1", "url      https://example.org/r1.png",
        'found by captions with "rose", bytes 7 to 11', "caption  ro\u00ebse [rose]",
        "image    24 x 24 PNG, as it came",
        "passed   matched, safe, decodes, pixels, clip_score, no_copy, not_rejected",
        "copy     nearest is test/rose/0.png, similarity 0.125",
    ]  # fmt: skip
    assert [line.strip() for line in lines[1:8]] == told
    assert lines[8].split("  ")[0] == "score"
    assert lines[9].split() == ["clip_score", "0.8", "2", "of", "7", "passed", "0.6", *LOW.split()]


def test_what_comes_from_outside_is_plain_text(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, kept, "w:r4")
    assert "\x1b" not in text
    assert 'a <b>[rose]</b> & "fern" [31m' in text
    assert f"dropped at clip_score: {LOW}, score 0.5" in text


def test_a_long_caption_is_cut_around_its_match(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(capsys, kept, "w:r5").splitlines()
    caption = next(line for line in lines if line.startswith("    caption"))
    assert "[rose] and so on" in caption and caption.endswith("...")
    assert len(caption) < terminal.LETTERS


def test_two_labels_are_two_stories_and_json_has_all(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, kept, "w:r0")
    assert text.index("as fern: dropped") < text.index("as rose: kept")
    assert run(["why", str(kept), "w:r4", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["pair"]["caption"] == HOSTILE
    text = printed(capsys, kept, "w:nsfw")
    assert "from     w, key nsfw" in text and "all that the set has of it is this decision" in text
