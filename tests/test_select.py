"""Which pairs of each class stay and why the others go, against a plain numpy version."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.curate.select import explain_top, keep_top, subsample
from headwater.errors import InputError

NAN = float("nan")
SCORES = st.sampled_from([-1.0, 0.1, 0.2, 0.25, 0.3, NAN]) | st.floats(-1, 1, width=32)
ROWS = st.lists(st.tuples(SCORES, st.integers(0, 3)), max_size=40)
FRACTIONS = st.none() | st.sampled_from([0.3, 0.5, 1.0]) | st.floats(0.001, 1)
CAPS = st.none() | st.integers(1, 12)
THRESHOLDS = st.none() | st.sampled_from([0.2, 0.25]) | st.floats(-1, 1)


def plain_keep(scores, labels, *, fraction, cap, threshold):
    keep = np.zeros(len(scores), bool)
    for label in set(labels.tolist()):
        members = scores[(labels == label) & ~np.isnan(scores)]
        if not len(members):
            continue
        cuts = [-np.inf if threshold is None else threshold]
        if fraction is not None:
            cuts.append(np.percentile(members, 100 - 100 * fraction))
        if cap is not None:
            cuts.append(np.percentile(members, max(0, 100 - 100 * cap / len(members))))
        keep |= (labels == label) & (scores >= max(cuts))
    return keep


@given(ROWS, FRACTIONS, CAPS, THRESHOLDS)
def test_keep_top_equals_the_plain_version(rows, fraction, cap, threshold):
    scores = np.array([score for score, _ in rows])
    labels = np.array([label for _, label in rows], np.int64)
    rules = {"fraction": fraction, "cap": cap, "threshold": threshold}
    kept = keep_top(scores, labels, **rules)
    assert kept.dtype == bool
    np.testing.assert_array_equal(kept, plain_keep(scores, labels, **rules))
    reasons = explain_top(scores, labels, **rules)
    assert [reason is None for reason in reasons] == kept.tolist()


@given(ROWS, FRACTIONS, CAPS)
def test_every_class_with_a_score_keeps_its_best(rows, fraction, cap):
    scores = np.array([score for score, _ in rows])
    labels = np.array([label for _, label in rows], np.int64)
    kept = keep_top(scores, labels, fraction=fraction, cap=cap)
    for label in np.unique(labels):
        mine = (labels == label) & ~np.isnan(scores)
        assert not mine.any() or kept[mine][np.argmax(scores[mine])]


def test_reasons_name_the_first_rule_that_drops_a_row_and_its_cut():
    scores = [0.10, 0.20, 0.30, 0.40, 0.50, NAN, 0.05]
    labels = ["rose"] * 6 + ["tulip"]
    assert explain_top(scores, labels, fraction=0.5, cap=2, threshold=0.45) == [
        "below the top 50 % of its class (0.3)",
        "below the top 50 % of its class (0.3)",
        "over the cap of 2 (0.34)",
        "below 0.45",
        None,
        "no score",
        "below 0.45",
    ]


def test_a_large_cap_reads_well():
    scores = np.append(np.zeros(10_000), np.ones(10_000))
    reasons = explain_top(scores, np.zeros(20_000, int), fraction=None, cap=10_000)
    assert set(reasons[:10_000]) == {"over the cap of 10,000 (0.5)"}
    assert reasons[10_000:] == [None] * 10_000


def test_each_class_has_its_own_cut():
    scores = np.array([0.1, 0.2, 0.8, 0.9])
    assert keep_top(scores, ["a", "a", "b", "b"], fraction=0.5).tolist() == [False, True] * 2


def test_ties_at_the_cut_all_stay_even_over_the_cap():
    assert keep_top([0.5] * 4 + [0.1], [0] * 5, fraction=None, cap=2).tolist() == [True] * 4 + [
        False
    ]


def test_scores_without_a_number_are_no_members():
    kept = keep_top([0.1, 0.2, NAN, NAN, float("inf")], [0] * 5, fraction=0.5)
    assert kept.tolist() == [False, True, False, False, False]


def test_a_lone_member_and_an_empty_table_are_fine():
    assert keep_top([0.1], ["rose"]).tolist() == [True]
    assert keep_top([], []).tolist() == []
    assert explain_top([NAN], ["rose"]) == ["no score"]


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ({"fraction": 0}, "more than 0, at most 1, saw 0"),
        ({"fraction": 30}, "more than 0, at most 1, saw 30"),
        ({"cap": 0}, "a cap out of range"),
    ],
)
def test_rules_out_of_range_are_refused(rules, why):
    with pytest.raises(InputError, match=why):
        keep_top([0.1], ["rose"], **rules)


def test_every_score_needs_a_label():
    with pytest.raises(InputError, match="every score needs a label"):
        keep_top([0.1, 0.2], ["rose"])


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 5))
def test_budgets_of_a_seed_are_nested_and_draw_no_row_twice(small, extra, seed):
    few = subsample(200, small, seed=seed)
    many = subsample(200, small + extra, seed=seed)
    np.testing.assert_array_equal(few, many[:small])
    assert len(set(many.tolist())) == len(many) == small + extra


def test_seeds_draw_different_rows():
    assert set(subsample(1000, 20, seed=0)) != set(subsample(1000, 20, seed=1))


@pytest.mark.parametrize("n", [-1, 6])
def test_a_budget_beyond_the_set_is_refused(n):
    with pytest.raises(InputError, match=f"expected 0 to 5, saw {n}"):
        subsample(5, n, seed=0)
