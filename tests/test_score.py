"""How well images fit their texts, against a plain version and toys one can picture."""

import numpy as np
import pytest

from headwater.curate.score import caption_scores, class_scores
from headwater.errors import InputError

RNG = np.random.default_rng(0)


def plain_scores(images, labels, texts, aggregate):
    scores = []
    for image, label in zip(images, labels, strict=True):
        image = image / np.linalg.norm(image)
        if aggregate == "mean":
            mean = texts[label].mean(axis=0)
            scores.append(image @ (mean / np.linalg.norm(mean)))
        else:
            scores.append(max(image @ (text / np.linalg.norm(text)) for text in texts[label]))
    return np.array(scores)


@pytest.mark.parametrize("aggregate", ["mean", "max"])
@pytest.mark.parametrize("templates", [1, 7])
def test_scores_equal_the_plain_version(aggregate, templates):
    images = RNG.normal(size=(50, 16)).astype(np.float32)
    texts = (RNG.normal(size=(4, templates, 16)) * 3).astype(np.float32)
    labels = RNG.integers(4, size=50)
    scores = class_scores(images, labels, texts, aggregate=aggregate)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, plain_scores(images, labels, texts, aggregate), atol=1e-6)


def test_a_long_template_weighs_more_in_the_mean_but_not_in_the_best():
    texts = np.array([[[9.0, 0.0], [0.0, 1.0]]])
    images = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert class_scores(images, [0, 0], texts) == pytest.approx(
        [9 / np.sqrt(82), 1 / np.sqrt(82)], abs=1e-6
    )
    assert class_scores(images, [0, 0], texts, aggregate="max").tolist() == [1, 1]


def test_an_image_is_scored_against_its_own_class_only():
    texts = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    image = np.array([[1.0, 0.0]] * 2)
    assert class_scores(image, [0, 1], texts).tolist() == [1, 0]


@pytest.mark.parametrize("aggregate", ["mean", "max"])
@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_a_feature_that_says_nothing_has_no_score(aggregate, bad):
    images = np.array([[1.0, 0.0], [bad, bad]])
    texts = np.array([[[1.0, 0.0]], [[bad, bad]]])
    scores = class_scores(images[[0, 1, 0]], [0, 0, 1], texts, aggregate=aggregate)
    assert scores[0] == 1
    assert np.isnan(scores[1:]).all()


def test_no_images_no_scores():
    assert class_scores(np.zeros((0, 3)), np.zeros(0, np.int64), np.ones((2, 1, 3))).shape == (0,)
    assert class_scores(np.zeros((0, 3)), [], np.ones((2, 1, 3))).shape == (0,)


@pytest.mark.parametrize(
    ("images", "labels", "texts", "why"),
    [
        (np.ones((2, 3)), [0], np.ones((1, 1, 3)), "do not belong together"),
        (np.ones((1, 3)), [0], np.ones((1, 1, 4)), "do not belong together"),
        (np.ones((1, 3)), [0], np.ones((1, 3)), "do not belong together"),
        (np.ones((1, 3)), [0], np.ones((1, 0, 3)), "at least one text"),
        (np.ones((1, 3)), [1], np.ones((1, 1, 3)), "has no class"),
        (np.ones((1, 3)), [-1], np.ones((1, 1, 3)), "has no class"),
        (np.ones((1, 3)), [0.5], np.ones((1, 1, 3)), "indices of classes"),
    ],
)
def test_what_does_not_belong_together_is_refused(images, labels, texts, why):
    with pytest.raises(InputError, match=why):
        class_scores(images, labels, texts)


def test_an_unknown_aggregate_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="expected mean or max, saw median"):
        class_scores(np.ones((1, 3)), [0], np.ones((1, 1, 3)), aggregate="median")


def test_each_image_is_scored_against_its_own_caption():
    asked = []

    def encode(texts):
        asked.extend(texts)
        return np.array([[len(text), 0.0] for text in texts], np.float32)

    images = [[1, 0], [3, 4], [0, 2], [1, 0], [1, 0], [0, 0]]
    captions = ["oak", "oak", "elm", None, "  ", "oak"]
    scores = caption_scores(images, captions, encode)
    assert scores == pytest.approx([1, 0.6, 0, np.nan, np.nan, np.nan], nan_ok=True)
    assert asked == ["oak", "elm"]


def test_without_captions_nobody_is_asked():
    assert np.isnan(caption_scores([[1.0]], [None], None)).all()
    assert caption_scores(np.zeros((0, 2)), [], None).shape == (0,)


def test_captions_and_images_go_together():
    with pytest.raises(InputError, match="every image needs a caption"):
        caption_scores([[1.0]], [], None)
