"""Copies found by descriptors, against a plain version and among real digit scans."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from headwater.curate import copies
from headwater.curate.copies import calibrate_threshold, closest, find_copies
from headwater.descriptors import COPY_THRESHOLD, describe
from headwater.errors import InputError


def plain_copies(candidates, references, threshold):
    found = []
    for candidate in candidates.astype(np.float64):
        similarity = (references.astype(np.float64) @ candidate).astype(np.float32)
        best = int(np.argmax(similarity))
        found.append(best if similarity[best] > np.float32(threshold) else -1)
    return found


def unit(rng, *shape):
    rows = rng.normal(size=shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@given(st.integers(0, 30), st.integers(1, 30), st.sampled_from([1, 7, 64]), st.integers(0, 99))
@settings(deadline=None)
def test_find_copies_equals_the_plain_version_in_blocks_of_any_size(n, m, block, seed):
    rng = np.random.default_rng(seed)
    references = unit(rng, m, 5)
    candidates = np.concatenate([unit(rng, n, 5), references[rng.integers(m, size=n)]])
    threshold = rng.uniform(-1, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "BLOCK", block)
        found = find_copies(candidates, references, threshold=threshold)
    assert found.dtype == np.int64
    assert found.tolist() == plain_copies(candidates, references, threshold)


def test_of_equal_references_the_first_is_named():
    references = np.tile(unit(np.random.default_rng(0), 1, 300), (1000, 1))
    assert set(find_copies(references[:50], references, threshold=0.5).tolist()) == {0}


def test_as_similar_as_the_threshold_is_not_a_copy():
    candidate = np.array([[0.6, 0.8]], np.float32)
    references = np.eye(2, dtype=np.float32)
    assert find_copies(candidate, references, threshold=0.8).tolist() == [-1]
    assert find_copies(candidate, references, threshold=0.7999).tolist() == [1]


def test_without_a_threshold_the_built_in_descriptors_counts():
    near, far = COPY_THRESHOLD + 0.01, COPY_THRESHOLD - 0.01
    rows = np.array([[s, np.sqrt(1 - s * s)] for s in (near, far)], np.float32)
    assert find_copies(rows, np.array([[1, 0]], np.float32)).tolist() == [0, -1]


def test_nobody_copies_nothing():
    rows = unit(np.random.default_rng(0), 3, 4)
    assert find_copies(rows, rows[:0]).tolist() == [-1, -1, -1]
    assert find_copies(rows[:0], rows).tolist() == []
    assert closest(rows, rows[:0]).tolist() == [-np.inf] * 3


def test_memory_stays_within_a_block(monkeypatch):
    monkeypatch.setattr(copies, "BLOCK", 1000)
    for n, m in [(5000, 3), (3, 5000), (200, 200), (1, 1)]:
        blocks = list(copies._blocks(n, m))
        cells = np.zeros((n, m), int)
        for rows, columns in blocks:
            cells[rows, columns] += 1
            assert cells[rows, columns].size <= 1000
        assert (cells == 1).all()


@pytest.mark.parametrize("shape", [(2, 5), (4,)])
def test_descriptors_of_another_kind_are_refused(shape):
    with pytest.raises(InputError, match="descriptors of different kinds"):
        find_copies(np.ones(shape, np.float32), np.ones((2, 4), np.float32))


def test_descriptors_that_are_not_numbers_are_refused():
    rows = np.array([[np.nan, 1]], np.float32)
    with pytest.raises(InputError, match="not numbers"):
        find_copies(rows, np.ones((1, 2), np.float32))


# Calibration ---------------------------------------------------------------------------


def test_the_threshold_lies_half_way_between_others_and_the_worst_copies():
    references = np.array([[1, 0], [0.2, 0.98]], np.float32)  # 0.2 alike
    near, far = 0.9 * references, 0.6 * references
    found = calibrate_threshold(references, [near, far], false_rate=0.5, miss_rate=0.5)
    assert found == pytest.approx((0.2 + 0.6) / 2, abs=1e-3)


def test_where_copies_are_no_more_alike_than_others_the_copies_are_caught():
    references = np.array([[1, 0], [0.8, 0.6]], np.float32)
    assert calibrate_threshold(references, [0.5 * references]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("references", "changed", "rates", "why"),
    [
        (np.ones((1, 2)), [np.ones((1, 2))], {}, "2 or more references"),
        (np.ones((3, 2)), [], {}, "seen|saw none"),
        (np.ones((3, 2)), [np.ones((2, 2))], {}, r"one or more arrays \(3, 2\), saw \(2, 2\)"),
        (np.ones((3, 2)), [np.ones((3, 2))], {"miss_rate": 0}, "a rate out of range"),
        (np.ones((3, 2)), [np.ones((3, 2))], {"false_rate": 5}, "a rate out of range"),
    ],
)
def test_what_cannot_be_calibrated_on_is_refused(references, changed, rates, why):
    with pytest.raises(InputError, match=why):
        calibrate_threshold(references, changed, **rates)


# The miniature's pictures --------------------------------------------------------------


def photograph(scans, seed):
    from headwater.miniature.contexts import PLAIN, show

    return [
        Image.fromarray(show(PLAIN, pixels[None], np.random.default_rng([seed, number])))
        for number, pixels in enumerate(scans.pixels)
    ]


def saved(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(quality))
    return Image.open(buffer).convert("RGB")


def leaked(images, seed):
    """Each picture as it is, saved again, and cropped by 1 or 2 of 32 pixels and saved."""
    rng = np.random.default_rng(seed)
    again = [saved(image, rng.integers(60, 91)) for image in images]
    crops = []
    for image in images:
        side = 32 - int(rng.integers(1, 3))
        left, top = rng.integers(0, 33 - side, 2)
        crop = image.crop((left, top, left + side, top + side)).resize((32, 32))
        crops.append(saved(crop, rng.integers(60, 91)))
    return {"exact": list(images), "re-encoded": again, "cropped": crops}


def test_leaks_of_digit_scans_are_caught_and_other_scans_are_not():
    from headwater.miniature.scans import split_scans

    parts = split_scans(0)
    train = photograph(parts["train"], 1)
    changed = [describe(kind) for kind in leaked(train, 2).values()]
    threshold = calibrate_threshold(describe(train), changed)

    test = photograph(parts["test"], 3)
    references = describe(test)
    for kind, images in leaked(test[:150], 4).items():
        found = find_copies(describe(images), references, threshold=threshold)
        assert (found == np.arange(150)).mean() >= 0.9, kind

    upstream = [saved(image, 85) for image in photograph(parts["upstream"].take(np.arange(400)), 5)]
    innocent = find_copies(describe(upstream), references, threshold=threshold)
    assert (innocent >= 0).mean() <= 0.03
