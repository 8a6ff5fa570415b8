"""The review page: which pairs are shown, what stands by each, and how large it may become."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny_curated import LOW, tiny_sets, tiny_task

from headwater.curate.examples import choose_examples, fit_classes, fit_examples, group_fates
from headwater.errors import InputError, SetError
from headwater.pairs import CANDIDATES
from headwater.report.review import Gallery, Picture, ReviewData, render_review
from headwater.steps.looking.review import review


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tiny_sets(tmp_path_factory.mktemp("sets"))


def written(sets: tuple[Path, Path], folder: Path, **how: Any) -> str:
    source, kept = sets
    review(kept, source, folder / "review.html", **how)
    return (folder / "review.html").read_text()


def marks(page: str) -> list[list[str]]:
    """The pairs that can be marked, in the order of the page."""
    return [
        json.loads(html.unescape(value))
        for value in re.findall(r'type="checkbox" value="(.*?)"', page)
    ]


def headings(page: str) -> list[str]:
    return [" ".join(html.unescape(h).split()) for h in re.findall(r"<h3>(.*?) <span", page)]


def fates(rows: Sequence[tuple[str, str | None, float | None]]) -> pl.DataFrame:
    """Pairs with a label, the gate that dropped them (None: kept) and a score."""
    return pl.DataFrame(
        {
            "id": [f"w:{number}" for number in range(len(rows))],
            "label": [label for label, _, _ in rows],
            "kept": [gate is None for _, gate, _ in rows],
            "step": [gate or "not_rejected" for _, gate, _ in rows],
            "score": pl.Series([score for *_, score in rows], dtype=pl.Float32),
            "copy_similarity": pl.Series([None] * len(rows), dtype=pl.Float32),
        },
        schema_overrides=dict.fromkeys(("id", "label", "step"), pl.String) | {"kept": pl.Boolean},
    )


gates = st.sampled_from([None, "clip_score", "no_copy"])
scores = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))


@given(
    rows=st.lists(st.tuples(st.sampled_from(["oak", "elm"]), gates, scores), max_size=40),
    examples=st.integers(1, 5),
)
def test_examples_are_those_a_plain_version_chooses(
    rows: list[tuple[str, str | None, float | None]], examples: int
) -> None:
    table = fates(rows)
    chosen = choose_examples(group_fates(table, ["clip_score"]), examples)
    found = {
        key: group["id"].to_list()
        for key, group in chosen.group_by("label", "gate", "scored", "part", maintain_order=True)
    }
    assert found == plain_examples(table.to_dicts(), examples)


def plain_examples(rows: list[dict[str, Any]], examples: int) -> dict[Any, list[str]]:
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        gate = None if row["kept"] else row["step"]
        scored = gate != "clip_score" or row["score"] is not None
        groups.setdefault((row["label"], gate, scored), []).append(row)
    chosen: dict[Any, list[str]] = {}
    for (label, gate, scored), group in groups.items():
        value = {r["id"]: None if gate == "no_copy" else r["score"] for r in group}
        order = sorted(value, key=lambda i: (value[i] is None, -(value[i] or 0), i))
        start = (len(order) - examples) // 2
        middle = range(start, start + examples)
        for place, one in enumerate(order):
            part = "first" if place < examples else None
            if gate is None:
                many = len(order) > 3 * examples
                part = "first" if place < 3 * examples else None
                if many and value[one] is not None:
                    part = "best" if place < examples else "middle" if place in middle else None
                    part = "worst" if place >= len(order) - examples else part
            if part:
                chosen.setdefault((label, gate, scored, part), []).append(one)
    return chosen


def test_many_classes_get_fewer_examples_and_then_fewer_classes() -> None:
    rows = [(label, None, 0.5) for label in map(str, range(50)) for _ in range(20)]
    grouped = group_fates(fates(rows), [])
    assert fit_examples(grouped, 6, pictures=50 * 18) == 6
    assert fit_examples(grouped, 6, pictures=50 * 18 - 1) == 5
    assert fit_examples(grouped, 6, pictures=10) == 1
    chosen = choose_examples(grouped, 1)
    assert fit_classes(chosen, list(map(str, range(50))), pictures=31) == list(map(str, range(10)))


def test_every_fate_has_its_gallery(sets: tuple[Path, Path], tmp_path: Path) -> None:
    page = written(sets, tmp_path, task=tiny_task(tmp_path))
    assert headings(page) == [
        "Kept",
        "Just below: clip_score",
        "Without a score: clip_score",
        "Copies, beside the evaluation image",
        "Rejected by hand",
        "Kept",
        "Cannot be decoded",
        "Just below: clip_score",
    ]
    shown = [pair for pair, _ in marks(page)]
    assert shown == [
        "w:r0", "w:r1", "w:r4", "w:r5", "w:r6", "w:r7", "w:r2", "w:r3", "w:f0", "w:broken", "w:r0",
    ]  # fmt: skip
    assert marks(page)[-1] == ["w:r0", "fern"]
    assert "3 of 11 pairs stay." in page
    assert "1 pairs fell before curation" in page
    assert "No pair of this class came this far." in page  # moss
    assert page.count(html.escape(LOW)) == 4
    for text in ("copy of test/rose/1.png (0.970)", "rejected by hand", "no score", "0.900"):
        assert text in page
    assert page.count("<img ") == 11 - 1 + 1  # one cannot be decoded, one stands beside its copy
    assert page.count("data:image/jpeg;base64,") == 11


def test_a_duplicate_stands_beside_the_one_that_stays(tmp_path: Path) -> None:
    source, kept = tiny_sets(tmp_path)
    decisions = pl.read_parquet(kept / "decisions.parquet")
    twin = pl.col("id") == "w:r3"
    decisions.with_columns(
        step=pl.when(twin).then(pl.lit("no_duplicate")).otherwise("step"),
        reason=pl.when(twin).then(pl.lit("duplicate of w:r1")).otherwise("reason"),
    ).write_parquet(kept / "decisions.parquet")
    counts = json.loads((kept / "funnel.json").read_text())
    counts["steps"][-1] = "no_duplicate"
    for row in counts["classes"].values():
        row["no_duplicate"] = row["not_rejected"]
    (kept / "funnel.json").write_text(json.dumps(counts))
    page = written((source, kept), tmp_path, task=tiny_task(tmp_path))
    assert "Duplicates, beside the one that stays" in headings(page)
    assert "beside <bdi>w:r1</bdi>" in page
    assert page.count('<li class="tile double">') == 2  # the other is the copy


def test_small_pictures_where_there_are_many(
    sets: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.steps.looking.review.SMALL", 8)
    few = written(sets, tmp_path)
    monkeypatch.setattr("headwater.steps.looking.review.FEW", 3)
    assert len(written(sets, tmp_path)) < len(few)


def test_without_a_task_copies_stand_alone(sets: tuple[Path, Path], tmp_path: Path) -> None:
    page = written(sets, tmp_path)
    assert "Copies, beside" in page
    assert page.count('<span class="blank">no picture</span>') == 2


def test_a_match_is_marked_in_a_caption_from_anywhere(
    sets: tuple[Path, Path], tmp_path: Path
) -> None:
    page = written(sets, tmp_path)
    assert "a red <mark>rose</mark></bdi>" in page
    assert "ro\u00ebse <mark>rose</mark>" in page
    assert "a &lt;b&gt;<mark>rose</mark>&lt;/b&gt; &amp; &#34;fern&#34; [31m" in page
    assert "\x1b" not in page


def test_the_page_is_the_same_each_time_and_asks_nobody(
    sets: tuple[Path, Path], tmp_path: Path
) -> None:
    page = written(sets, tmp_path)
    assert page == written(sets, tmp_path)
    outside = re.findall(r'(?:src|href)="(?!data:|#)([^"]*)"', page)
    assert outside == []
    assert page.count("<script") == 1
    assert re.search(r"script-src 'sha256-[\w+/=]{44}';", page)
    assert str(tmp_path) not in page


def test_what_is_left_out_is_said(sets: tuple[Path, Path], tmp_path: Path) -> None:
    source, kept = sets
    told = review(kept, source, tmp_path / "one.html", examples=3, pictures=8)
    assert told == {"classes": 3, "shown": 1, "pictures": 6, "examples": 1}
    page = (tmp_path / "one.html").read_text()
    assert "1 instead of 3 pictures of a kind are shown: a page holds 8." in page
    assert "2 classes are only counted: there is no more room." in page
    assert "1 of 3 shown" in page
    assert page.count('<section class="class"') == 1
    assert page.count("<tr><th>") + page.count('<tr class="none"><th>') == 1 + 3


def test_a_set_it_was_not_made_from_is_refused(sets: tuple[Path, Path], tmp_path: Path) -> None:
    source, kept = sets
    with pytest.raises(SetError, match="kept was not made from"):
        review(kept, kept, tmp_path / "page.html")
    with pytest.raises(SetError, match=r"sourced is no curated set: expected candidates\.parquet"):
        review(source, source, tmp_path / "page.html")
    with pytest.raises(InputError, match="cannot write a page"):
        review(kept, source, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_set_without_rules_is_shown_as_it_is(tmp_path: Path) -> None:
    source, kept = tiny_sets(tmp_path)
    table = pl.read_parquet(kept / CANDIDATES)
    table.drop("clip_score", "aspect").write_parquet(kept / CANDIDATES)
    decisions = pl.read_parquet(kept / "decisions.parquet")
    nothing = decisions.with_columns(score=pl.lit(None, pl.Float32))
    nothing.write_parquet(kept / "decisions.parquet")
    review(kept, source, tmp_path / "page.html", examples=1)
    assert headings((tmp_path / "page.html").read_text())[0] == "Kept"


def test_an_id_of_any_characters_comes_back_whole() -> None:
    strange = ["=1+1", 'a"b', "<x>", "a\rb\n\x1b[31m", "  two  spaces ", "\u202eabc", "\U0001f338"]
    pictures = [Picture(id=text, label=text[::-1], image=None) for text in strange]
    page = render_review(toy({"rose": [Gallery("Kept", len(pictures), pictures)]}))
    assert marks(page) == [[text, text[::-1]] for text in strange]
    assert "\x1b" not in page and "\u202e" not in page and "<x>" not in page


def toy(galleries: dict[str, list[Gallery]], *, classes: int = 1) -> ReviewData:
    counts = {label: {"pixels": 4, "clip_score": 2} for label in galleries}
    counts |= {f"class {number}": {"pixels": 0, "clip_score": 0} for number in range(classes - 1)}
    return ReviewData(
        title="toy", key="k", steps=["pixels", "clip_score"], counts=counts, names={},
        galleries=galleries,
    )  # fmt: skip


def test_a_thousand_classes_are_in_the_index() -> None:
    page = render_review(toy({"rose": []}, classes=1000))
    assert "940 more classes" in page
    assert page.count('<tr class="none"><th>') == 999
    assert 'href="#class-0"' in page and 'href="#class-1"' not in page
