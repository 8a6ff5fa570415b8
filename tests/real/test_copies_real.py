"""The built-in copy descriptor on real photographs: the numbers its threshold states."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headwater.curate.calibration import calibrate_threshold
from headwater.curate.changes import CHANGES
from headwater.curate.copies import find_copies, nearest
from headwater.descriptors import COPY_THRESHOLD, describe

DATA = Path(os.environ.get("HEADWATER_DATA", Path(__file__).parents[3] / "shared" / "data"))
COPIES, POOL, TASKS = DATA / "copies", DATA / "pool-photos", DATA / "tasks"

pytestmark = pytest.mark.skipif(
    not all(folder.is_dir() for folder in (COPIES, POOL, TASKS)), reason=f"no photos under {DATA}"
)


def load(folder):
    return [Image.open(path).convert("RGB") for path in sorted(folder.rglob("*.*"))]


@pytest.fixture(scope="module")
def references():
    return load(COPIES / "reference")


@pytest.fixture(scope="module")
def described(references):
    return describe(references)


def test_labelled_copies_are_found_and_photos_of_the_same_class_are_not(described):
    pairs = json.loads((COPIES / "labels.json").read_text())
    names = [path.name for path in sorted((COPIES / "reference").iterdir())]
    candidates = [Image.open(COPIES / "candidates" / pair["candidate"]) for pair in pairs]
    found = find_copies(describe(candidates), described)
    named = np.array([names.index(pair["reference"]) for pair in pairs])
    copy = np.array([pair["copy"] for pair in pairs])
    assert ((found == named) & copy).sum() >= 0.95 * copy.sum()
    assert ((found == named) & copy).sum() >= 0.95 * (found >= 0).sum()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_references_are_found(references, described, change):
    found = find_copies(describe([change(image) for image in references]), described)
    assert (found == np.arange(len(references))).mean() >= 0.95


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_small_photographs_are_found_and_copy_no_others(described, change):
    photos = load(TASKS / "tiny20" / "val")
    changed = describe([change(image) for image in photos])
    found = find_copies(changed, describe(photos))
    assert (found == np.arange(len(photos))).mean() >= 0.95
    assert (find_copies(changed, described) >= 0).mean() <= 0.02


def test_other_photographs_are_not_taken_for_copies(described):
    kept = []
    with tarfile.open(POOL / "00003.tar") as tar:
        for member in tar.getmembers()[: 3 * 1500]:
            if member.name.endswith(".jpg"):
                kept.append(Image.open(io.BytesIO(tar.extractfile(member).read())))
    assert (find_copies(describe(kept), described) >= 0).mean() <= 0.02  # true copies among them
    others = nearest(describe(load(TASKS / "tiny20" / "test")), describe(kept))[0]
    assert (others > COPY_THRESHOLD).mean() <= 0.02


def test_clothes_laid_out_alike_need_a_threshold_of_their_own():
    clothes = load(TASKS / "clothing" / "test")
    rows = describe(clothes)
    kinds = CHANGES["cropped at a corner"], CHANGES["re-encoded"]
    crops, again = (describe([f(image) for image in clothes]) for f in kinds)
    threshold = calibrate_threshold(rows, [crops, again])
    others, own = nearest(rows[1::2], rows[::2])[0], np.arange(len(rows))
    assert (others > COPY_THRESHOLD).mean() > 2 * (others > threshold).mean()
    assert (find_copies(crops, rows, threshold=threshold) == own).mean() >= 0.9
