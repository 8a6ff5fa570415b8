"""evaluate.py: every number against a count one can do by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import InputError
from headwater.evaluate import (
    METRICS,
    SCHEMA,
    accuracy,
    bootstrap_interval,
    mean_per_class,
    measure,
    per_class,
    predictions_table,
    top5,
    worst_class,
)

LETTERS = list("abcdefgh")


def table(truth: str, guesses: str) -> pl.DataFrame:
    """Predictions as two words: the true letters and the predicted ones."""
    scores = np.eye(len(LETTERS))[[LETTERS.index(guess) for guess in guesses]]
    return predictions_table([str(i) for i in range(len(truth))], list(truth), scores, LETTERS)


def test_a_row_says_what_was_seen_and_how_sure():
    logits = np.log([[0.2, 0.5, 0.3], [0.9, 0.05, 0.05]])
    made = predictions_table(["p", "q"], ["c", "a"], logits, ["a", "b", "c"])
    assert made.schema == SCHEMA
    assert made.drop("score").rows() == [("p", "c", "b", 2), ("q", "a", "a", 1)]
    np.testing.assert_allclose(made["score"], [0.5, 0.9], rtol=1e-6)


def test_huge_logits_are_sure_and_not_nan():
    made = predictions_table(["p"], ["a"], [[1e5, -1e5]], ["a", "b"])
    assert made["score"].to_list() == [1.0]


def test_metrics_by_hand():
    predictions = table("aaaabbc", "aaabbaa")
    assert accuracy(predictions) == pytest.approx(4 / 7)
    assert per_class(predictions).rows() == [("a", 4, 0.75), ("b", 2, 0.5), ("c", 1, 0.0)]
    assert mean_per_class(predictions) == pytest.approx((0.75 + 0.5 + 0) / 3)
    assert worst_class(predictions) == 0
    assert list(measure(predictions)) == list(METRICS)
    assert measure(predictions)["top1"] == accuracy(predictions)


def test_top5_counts_the_five_best_scored():
    scores = [[8, 7, 6, 5, 4, 3, 2, 1]] * 8
    predictions = predictions_table(LETTERS, LETTERS, scores, LETTERS)
    assert predictions["rank"].to_list() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert top5(predictions) == 5 / 8


@given(st.lists(st.lists(st.integers(0, 2), min_size=4, max_size=4), min_size=1, max_size=8))
def test_ranks_and_predictions_agree_also_on_ties(scores):
    labels = [LETTERS[i % 4] for i in range(len(scores))]
    predictions = predictions_table(
        [str(i) for i in range(len(scores))], labels, scores, LETTERS[:4]
    )
    for row, label, logits in zip(predictions.iter_rows(named=True), labels, scores, strict=True):
        order = sorted(range(4), key=lambda column: (-logits[column], column))
        assert row["predicted"] == LETTERS[order[0]]
        assert LETTERS[order[row["rank"] - 1]] == label
    assert accuracy(predictions) == (predictions["label"] == predictions["predicted"]).mean()


def plain_bootstrap(right: np.ndarray, resamples: int) -> tuple[float, float]:
    generator = np.random.default_rng(1)
    means = [generator.choice(right, len(right)).mean() for _ in range(resamples)]
    return tuple(np.quantile(means, [0.025, 0.975]))


def test_the_interval_is_that_of_drawing_images_anew():
    predictions = table("a" * 200, "a" * 150 + "b" * 50)
    right = np.array([1.0] * 150 + [0.0] * 50)
    low, high = bootstrap_interval(predictions)
    np.testing.assert_allclose((low, high), plain_bootstrap(right, 4000), atol=0.01)
    assert (low, high) == bootstrap_interval(predictions)
    assert bootstrap_interval(table("aaa", "aaa")) == (1.0, 1.0)
    narrow = bootstrap_interval(predictions, level=0.5)
    assert low < narrow[0] < 0.75 < narrow[1] < high


def test_images_without_labels_are_predicted_but_not_measured():
    predictions = predictions_table(["p"], None, [[0.0, 1.0]], ["a", "b"])
    assert predictions.select("label", "predicted", "rank").rows() == [(None, "b", None)]
    for metric in METRICS.values():
        with pytest.raises(InputError, match="1 of 1 without"):
            metric(predictions)


def test_no_images_make_an_empty_table_and_no_number():
    predictions = predictions_table([], [], np.zeros((0, 2)), ["a", "b"])
    assert predictions.schema == SCHEMA
    with pytest.raises(InputError, match="no images"):
        measure(predictions)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ids": ["p"]}, "predictions"),
        ({"labels": ["a"]}, "1 labels"),
        ({"labels": []}, "0 labels"),
        ({"scores": [[0.0, 1.0]]}, "scores"),
        ({"scores": [[0.0, np.nan], [0.0, 1.0]]}, "finite"),
        ({"labels": ["a", "z"]}, "saw z"),
        ({"class_labels": ["a"]}, "scores"),
    ],
)
def test_what_does_not_go_together_is_refused(change, says):
    given = {
        "ids": ["p", "q"], "labels": ["a", "b"],
        "scores": [[0.0, 1.0], [1.0, 0.0]], "class_labels": ["a", "b"],
    }  # fmt: skip
    with pytest.raises(InputError, match=says):
        predictions_table(**(given | change))
