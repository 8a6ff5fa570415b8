"""The verdict: intervals, calls and entries, against arms one can picture."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater import compare
from headwater.compare import compare_arms, holm, verdict_rows, verdict_sentence
from headwater.errors import InputError


def right(shares, images=1000):
    """One row a seed, of which the first images are right; the rest are wrong."""
    return np.arange(images) < np.array(shares)[:, None] * images


def coins(shares, *, images=1000, seed=0):
    rng = np.random.default_rng(seed)
    return np.array([rng.random(images) < share for share in shares])


def test_difference_is_that_of_the_mean_accuracies():
    result = compare_arms(right([0.9, 0.8]), right([0.5, 0.6, 0.7]))
    assert result.difference == pytest.approx(0.85 - 0.6)
    assert result.low < result.difference < result.high
    assert (result.seeds, result.test_images) == ((2, 3), 1000)


def test_the_same_seed_gives_the_same_numbers():
    a, b = coins([0.7] * 3), coins([0.6] * 3, seed=1)
    assert compare_arms(a, b, seed=4) == compare_arms(a, b, seed=4)
    assert compare_arms(a, b, seed=4).low != compare_arms(a, b, seed=5).low


def test_swapping_the_arms_turns_the_interval_round():
    a, b = coins([0.7, 0.75, 0.7]), coins([0.6] * 4, seed=1)
    there, back = compare_arms(a, b), compare_arms(b, a)
    assert back.difference == pytest.approx(-there.difference)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=0.004)


def test_images_only_agrees_with_a_plain_bootstrap():
    a, b = coins([0.7]), coins([0.6], seed=1)
    rng = np.random.default_rng(2)
    plain = []
    for _ in range(4000):
        again = rng.integers(0, 1000, 1000)
        plain.append(a[0][again].mean() - b[0][again].mean())
    result = compare_arms(a, b)
    assert (result.low, result.high) == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.003)


def test_pairing_by_image_narrows_the_interval():
    hard = coins([0.7])
    almost = hard.copy()
    almost[0, :10] = True
    paired = compare_arms(almost, hard)
    unpaired = compare_arms(almost, np.roll(hard, 500, axis=1))
    assert paired.high - paired.low < (unpaired.high - unpaired.low) / 3


def test_the_spread_of_few_seeds_is_distrusted():
    few = compare_arms(right([0.68, 0.7, 0.72], 10_000), right([0.6] * 3, 10_000))
    many = compare_arms(right([0.68, 0.7, 0.72] * 4, 10_000), right([0.6] * 12, 10_000))
    # Standard error 0.02 / sqrt(3) times Student's 4.30; a normal interval would say 0.045.
    assert few.high - few.low == pytest.approx(2 * 4.303 * 0.02 / 3**0.5, rel=0.1)
    assert many.high - many.low < (few.high - few.low) / 3


def test_more_images_do_not_hide_the_seeds():
    short = compare_arms(right([0.6, 0.7, 0.8], 1000), right([0.5] * 3, 1000))
    long = compare_arms(right([0.6, 0.7, 0.8], 100_000), right([0.5] * 3, 100_000))
    assert long.high - long.low == pytest.approx(short.high - short.low, rel=0.1)


def test_three_seeds_cover_the_truth():
    rng = np.random.default_rng(7)
    covered = 0
    for world in range(150):
        easy = rng.random(300)
        a, b = (easy < 0.5 + 0.05 * rng.standard_normal((3, 1)) for _ in "ab")
        result = compare_arms(a, b, seed=world)
        covered += result.low <= 0 <= result.high
    # A normal interval covers about 88 % = 132 of these worlds, this one more than 94 % = 141.
    assert covered >= 141


def test_arms_that_agree_on_few_images_are_not_called_matched():
    assert compare_arms(right([1.0] * 3, 20), right([1.0] * 3, 20)).call == "undecided"
    assert compare_arms(right([1.0] * 3, 2000), right([1.0] * 3, 2000)).call == "matched"


@pytest.mark.parametrize(
    ("low", "high", "call"),
    [
        (-0.01, 0.01, "matched"),
        (0.001, 0.009, "matched"),
        (0.001, 0.02, "better"),
        (-0.02, -0.001, "worse"),
        (-0.009, 0.02, "not worse"),
        (-0.02, 0.009, "not better"),
        (-0.02, 0.02, "undecided"),
        (0.0, 0.02, "not worse"),
    ],
)
def test_calls_in_their_order(low, high, call):
    assert compare._call(low, high, 0.01) == call


@given(st.lists(st.booleans(), min_size=2, max_size=60), st.data())
@settings(max_examples=40, deadline=None)
def test_interval_and_p_agree(first, data):
    second = data.draw(st.lists(st.booleans(), min_size=len(first), max_size=len(first)))
    result = compare_arms(np.array([first]), np.array([second]))
    assert result.low <= result.high
    assert 0 < result.p <= 1
    if result.p < 0.049:
        assert result.call in ("better", "worse", "matched")
    if result.p > 0.051:
        assert result.low <= 0 <= result.high


def test_one_seed_says_images_only():
    assert (
        "images only: the second arm has one seed"
        in compare_arms(right([0.5, 0.6]), right([0.5])).note
    )
    assert "both arms have one seed" in compare_arms(right([0.5]), right([0.5])).note
    assert compare_arms(right([0.5, 0.5]), right([0.4, 0.4])).note == ""


def test_a_match_with_a_direction_says_so():
    result = compare_arms(right([0.504], 50_000), right([0.5], 50_000))
    assert result.call == "matched"
    assert "slightly higher" in result.note


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (right([0.5]), right([0.5], 500), "expected 1000 images, as the first arm has, saw 500"),
        (np.zeros((0, 10), bool), right([0.5], 10), "the first arm is empty"),
        (right([0.5], 10), np.zeros((3, 0), bool), "the second arm is empty"),
        (np.ones((3, 10)), right([0.5], 10), "expected a boolean array"),
        (right([0.5], 10)[0], right([0.5], 10), "shape \\(10,\\)"),
    ],
)
def test_bad_input_is_named(a, b, words):
    with pytest.raises(InputError, match=words):
        compare_arms(a, b)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_agrees_with_its_definition(p):
    for own, adjusted in zip(p, holm(p), strict=True):
        smaller = [q for q in p if q <= own]
        plain = max(min(1, sum(r >= q for r in p) * q) for q in smaller)
        assert adjusted == pytest.approx(plain)


def study():
    """Two metrics, two scales, two arms and two reference lines."""
    correct = {}
    for metric, lift in (("zero_shot", 0.0), ("linear_probe", 0.1)):
        for scale in (100, 400):
            correct[metric, scale, "retrieved"] = right([0.7 + lift] * 3)
            correct[metric, scale, "synthetic"] = right([0.6 + lift] * 3)
        correct[metric, None, "off-the-shelf"] = right([0.55 + lift])
        correct[metric, 200, "labelled"] = right([0.8 + lift] * 3)
    return correct


PAIRS = [("retrieved", "synthetic"), ("retrieved", "off-the-shelf"), ("labelled", "off-the-shelf")]
LINES = ("off-the-shelf", "labelled")
PRIMARY = ("zero_shot", None, "retrieved", "synthetic")


def test_verdict_rows_compare_at_common_scales_and_with_references_at_all():
    rows = verdict_rows(study(), pairs=PAIRS, primary=PRIMARY, references=LINES)
    zero_shot = [(r["scale"], r["arm"], r["against"]) for r in rows if r["metric"] == "zero_shot"]
    assert zero_shot == [
        (100, "retrieved", "synthetic"),
        (400, "retrieved", "synthetic"),
        (100, "retrieved", "off-the-shelf"),
        (400, "retrieved", "off-the-shelf"),
        (200, "labelled", "off-the-shelf"),
    ]
    assert rows == verdict_rows(study(), pairs=PAIRS, primary=PRIMARY, references=LINES)
    assert json.loads(json.dumps(rows)) == rows


def test_the_primary_keeps_its_p_and_the_rest_share_the_correction():
    rows = verdict_rows(study(), pairs=PAIRS, primary=PRIMARY, references=LINES)
    primary = [row for row in rows if row["primary"]]
    assert [(row["metric"], row["scale"]) for row in primary] == [("zero_shot", 400)]
    assert primary[0]["p_holm"] == primary[0]["p"]
    rest = [row for row in rows if not row["primary"]]
    assert [row["p_holm"] for row in rest] == holm([row["p"] for row in rest])


def test_a_scale_that_only_one_arm_has_is_not_compared():
    correct = study()
    correct["zero_shot", 1600, "synthetic"] = right([0.9] * 3)
    rows = verdict_rows(correct, pairs=PAIRS[:1])
    assert {row["scale"] for row in rows} == {100, 400}


def test_a_primary_that_was_not_measured_marks_nothing():
    rows = verdict_rows(study(), pairs=PAIRS[:1], primary=("zero_shot", 999, *PAIRS[0]))
    assert not any(row["primary"] for row in rows)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pairs": [("retrieved", "mixed")]}, "expected an arm of labelled, off-the-shelf"),
        ({"pairs": PAIRS[1:2]}, "retrieved and off-the-shelf cannot be compared"),
        ({"pairs": PAIRS[:1], "primary": ("zero_shot", 1, "a", "b")}, "saw a / b"),
    ],
)
def test_bad_pairs_are_named(change, words):
    with pytest.raises(InputError, match=words):
        verdict_rows(study(), **change)


def test_every_call_has_its_sentence():
    entry = verdict_rows(study(), pairs=PAIRS[:1])[0]
    words = {
        "matched": "retrieved matches synthetic within 1 point",
        "better": "retrieved is better than synthetic",
        "worse": "retrieved is worse than synthetic",
        "not worse": "retrieved is at most 1 point worse than synthetic",
        "not better": "retrieved is at most 1 point better than synthetic",
        "undecided": "it is undecided whether retrieved or synthetic is better",
    }
    for call, claim in words.items():
        sentence = verdict_sentence(entry | {"call": call})
        assert sentence.startswith(f"At 100 images, {claim} in zero-shot accuracy: +10.0 points")
    small = verdict_sentence(entry | {"call": "matched", "low": -0.0004, "scale": None})
    assert small.startswith("retrieved matches")
    assert "interval +0.0 to" in small
