"""Copies found by descriptors, against a plain version and among real digit scans."""

import io
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from headwater.curate import copies, similarity
from headwater.curate.calibration import calibrate_threshold
from headwater.curate.copies import find_copies, nearest
from headwater.curate.duplicates import find_duplicates
from headwater.descriptors import COPY_THRESHOLD, describe
from headwater.errors import InputError

BLOCKS = [(1, 1), (7, 3), (4096, 1024)]


@contextmanager
def blocks_of(rows, columns):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "ROWS", rows)
        patch.setattr(similarity, "COLUMNS", columns)
        yield


def plain_nearest(candidates, references):
    left, right = candidates.astype(np.float64), references.astype(np.float64)
    found = (left[:, None] * right[None]).sum(axis=2)
    return found.max(axis=1).astype(np.float32), found.argmax(axis=1)


def plain_duplicates(rows, threshold, groups=None):
    rows, instead = rows.astype(np.float64), []
    for i, row in enumerate(rows):
        near = ((rows * row).sum(axis=1).astype(np.float32) > np.float32(threshold)).tolist()
        like = (j for j in range(i) if near[j] and instead[j] < 0)
        instead.append(next((j for j in like if groups is None or groups[i] == groups[j]), -1))
    return instead


def unit(rng, *shape):
    rows = rng.normal(size=shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def crowd(rng, n, dimensions=5):
    """Rows of which many are equal, and many all but equal, to others."""
    some = unit(rng, max(1, n // 3), dimensions)
    rows = some[rng.integers(len(some), size=n)]
    shift = rng.integers(3, size=rows.shape, dtype=np.int32)
    return (rows.view(np.int32) + shift).view(np.float32) if n else rows


KINDS = st.sampled_from([np.float16, np.float32, np.float64])


@given(st.integers(0, 40), st.integers(1, 40), st.sampled_from(BLOCKS), KINDS, st.integers(0, 999))
@settings(deadline=None)
def test_the_nearest_is_that_of_float64_in_blocks_of_any_size(n, m, block, kind, seed):
    rng = np.random.default_rng(seed)
    references = crowd(rng, m).astype(kind)
    candidates = np.concatenate([unit(rng, n, 5).astype(kind), references[: n // 2]])
    threshold = rng.uniform(-1, 1.1)
    with blocks_of(*block):
        found, index = nearest(candidates, references)
        copied = find_copies(candidates, references, threshold=threshold)
    assert found.dtype == np.float32
    assert index.dtype == copied.dtype == np.int64
    expected, first = plain_nearest(candidates, references)
    assert found.tolist() == expected.tolist()
    assert index.tolist() == first.tolist()
    assert copied.tolist() == np.where(expected > np.float32(threshold), first, -1).tolist()


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12])
def test_rows_of_any_length_are_compared_in_float64(scale):
    rng = np.random.default_rng(0)
    references, candidates = crowd(rng, 50) * np.float32(scale), unit(rng, 50, 5)
    for left, right in [(candidates, references), (references, candidates)]:
        found, index = nearest(left, right)
        expected, first = plain_nearest(left, right)
        assert found.tolist() == expected.tolist()
        assert index.tolist() == first.tolist()


def test_similarities_closer_than_float32_can_tell_are_told_apart():
    candidate = np.array([[1, 2**-14]], np.float32)
    references = np.array([[1, 0], [1, 2**-14], [1, 2**-15]], np.float32)
    assert len({np.float32(s) for s in (references @ candidate.T)[:, 0]}) == 1
    assert nearest(candidate, references)[1].tolist() == [1]


def test_of_equal_references_the_first_is_named(monkeypatch):
    references = np.tile(unit(np.random.default_rng(0), 1, 300), (2000, 1))
    compared = []
    exact = similarity.exact
    monkeypatch.setattr(copies, "exact", lambda *a: compared.append(len(a[2])) or exact(*a))
    assert set(find_copies(references[:50], references, threshold=0.5).tolist()) == {0}
    assert sum(compared) <= 50 * 2  # once a block, not once a reference


def test_as_similar_as_the_threshold_is_not_a_copy():
    candidate = np.array([[0.6, 0.8]], np.float32)
    references = np.eye(2, dtype=np.float32)
    assert find_copies(candidate, references, threshold=0.8).tolist() == [-1]
    assert find_copies(candidate, references, threshold=0.7999).tolist() == [1]
    assert find_duplicates(np.array([[0, 1], [0.6, 0.8]]), threshold=0.8).tolist() == [-1, -1]


def test_without_a_threshold_the_built_in_descriptors_counts():
    near, far = COPY_THRESHOLD + 0.01, COPY_THRESHOLD - 0.01
    rows = np.array([[s, np.sqrt(1 - s * s)] for s in (near, far)], np.float32)
    assert find_copies(rows, np.array([[1, 0]], np.float32)).tolist() == [0, -1]
    assert find_duplicates(np.array([[1, 0], rows[0]])).tolist() == [-1, 0]
    assert find_duplicates(np.array([[1, 0], rows[1]])).tolist() == [-1, -1]


def test_nobody_copies_nothing():
    rows = unit(np.random.default_rng(0), 3, 4)
    assert find_copies(rows, rows[:0]).tolist() == [-1, -1, -1]
    assert find_copies(rows[:0], rows).tolist() == []
    assert find_copies(rows[:0], rows[:0]).tolist() == []
    assert [part.tolist() for part in nearest(rows, rows[:0])] == [[-np.inf] * 3, [-1] * 3]
    assert find_duplicates(rows[:0]).tolist() == []


def test_descriptors_may_lie_on_disk(tmp_path):
    rows = crowd(np.random.default_rng(3), 60).astype(np.float16)
    np.save(tmp_path / "rows.npy", rows)
    stored = np.load(tmp_path / "rows.npy", mmap_mode="r")
    with blocks_of(7, 5):
        assert [x.tolist() for x in nearest(stored, stored[9:])] == [
            x.tolist() for x in nearest(rows, rows[9:])
        ]
        assert find_duplicates(stored, threshold=0.5).tolist() == plain_duplicates(rows, 0.5)


@given(st.integers(0, 60), st.sampled_from(BLOCKS), st.integers(0, 4), KINDS, st.integers(0, 999))
@settings(deadline=None)
def test_duplicates_are_those_of_the_plain_version(n, block, groups, kind, seed):
    rng = np.random.default_rng(seed)
    rows = crowd(rng, n, dimensions=4).astype(kind)
    threshold = rng.choice([rng.uniform(-1, 1), 1, 1 - 2**-22])
    group = [f"class {g}" for g in rng.integers(groups, size=n)] if groups else None
    with blocks_of(*block):
        found = find_duplicates(rows, threshold=threshold, groups=group)
    assert found.dtype == np.int64
    assert found.tolist() == plain_duplicates(rows, threshold, group)


def test_where_all_are_alike_the_first_stays_and_blocks_stay_small(monkeypatch):
    rows = np.tile(unit(np.random.default_rng(0), 1, 8), (500, 1))
    cells = []
    of = similarity.Product.of
    monkeypatch.setattr(
        similarity.Product, "of", lambda *a: cells.append(len(a[1]) * len(a[2])) or of(*a)
    )
    with blocks_of(64, 32):
        found = find_duplicates(rows, threshold=0.9)
    assert found.tolist() == [-1] + [0] * 499
    assert max(cells) <= 32 * 32


def test_a_chain_is_not_one_group():
    angles = np.radians([0, 20, 40, 60])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert find_duplicates(rows, threshold=np.cos(np.radians(25))).tolist() == [-1, 0, -1, 2]


def test_groups_that_do_not_match_are_refused():
    with pytest.raises(InputError, match=r"expected \(3,\), saw \(2,\)"):
        find_duplicates(np.eye(3), groups=["a", "b"])


@pytest.mark.parametrize("shape", [(2, 5), (4,)])
def test_descriptors_of_another_kind_are_refused(shape):
    with pytest.raises(InputError, match="descriptors of different kinds"):
        find_copies(np.ones(shape, np.float32), np.ones((2, 4), np.float32))


def test_descriptors_that_are_not_numbers_are_refused():
    rows = np.array([[np.nan, 1]], np.float32)
    with pytest.raises(InputError, match="not numbers"):
        find_copies(rows, np.ones((1, 2), np.float32))


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
