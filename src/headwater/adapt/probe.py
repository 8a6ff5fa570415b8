"""The linear probe: an exact logistic regression on frozen features.

All strengths are solved at once, as one batched product a step, by L-BFGS in coordinates in which
the curvature is bounded by one. That makes a probe cheap enough to take after every epoch.

For features x (n, d), labels y and strength s it minimizes over W (classes, d) and b (classes,)

    sum cross_entropy(W x + b, y)  +  s / 2 * |W|^2

which is scikit-learn's LogisticRegression at C = 1 / s (C = 2 / s for two classes, where
scikit-learn counts one row of weights and not two).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from headwater.errors import InputError

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

STRENGTHS = (10.0, 1.0, 0.1, 0.01)
FOLDS = 5  # of train, to choose the strength where there is no val
HISTORY = 5  # steps L-BFGS remembers
ITERATIONS = 500
TOLERANCE = 1e-5  # largest entry of the gradient of the mean, where curvature is at most one
HALVINGS = 20


@dataclass(frozen=True)
class Probe:
    """A linear classifier on frozen features, and what it says about the test images.

    Attributes:
        weights, bias: (classes, d) and (classes,) float32.
        strength: the regularization chosen.
        scores: (n_test, classes) float32 logits.
        val_scores: (n_val, classes) of the head trained on train alone; None without val.
        val_accuracy: that head's accuracy on val; without val that of cross-validation on train.
    """

    weights: Floats
    bias: Floats
    strength: float
    scores: Floats
    val_scores: Floats | None
    val_accuracy: float

    @property
    def predictions(self) -> Ints:
        """Class index of every test image (n_test,)."""
        predictions: Ints = self.scores.argmax(axis=1)
        return predictions


def linear_probe(
    train_x: npt.ArrayLike,
    train_y: npt.ArrayLike,
    test_x: npt.ArrayLike,
    *,
    val_x: npt.ArrayLike | None = None,
    val_y: npt.ArrayLike | None = None,
    classes: int | None = None,
    strengths: Sequence[float] = STRENGTHS,
    refit: bool = True,
    seed: int = 0,
) -> Probe:
    """Train a linear classifier on features and apply it to test features.

    The strength with the best accuracy on val is chosen, the strongest of equals. Then the head is
    trained again on train and val together, as the paper does for the test (PAPER.md section 6).

    Args:
        train_x, test_x, val_x: (n, d) features, usually L2-normalized.
        train_y, val_y: (n,) class indices.
        classes: how many classes there are; by default as many as the labels name.
        strengths: of the regularization, to choose from; scikit-learn's 1 / C.
        refit: whether val joins train once the strength is chosen.
        seed: of the folds that choose the strength where there is no val; nothing else is random.

    Raises:
        InputError: features and labels that do not go together, or no training image.

    Example:
        >>> x, y = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]], [0, 0, 1, 1]
        >>> probe = linear_probe(x, y, [[0.8, 0.2], [0.2, 0.8]], val_x=x, val_y=y)
        >>> probe.predictions, probe.val_accuracy
        (array([0, 1]), 1.0)
    """
    x, y = _labelled(train_x, train_y, "train")
    test = _features(test_x, "test", dim=x.shape[1])
    has_val = val_x is not None or val_y is not None
    held_x, held_y = _labelled(val_x, val_y, "val", dim=x.shape[1]) if has_val else (x[:0], y[:0])
    named = int(torch.cat([y, held_y]).max()) + 1
    if classes is not None and named > classes:
        raise InputError("labels", expected=f"0 to {classes - 1}", seen=str(named - 1))
    classes = classes or named

    ordered = sorted(strengths, reverse=True)
    heads = fit_logistic(x, y, strengths=ordered, classes=classes)
    if has_val:
        val_scores = torch.stack([_apply(head, held_x) for head in heads])
        accuracies = (val_scores.argmax(dim=2) == held_y).double().mean(dim=1)
    else:
        accuracies = _cross_validate(x, y, strengths=ordered, classes=classes, seed=seed)
    best = int(accuracies.argmax())  # the first of equals: the strongest
    head = heads[best]
    if has_val and refit:
        both = torch.cat([x, held_x]), torch.cat([y, held_y])
        head = fit_logistic(*both, strengths=ordered[best : best + 1], classes=classes)[0]
    return Probe(
        weights=_float32(head[:, :-1]),
        bias=_float32(head[:, -1]),
        strength=ordered[best],
        scores=_float32(_apply(head, test)),
        val_scores=_float32(val_scores[best]) if has_val else None,
        val_accuracy=float(accuracies[best]),
    )


def fit_logistic(x: Tensor, y: Tensor, *, strengths: Sequence[float], classes: int) -> Tensor:
    """The exact solution for every strength: (strengths, classes, d + 1), the bias last.

    Args:
        x: (n, d) float64.
        y: (n,) class indices.
        strengths: all greater than 0.
        classes: number of rows of every head.
    """
    n, d = x.shape
    mean = x.mean(dim=0)
    # The Hessian is at most x'x / 2 + penalty, whatever the weights (Böhning 1992): along the
    # eigenvectors of x'x, divided by the root of that, its curvature is at most one.
    curvature, basis = torch.linalg.eigh((x - mean).T @ (x - mean) / n)
    rotated = torch.cat([(x - mean) @ basis, x.new_ones(n, 1)], dim=1)
    # Everything below is divided by n, so that the scale of the problem does not depend on it.
    penalty = torch.tensor(list(strengths), dtype=x.dtype)[:, None, None].repeat(1, d + 1, 1) / n
    penalty[:, d] = 0  # the bias is free
    bound = torch.cat([curvature.clamp(min=0), x.new_ones(1)])[:, None] / 2 + penalty
    scale = bound.rsqrt()  # (strengths, d + 1, 1)
    hit = torch.nn.functional.one_hot(y, classes).to(x.dtype)[:, None, :]

    def value_and_gradient(flat: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        weights = flat.view(-1, d + 1, classes) * scale[which]
        logits = (rotated @ weights.transpose(0, 1).reshape(d + 1, -1)).view(n, -1, classes)
        log_p = logits.log_softmax(dim=2)
        weighted = penalty[which] * weights
        value = (weighted * weights).sum(dim=(1, 2)) / 2 - (log_p * hit).sum(dim=(0, 2)) / n
        error = ((log_p.exp() - hit) / n).view(n, -1)
        slope = (rotated.T @ error).view(d + 1, -1, classes).transpose(0, 1) + weighted
        return value, (slope * scale[which]).reshape(len(flat), -1)

    start = x.new_zeros(len(strengths), (d + 1) * classes)
    weights = minimize(value_and_gradient, start).view(-1, d + 1, classes) * scale
    turned = basis @ weights[:, :d]
    bias = weights[:, d] - (mean @ turned)
    return torch.cat([turned.transpose(1, 2), bias[:, :, None]], dim=2)


def minimize(
    value_and_gradient: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], start: Tensor
) -> Tensor:
    """Minimize many smooth convex functions side by side by L-BFGS: (problems, p) to the same.

    Every problem has its own memory and its own step, and leaves when it is done; one evaluation
    serves all that are left. The functions are to be scaled so that their curvature is at most
    about one: then a full step is a good first guess, and halving it enough of a line search.

    Args:
        value_and_gradient: points (k, p) and which problems they belong to (k,) -> (k,) and (k, p).
        start: where to begin.
    """
    solved = start.clone()
    left = torch.arange(len(start))
    point, (value, gradient) = start, value_and_gradient(start, left)
    memory: list[tuple[Tensor, Tensor, Tensor]] = []
    for _ in range(ITERATIONS):
        unsolved = gradient.abs().amax(dim=1) > TOLERANCE
        if not unsolved.all():
            left, point, value, gradient = (t[unsolved] for t in (left, point, value, gradient))
            memory = [(s[unsolved], b[unsolved], p[unsolved]) for s, b, p in memory]
        if not len(left):
            break
        direction = -_times_inverse_hessian(gradient, memory)
        new_point, new_value, new_gradient = _line_search(
            value_and_gradient, left, point, value, gradient, direction
        )
        change, bend = new_point - point, new_gradient - gradient
        memory = [*memory[1 - HISTORY :], (change, bend, (change * bend).sum(dim=1))]
        point, value, gradient = new_point, new_value, new_gradient
        solved[left] = point
    return solved


def _line_search(
    value_and_gradient: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    left: Tensor,
    point: Tensor,
    value: Tensor,
    gradient: Tensor,
    direction: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    slope = (direction * gradient).sum(dim=1)
    step = torch.ones_like(slope)
    for _ in range(HALVINGS):
        new_point = point + step[:, None] * direction
        new_value, new_gradient = value_and_gradient(new_point, left)
        worse = new_value > value + 1e-4 * step * slope
        if not worse.any():
            break
        step = torch.where(worse, step / 2, step)
    # A problem that no step makes better is at the limit of float64: it counts as solved.
    return new_point, new_value, torch.where(worse[:, None], 0.0, new_gradient)


def _times_inverse_hessian(gradient: Tensor, memory: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """L-BFGS's two loops (Nocedal and Wright, algorithm 7.4), one row a problem."""
    result = gradient
    shares = []
    for change, bend, product in reversed(memory):
        share = _ratio((change * result).sum(dim=1), product)
        result = result - share[:, None] * bend
        shares.append(share)
    if memory:
        _, bend, product = memory[-1]
        scale = product / (bend * bend).sum(dim=1)
        result = result * torch.where(product > 0, scale, torch.ones_like(scale))[:, None]
    for (change, bend, product), share in zip(memory, reversed(shares), strict=True):
        other = _ratio((bend * result).sum(dim=1), product)
        result = result + (share - other)[:, None] * change
    return result


