"""Which pairs of each class stay and why the others go, against a plain numpy version."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.curate.select import explain_top, keep_top
from headwater.errors import InputError

NAN = float("nan")
INF = float("inf")
SCORES = st.sampled_from([-1.0, 0.1, 0.2, 0.25, 0.3, 0.7, NAN, INF, -INF]) | st.floats(-1, 1)
LABELS = st.sampled_from([[0, 1, 2, 3], ["rose", "fern", "yew", "oak"], [-1, 7, 900, 901]])
FRACTIONS = st.none() | st.sampled_from([0.3, 0.5, 1 / 3, 2 / 3, 1.0]) | st.floats(0.001, 1)
CAPS = st.none() | st.integers(1, 45)
THRESHOLDS = st.none() | st.sampled_from([0.2, 0.25, 0.7]) | st.floats(-1, 1)
RULES = st.fixed_dictionaries({"fraction": FRACTIONS, "cap": CAPS, "threshold": THRESHOLDS})


@st.composite
def rated(draw, most=40):
    """Scores, float32 or float64, with the label of each."""
    names = draw(LABELS)
    rows = draw(st.lists(st.tuples(SCORES, st.sampled_from(names)), max_size=most))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    return np.array([score for score, _ in rows], dtype), [label for _, label in rows]


def plain_keep(scores, labels, *, fraction, cap, threshold):
    """The rules in the words of numpy, class by class; what is no number is no score."""
    labels = np.array(labels)
    keep = np.zeros(len(scores), bool)
    for label in set(labels.tolist()):
        mine = (labels == label) & np.isfinite(scores)
        members = scores[mine]
        if not len(members):
            continue
        kept = np.ones(len(members), bool)
        if fraction is not None:
            kept &= members >= np.percentile(members, 100 - 100 * fraction)
        if cap is not None and cap < len(members):
            kept &= members >= np.percentile(members, 100 - 100 * cap / len(members))
        if threshold is not None:
            kept &= members >= threshold
        keep[mine] = kept
    return keep


@given(rated(), RULES)
def test_keep_top_equals_the_plain_version(rows, rules):
    scores, labels = rows
    kept = keep_top(scores, labels, **rules)
    assert kept.dtype == bool
    np.testing.assert_array_equal(kept, plain_keep(scores, labels, **rules))
    reasons = explain_top(scores, labels, **rules)
    assert [reason is None for reason in reasons] == kept.tolist()
    unscored = [reason == "no score" for reason in reasons]
    assert unscored == (~np.isfinite(scores)).tolist()


@given(rated(), st.randoms(), RULES)
def test_the_order_of_rows_does_not_matter(rows, random, rules):
    scores, labels = rows
    order = list(range(len(labels)))
    random.shuffle(order)
    mixed = keep_top(scores[order], [labels[row] for row in order], **rules)
    assert mixed.tolist() == keep_top(scores, labels, **rules)[order].tolist()


@given(rated(), FRACTIONS, CAPS)
def test_every_class_with_a_score_keeps_its_best(rows, fraction, cap):
    scores, labels = rows
    kept = keep_top(scores, labels, fraction=fraction, cap=cap)
    for label in set(labels):
        mine = np.array([other == label for other in labels]) & np.isfinite(scores)
        assert not mine.any() or kept[mine][np.argmax(scores[mine])]


@given(rated(), st.integers(1, 45))
def test_a_cap_no_class_reaches_drops_nothing(rows, cap):
    scores, labels = rows
    kept = keep_top(scores, labels, fraction=None, cap=max(cap, len(labels)) or 1)
    assert kept.tolist() == np.isfinite(scores).tolist()


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


def test_labels_that_cannot_be_sorted_are_refused():
    with pytest.raises(InputError, match="labels of several kinds"):
        keep_top([0.1, 0.2], np.array(["rose", None], object))


def test_scores_that_are_whole_numbers_or_missing_are_fine():
    assert keep_top([3, 1, 2, 4], [0] * 4, fraction=0.5).tolist() == [True, False, False, True]
    assert explain_top([None, 0.5], ["rose"] * 2) == ["no score", None]


def test_a_threshold_may_be_larger_than_any_score() -> None:
    scores = np.array([0.5, 3e38], np.float32)
    with warnings.catch_warnings(action="error"):
        assert keep_top(scores, ["a", "a"], fraction=None, threshold=1e39).tolist() == [False] * 2
        assert keep_top(scores, ["a", "a"], fraction=None, threshold=-1e39).tolist() == [True] * 2
