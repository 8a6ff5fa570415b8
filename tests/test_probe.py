"""probe.py: the solution held against scikit-learn, its own gradient, and a plain descent."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from headwater.adapt.probe import STRENGTHS, TOLERANCE, fit_logistic, linear_probe
from headwater.errors import InputError

torch.set_num_threads(1)  # problems this small lose more to waiting for threads than they gain


def clouds(n: int, *, d: int = 8, classes: int = 4, seed: int = 0, spread: float = 1.0):
    """Clouds around one point a class, on the unit sphere and away from its center."""
    generator = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(classes, d))
    y = generator.integers(0, classes, n)
    x = centers[y] + spread * generator.normal(size=(n, d)) + 2
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), y


def solve(x, y, *, strength: float, classes: int | None = None) -> torch.Tensor:
    x, y = torch.tensor(x, dtype=torch.float64), torch.tensor(y)
    classes = classes or int(y.max()) + 1
    return fit_logistic(x, y, strengths=[strength], classes=classes)[0]


def objective(head: torch.Tensor, x, y, strength: float) -> torch.Tensor:
    x, y = torch.tensor(x, dtype=torch.float64), torch.tensor(y)
    loss = torch.nn.functional.cross_entropy(x @ head[:, :-1].T + head[:, -1], y)
    return loss + strength / 2 / len(x) * (head[:, :-1] ** 2).sum()


@pytest.mark.parametrize("strength", [10.0, 1.0, 0.1, 0.01])
@pytest.mark.parametrize("classes", [2, 5])
def test_it_is_scikit_learns_logistic_regression(strength, classes):
    x, y = clouds(150, classes=classes)
    model = LogisticRegression(C=(2 if classes == 2 else 1) / strength, tol=1e-10, max_iter=10_000)
    theirs = model.fit(x.astype(np.float64), y).predict_proba(x)
    ours = linear_probe(x, y, x, strengths=[strength]).scores.astype(np.float64)
    ours = np.exp(ours - ours.max(axis=1, keepdims=True))
    np.testing.assert_allclose(ours / ours.sum(axis=1, keepdims=True), theirs, atol=2e-4)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(2, 40), d=st.integers(1, 12), classes=st.integers(2, 5),
    strength=st.sampled_from(STRENGTHS), spread=st.sampled_from([0.1, 1.0]), seed=st.integers(0, 9),
)  # fmt: skip
def test_nothing_is_left_to_gain(n, d, classes, strength, seed, spread):
    x, y = clouds(n, d=d, classes=classes, seed=seed, spread=spread)
    head = solve(x, y, strength=strength, classes=classes).requires_grad_()
    objective(head, x, y, strength).backward()
    # Features are at most one long, so the plain gradient is no larger than the scaled one.
    assert head.grad.abs().max() < 3 * TOLERANCE


def test_a_plain_descent_gets_there_too():
    x, y = clouds(60)
    inputs = np.concatenate([x, np.ones((60, 1))], axis=1)
    head = np.zeros((4, 9))
    for _ in range(2000):
        odds = np.exp(inputs @ head.T)
        error = odds / odds.sum(axis=1, keepdims=True) - np.eye(4)[y]
        head -= 1.5 * (error.T @ inputs / 60 + 1.0 / 60 * head * ([1] * 8 + [0]))
    np.testing.assert_allclose(solve(x, y, strength=1.0), head, atol=1e-3)


def test_strengths_solved_together_are_those_solved_alone():
    x, y = clouds(80)
    tensors = torch.tensor(x, dtype=torch.float64), torch.tensor(y)
    together = fit_logistic(*tensors, strengths=STRENGTHS[:4], classes=4)
    for strength, head in zip(STRENGTHS, together, strict=False):
        np.testing.assert_allclose(head, solve(x, y, strength=strength), rtol=1e-2, atol=1e-3)


def test_the_strength_is_chosen_on_val_the_strongest_of_equals():
    x, y = clouds(60, d=30, spread=2.0)
    val_x, val_y = clouds(60, d=30, spread=2.0, seed=1)
    accuracies = {}
    for strength in STRENGTHS:
        head = solve(x, y, strength=strength).numpy()
        guesses = (val_x @ head[:, :-1].T + head[:, -1]).argmax(axis=1)
        accuracies[strength] = float((guesses == val_y).mean())
    best = max(accuracies, key=lambda s: (accuracies[s], s))
    probe = linear_probe(x, y, val_x, val_x=val_x, val_y=val_y, strengths=STRENGTHS[::-1])
    assert len(set(accuracies.values())) > 1
    assert (probe.strength, probe.val_accuracy) == (best, accuracies[best])
    assert (probe.val_scores.argmax(axis=1) == val_y).mean() == probe.val_accuracy


def test_the_head_for_the_test_may_learn_from_val_too():
    (x, y), (val_x, val_y), (test_x, _) = (clouds(50, seed=seed) for seed in range(3))
    held = {"val_x": val_x, "val_y": val_y}
    alone = linear_probe(x, y, test_x, **held, refit=False)
    both = linear_probe(x, y, test_x, **held)
    s = both.strength
    joined = solve(np.concatenate([x, val_x]), np.concatenate([y, val_y]), strength=s).numpy()
    np.testing.assert_allclose(both.weights, joined[:, :-1], rtol=1e-6)
    np.testing.assert_allclose(both.bias, joined[:, -1], rtol=1e-6)
    np.testing.assert_allclose(alone.weights, solve(x, y, strength=s)[:, :-1], rtol=1e-2, atol=1e-2)
    for probe in (alone, both):
        scores = test_x @ probe.weights.T + probe.bias
        np.testing.assert_allclose(probe.scores, scores, atol=1e-4)
        np.testing.assert_array_equal(probe.predictions, scores.argmax(axis=1))
    np.testing.assert_array_equal(alone.val_scores, both.val_scores)


def test_without_val_folds_of_train_choose():
    x, y = clouds(90, d=30, spread=2.0)
    probe = linear_probe(x, y, x, seed=3)
    again = linear_probe(x, y, x, seed=3)
    assert probe.val_scores is None
    assert 0.3 < probe.val_accuracy < (probe.predictions == y).mean()
    np.testing.assert_array_equal(probe.scores, again.scores)
    np.testing.assert_allclose(
        probe.weights, solve(x, y, strength=probe.strength)[:, :-1], rtol=0.05, atol=0.05
    )


def test_the_same_arguments_give_the_same_bits():
    (x, y), (val_x, val_y) = clouds(70), clouds(40, seed=1)
    first, again = (linear_probe(x, y, x, val_x=val_x, val_y=val_y) for _ in range(2))
    assert first.weights.tobytes() == again.weights.tobytes()
    assert first.scores.tobytes() == again.scores.tobytes()
    assert first.scores.dtype == first.weights.dtype == np.float32


def test_a_class_without_images_is_never_guessed():
    x, y = clouds(60, classes=3)
    probe = linear_probe(x, y * 2, x, classes=6)  # classes 1, 3 and 5 have none
    assert probe.scores.shape == (60, 6)
    assert set(probe.predictions) <= {0, 2, 4}
    assert (probe.predictions == y * 2).mean() > 0.5


def test_little_data_still_gives_an_answer():
    one = linear_probe([[1.0, 0.0]], [1], [[0.5, 0.5]], classes=3)
    assert one.predictions.tolist() == [1]
    assert one.strength == max(STRENGTHS)
    flat = linear_probe(np.ones((6, 3)), [0, 0, 0, 0, 1, 1], np.ones((2, 3)))
    assert flat.predictions.tolist() == [0, 0]
    assert linear_probe([[0.0], [1.0]], [0, 1], np.zeros((0, 1))).predictions.shape == (0,)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"train_x": np.zeros((0, 2)), "train_y": []}, "at least one image"),
        ({"train_x": [1.0, 2.0]}, r"finite \(n, d\)"),
        ({"train_x": [[np.nan, 1.0], [0.0, 1.0]]}, "finite"),
        ({"train_y": [0]}, "2 class indices"),
        ({"train_y": [0.0, 1.0]}, "2 class indices"),
        ({"train_y": [0, -1]}, "2 class indices"),
        ({"test_x": [[1.0, 2.0, 3.0]]}, r"finite \(n, 2\)"),
        ({"val_x": [[1.0, 2.0]]}, "val labels"),
        ({"val_y": [0]}, "val features"),
        ({"classes": 1}, "0 to 0"),
    ],
)
def test_what_does_not_go_together_is_refused(change, says):
    given = {"train_x": [[0.0, 1.0], [1.0, 0.0]], "train_y": [0, 1], "test_x": [[1.0, 1.0]]}
    with pytest.raises(InputError, match=says):
        linear_probe(**(given | change))
