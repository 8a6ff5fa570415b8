"""head.py: the starting head, held against CLIP's own logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.tiny_clip import tinted_images, tiny_clip

from headwater.adapt.head import zero_shot_head
from headwater.errors import InputError


def test_one_template_gives_clips_own_logits():
    clip, names = tiny_clip(), ["rose", "fern", "moss"]
    images = tinted_images(5)[0]
    head = zero_shot_head(clip.class_text_features(names, ["a {}"]), clip.logit_scale)
    tokens = clip.tokens([f"a {name}" for name in names])
    with torch.no_grad():
        logits, _ = clip.model.get_logits(clip.pixels(images), tokens)
    np.testing.assert_allclose(clip.encode_images(images) @ head.T, logits, atol=1e-4)


def test_long_texts_count_no_more_than_short_ones():
    features = np.array([[[100.0, 0.0], [0.0, 1.0]]])
    np.testing.assert_allclose(zero_shot_head(features, 0.0), [[0.5**0.5, 0.5**0.5]], rtol=1e-6)


def test_rows_are_as_long_as_the_logit_scale_says():
    features = np.random.default_rng(0).normal(size=(4, 3, 8))
    head = zero_shot_head(features, np.log(100))
    assert head.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(head, axis=1), 100, rtol=1e-5)


def plain_head(features: np.ndarray, scale: float) -> np.ndarray:
    rows = []
    for texts in features:
        mean = sum(t / np.linalg.norm(t) for t in texts) / len(texts)
        rows.append(np.exp(scale) * mean / np.linalg.norm(mean))
    return np.array(rows)


def test_the_plain_loop_agrees():
    features = np.random.default_rng(1).normal(size=(5, 7, 6))
    np.testing.assert_allclose(zero_shot_head(features, 2.0), plain_head(features, 2.0), rtol=1e-5)


@pytest.mark.parametrize(
    "features", [np.ones((2, 3)), np.ones((2, 0, 3)), np.full((1, 1, 2), np.nan)]
)
def test_other_shapes_are_refused(features):
    with pytest.raises(InputError, match="classes, templates, d"):
        zero_shot_head(features, 0.0)
