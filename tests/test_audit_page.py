"""The filter audit from a curated set to a page: what is known, what is shown, what is refused."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from tests.tiny_curated import HOSTILE, tiny_sets

from headwater.errors import InputError, SetError
from headwater.report.label import NONE, SKIPPED
from headwater.steps.looking.audit import are_right, audit, read_truth
from headwater.store import write_table


@pytest.fixture
def sets(tmp_path: Path) -> tuple[Path, Path]:
    """A dozen pairs; their caption fits the better the worse the CLIP score is, but for w:r1."""
    source, curated = tiny_sets(tmp_path)
    table = pl.read_parquet(curated / "candidates.parquet")
    captions = pl.when(id="w:r1").then(0.99).otherwise(1 - pl.col("clip_score")).cast(pl.Float32)
    write_table(curated / "candidates.parquet", table.with_columns(caption_score=captions))
    return source, curated


def test_the_page_and_what_it_tells(sets: tuple[Path, Path], tmp_path: Path) -> None:
    source, curated = sets
    told = audit(curated, tmp_path / "audit.html", source=source, fraction=0.5)
    text = (tmp_path / "audit.html").read_text()
    assert [line["score"] for line in told["scores"]] == ["clip_score", "caption_score", "none"]
    assert (told["set"], told["pairs"], told["classes"]) == ("kept", 10, 2)
    assert told["curated"] == {"kept": 3, "known": 0, "right": 0}
    assert told["scores"][0]["unscored"] == 1
    assert "clip_score and caption_score agree least" in text
    for heading in ("High CLIP scores, wrong images", "Rank correlation", "Kept by both"):
        assert heading in text
    assert "known" not in text.split("</style>")[1].split("High CLIP")[0]


def test_the_same_set_gives_the_same_page(sets: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        audit(sets[1], tmp_path / name, source=sets[0])
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_what_is_known_becomes_precision(sets: tuple[Path, Path], tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text("id,label\nw:r0,fern\nw:r1,rose\nw:r2,\nw:r4,rose\nw:r4,fern\nw:f0,fern\n")
    told = audit(sets[1], tmp_path / "audit.html", truth=truth, fraction=0.5)
    # r0 is a fern: wrong as a rose, right as a fern; r1 right; r2 shows nothing; r4 right; f0 right
    assert (told["known"], told["right"]) == (6, 4)
    assert told["curated"] == {"kept": 3, "known": 3, "right": 2}
    clip = told["scores"][0]
    assert (clip["kept"], clip["known"], clip["right"]) == (5, 4, 2)
    text = (tmp_path / "audit.html").read_text()
    assert "Of the best 50 % of each class, 50 % by clip_score, " in text
    assert "Known to show something else, placed highest by clip_score" in text
    assert "Known to show something else, placed highest by caption_score" in text
    assert ">wrong</span>" in text and ">right</span>" in text


def test_dropped_pairs_are_seen_only_with_the_source(
    sets: tuple[Path, Path], tmp_path: Path
) -> None:
    source, curated = sets
    audit(curated, tmp_path / "with.html", source=source)
    audit(curated, tmp_path / "without.html")
    both = [(tmp_path / name).read_text() for name in ("with.html", "without.html")]
    assert both[0].count("<img") > both[1].count("<img") > 0
    assert "not at hand" in both[1] and "not at hand" not in both[0]


def test_what_comes_from_outside_is_escaped(sets: tuple[Path, Path], tmp_path: Path) -> None:
    audit(sets[1], tmp_path / "audit.html", source=sets[0], fraction=1.0)
    text = (tmp_path / "audit.html").read_text()
    assert "a &lt;b&gt;rose&lt;/b&gt; &amp; &#34;fern&#34;" in text
    assert "<b>rose</b>" not in text and HOSTILE not in text and "\x1b" not in text
    assert "default-src 'none'" in text and "<script" not in text and " style=" not in text


def test_scores_can_be_chosen(sets: tuple[Path, Path], tmp_path: Path) -> None:
    told = audit(sets[1], tmp_path / "audit.html", scores=["aspect", "clip_score"])
    assert [line["score"] for line in told["scores"]] == ["aspect", "clip_score", "none"]
    assert told["correlation"]["aspect"]["clip_score"] is None  # it is the same for every pair
    with pytest.raises(InputError, match="no beauty"):
        audit(sets[1], tmp_path / "audit.html", scores=["beauty"])


def test_what_cannot_be_audited_is_refused(sets: tuple[Path, Path], tmp_path: Path) -> None:
    source, curated = sets
    page = tmp_path / "audit.html"
    with pytest.raises(SetError, match=r"is no curated set.*what retrieve made"):
        audit(source, page)
    with pytest.raises(SetError, match="was not made from"):
        audit(curated, page, source=curated)
    with pytest.raises(InputError, match="cannot write a page"):
        audit(curated, tmp_path)
    with pytest.raises(InputError, match="id,label"):
        (tmp_path / "truth.csv").write_text("name\nrose\n")
        audit(curated, page, truth=tmp_path / "truth.csv")
    table = pl.read_parquet(curated / "candidates.parquet")
    write_table(curated / "candidates.parquet", table.drop("clip_score", "caption_score"))
    with pytest.raises(SetError, match=r"nothing to audit.*saw aspect"):
        audit(curated, page)
    assert not page.exists()


def test_answers_of_the_labelling_page_are_a_truth(tmp_path: Path) -> None:
    said = tmp_path / "answers.csv"
    said.write_text(f"id,label\nw:1,oak\nw:2,{NONE}\nw:3,{SKIPPED}\nw:4,\n")
    pairs = pl.DataFrame({"id": [f"w:{i}" for i in range(1, 6)], "label": ["oak"] * 5})
    assert are_right(pairs, read_truth(said)).to_list() == [True, False, None, False, None]


def test_a_pair_without_a_label_can_be_wrong_but_not_right() -> None:
    pairs = pl.DataFrame(
        {"id": ["w:1", "w:2"], "label": [None, None]}, schema_overrides={"label": pl.String}
    )
    shown = pl.DataFrame({"id": ["w:1"], "label": ["oak"]})
    assert are_right(pairs, shown).to_list() == [False, None]