def _ratio(top: Tensor, bottom: Tensor) -> Tensor:
    """`top / bottom`; 0 for a problem that has stopped, whose steps are all zero."""
    return torch.where(bottom > 0, top / bottom, torch.zeros_like(top))


def _apply(head: Tensor, x: Tensor) -> Tensor:
    return x @ head[:, :-1].T + head[:, -1]


def _cross_validate(
    x: Tensor, y: Tensor, *, strengths: Sequence[float], classes: int, seed: int
) -> Tensor:
    """Accuracy of every strength on the images each of its folds left out."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    right = torch.zeros(len(strengths), dtype=torch.float64)
    for held in torch.tensor_split(order, min(FOLDS, len(x))):
        rest = torch.ones(len(x), dtype=torch.bool).index_fill(0, held, False)
        if not rest.any():  # a single image: nothing to choose by
            break
        heads = fit_logistic(x[rest], y[rest], strengths=strengths, classes=classes)
        scores = torch.stack([_apply(head, x[held]) for head in heads])
        right += (scores.argmax(dim=2) == y[held]).sum(dim=1)
    return right / len(x)


def _labelled(
    x: npt.ArrayLike | None, y: npt.ArrayLike | None, what: str, *, dim: int | None = None
) -> tuple[Tensor, Tensor]:
    features, labels = _features(x, what, dim=dim), np.asarray(y)
    n = len(features)
    if n == 0 or labels.shape != (n,) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise InputError(
            f"{what} labels",
            expected=f"{n:,} class indices" if n else "at least one image",
            seen=f"{labels.dtype} {labels.shape}",
        )
    return features, torch.tensor(labels.astype(np.int64))


def _features(x: npt.ArrayLike | None, what: str, *, dim: int | None) -> Tensor:
    array = np.asarray(x, np.float64)
    if array.ndim != 2 or dim not in (None, array.shape[1]) or not np.isfinite(array).all():
        raise InputError(
            f"{what} features", expected=f"finite (n, {dim or 'd'})", seen=f"{array.shape}"
        )
    return torch.tensor(array)


def _float32(values: Tensor) -> Floats:
    array: Floats = values.to(torch.float32).numpy().copy()
    return array
