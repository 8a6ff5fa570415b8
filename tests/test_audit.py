"""The filter audit on tables one can picture, each number against a plain version."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.curate.audit import (
    NONE,
    audit_scores,
    describe_audit,
    dropped_alone,
    kept_alone,
    misfits,
    overlap,
    places,
    rank_correlation,
    share_interval,
    wrong_but_high,
)
from headwater.curate.select import keep_top
from headwater.errors import InputError

# Ten roses. r0 shows the word "rose" on a mug: CLIP loves it, its own caption and eyes do not.
ROSES = pl.DataFrame(
    {
        "id": [f"r{i}" for i in range(10)],
        "label": ["rose"] * 10,
        "caption": ["mug"] + ["a rose"] * 9,
        "clip_score": [0.99, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1],
        "caption_score": [0.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1],
        "sharpness": [3.0, 90.0, 10.0, 70.0, 20.0, 80.0, 5.0, None, 2.0, 1.0],
        "right": [False, True, True, True, True, True, None, True, False, True],
    }
)
SCORES = ["clip_score", "caption_score", "sharpness"]


def ids(audit, rows):
    return audit.pairs["id"].gather(rows).to_list()


def test_every_score_keeps_its_own_best() -> None:
    audit = audit_scores(ROSES, SCORES, fraction=0.3)
    kept = {name: ids(audit, np.flatnonzero(rows)) for name, rows in audit.kept.items()}
    assert kept["clip_score"] == ["r0", "r1", "r2"]
    assert kept["caption_score"] == ["r1", "r2", "r3"]
    assert kept["sharpness"] == ["r1", "r3", "r5"]
    assert list(kept) == [*SCORES, NONE] and len(kept[NONE]) == 3


def test_a_line_a_score() -> None:
    told = describe_audit(audit_scores(ROSES, SCORES, fraction=0.3))
    assert (told["pairs"], told["classes"], told["known"], told["right"]) == (10, 1, 9, 7)
    lines = [{k: v for k, v in line.items() if k != "interval"} for line in told["scores"]]
    assert lines[:3] == [
        {"score": "clip_score", "kept": 3, "known": 3, "right": 2}
        | {"unscored": 0, "alone": 1, "missed": 1},
        {"score": "caption_score", "kept": 3, "known": 3, "right": 3}
        | {"unscored": 0, "alone": 0, "missed": 0},
        {"score": "sharpness", "kept": 3, "known": 3, "right": 3}
        | {"unscored": 1, "alone": 1, "missed": 1},
    ]
    assert told["overlap"]["clip_score"]["caption_score"] == 0.5
    assert told["overlap"]["clip_score"]["sharpness"] == 0.2
    assert told["overlap"]["sharpness"]["sharpness"] == 1


def test_the_known_failure_stands_first() -> None:
    """The wrong image with a high CLIP score leads every gallery that looks for it."""
    audit = audit_scores(ROSES, SCORES, fraction=0.3)
    assert ids(audit, misfits(audit, high="clip_score", low="caption_score")) == ["r0", "r2", "r1"]
    assert ids(audit, kept_alone(audit, "clip_score")) == ["r0", "r2", "r1"]
    assert ids(audit, wrong_but_high(audit, "clip_score")) == ["r0", "r8"]
    assert ids(audit, dropped_alone(audit, "clip_score"))[:2] == ["r3", "r5"]
    told = describe_audit(audit)
    kinds = [(gallery["kind"], gallery["score"]) for gallery in told["examples"]]
    assert kinds[:4] == [
        ("misfits", "clip_score"),
        ("wrong", "clip_score"),
        ("kept", "clip_score"),
        ("dropped", "clip_score"),
    ]
    first = told["examples"][0]["pairs"][0]
    assert (first["id"], first["caption"], first["right"]) == ("r0", "mug", False)
    assert first["kept_by"] == ["clip_score"]
    assert first["places"]["clip_score"] == 0.95 and first["places"]["caption_score"] == 0.05


def test_a_pair_without_a_score_is_never_kept_nor_counted() -> None:
    table = pl.DataFrame(
        {"id": list("abcd"), "label": ["oak"] * 4, "s": [None, float("nan"), 1.0, None]}
    )
    audit = audit_scores(table, ["s"], fraction=1.0)
    assert audit.kept["s"].tolist() == [False, False, True, False]
    assert audit.kept[NONE].all()
    assert describe_audit(audit)["scores"][0]["unscored"] == 3


def test_a_score_that_says_nothing_keeps_what_the_lot_keeps() -> None:
    """Ties go by lot, so a constant score is chance, not the order of ids."""
    table = pl.DataFrame({"id": [f"{i:02}" for i in range(40)], "label": ["oak", "elm"] * 20})
    audit = audit_scores(table.with_columns(s=pl.lit(7.0)), ["s"], fraction=0.4, seed=3)
    assert (audit.kept["s"] == audit.kept[NONE]).all()
    assert audit.kept[NONE].sum() == 16
    told = describe_audit(audit)
    assert told["correlation"]["s"]["s"] is None
    assert sum(told["histograms"]["s"]["all"]) == 40 and sum(told["histograms"]["s"]["kept"]) == 16


def test_the_order_of_the_rows_changes_nothing() -> None:
    told = describe_audit(audit_scores(ROSES, SCORES))
    assert describe_audit(audit_scores(ROSES.reverse(), SCORES)) == told


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 1)), min_size=1, max_size=30),
    st.sampled_from([0.1, 0.3, 0.5, 1.0]),
)
def test_without_ties_a_kept_set_is_that_of_keep_top(
    rows: list[tuple[str, float]], fraction: float
) -> None:
    labels = [label for label, _ in rows]
    values = np.random.default_rng(len(rows)).permutation(len(rows)).astype(float)
    table = pl.DataFrame(
        {"id": [f"{i:03}" for i in range(len(rows))], "label": labels, "s": values}
    )
    audit = audit_scores(table, ["s"], fraction=fraction)
    assert audit.kept["s"].tolist() == keep_top(values, labels, fraction=fraction).tolist()


def plain_ranks(values: np.ndarray) -> np.ndarray:
    """Average ranks from 1, by counting."""
    return np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=20))
def test_with_one_class_it_is_spearmans_rho(pairs: list[tuple[int, int]]) -> None:
    x, y = np.array(pairs, float).T
    found = rank_correlation(x, y, np.zeros(len(x)))
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert found is None
    else:
        expected = np.corrcoef(plain_ranks(x), plain_ranks(y))[0, 1]
        assert found == pytest.approx(expected, abs=1e-9)


def test_an_easy_class_does_not_make_scores_agree() -> None:
    """Both scores are high for one class; within each they say the opposite."""
    x = np.array([1.0, 2, 3, 11, 12, 13])
    y = np.array([3.0, 2, 1, 13, 12, 11])
    classes = np.array([0, 0, 0, 1, 1, 1])
    assert rank_correlation(x, y, classes) == -1
    assert rank_correlation(x, y, np.zeros(6)) > 0.5


def test_rows_with_one_of_two_scores_do_not_count() -> None:
    x = np.array([1.0, 2, 3, np.nan, 100])
    y = np.array([1.0, 2, 3, 4, np.nan])
    assert rank_correlation(x, y, np.zeros(5)) == 1
    assert rank_correlation(x, np.full(5, np.nan), np.zeros(5)) is None


def test_places_are_told_within_the_class() -> None:
    assert places(np.array([5.0, 1, 1, 7]), np.array([0, 0, 0, 1])).tolist() == pytest.approx(
        [5 / 6, 1 / 3, 1 / 3, 0.5]
    )


def test_two_empty_sets_have_no_overlap_to_tell() -> None:
    nothing = np.zeros(3, bool)
    assert overlap(nothing, nothing) is None
    assert overlap(nothing, ~nothing) == 0


def test_galleries_show_many_classes() -> None:
    table = pl.DataFrame(
        {
            "id": [f"{i:02}" for i in range(30)],
            "label": ["oak"] * 20 + ["elm"] * 10,
            "a": np.arange(30.0),
            "b": np.arange(30.0)[::-1],
        }
    )
    told = describe_audit(audit_scores(table, ["a", "b"]), shown=6)
    shown = [pair["label"] for pair in told["examples"][0]["pairs"]]
    assert len(shown) == 6 and shown[:4].count("elm") == 2


def test_with_one_score_there_is_nobody_to_disagree_with() -> None:
    told = describe_audit(audit_scores(ROSES.drop("right"), ["sharpness"]))
    assert told["examples"] == [] and told["known"] == 0
    assert told["scores"][0]["alone"] == 0


@pytest.mark.parametrize("scores", [[], ["beauty"]])
def test_scores_that_are_not_there_are_refused(scores: list[str]) -> None:
    with pytest.raises(InputError, match=r"cannot be audited.*Choose from id, label"):
        audit_scores(ROSES, scores)


@pytest.mark.parametrize("fraction", [0, 1.5])
def test_a_share_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(InputError, match="fraction out of range"):
        audit_scores(ROSES, SCORES, fraction=fraction)


def test_no_pairs_at_all() -> None:
    told = describe_audit(audit_scores(ROSES.clear(), SCORES))
    assert told["pairs"] == 0 and told["scores"][0]["kept"] == 0
    assert told["overlap"]["clip_score"]["sharpness"] is None


@pytest.mark.parametrize(("part", "whole"), [(0, 5), (5, 5), (3, 10), (370, 389)])
def test_the_interval_holds_the_shares_that_could_have_given_this(part: int, whole: int) -> None:
    """Wilson's ends are the shares from which what was seen is 1.96 deviations away."""
    low, high = share_interval(part, whole)
    for end in (low, high):
        if 0 < end < 1:
            deviation = np.sqrt(end * (1 - end) / whole)
            assert abs(part / whole - end) / deviation == pytest.approx(1.96, abs=1e-3)
    assert low <= part / whole <= high
    assert share_interval(0, 0) is None
