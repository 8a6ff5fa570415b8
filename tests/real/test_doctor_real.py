"""The doctor on a real pool of 20,156 pairs, and on 349,125 real captions with ImageNet's names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from headwater.steps.doctor import doctor, read_synonyms
from headwater.task import Task

DATA = Path(os.environ.get("HEADWATER_DATA", Path(__file__).parents[3] / "shared" / "data"))

pytestmark = pytest.mark.skipif(
    not (DATA / "pool-photos").is_dir(),
    reason="no real pool here; point HEADWATER_DATA at the folder that has pool-photos/",
)


def task(names):
    return Task.model_validate({"format": 1, "name": "real", "classes": list(dict.fromkeys(names))})


def row_of(told, label):
    return next(row for row in told["classes"] if row["label"] == label)


@pytest.fixture(scope="module")
def tiny20():
    folders = sorted(path.name for path in (DATA / "tasks" / "tiny20" / "train").iterdir())
    names = read_synonyms(DATA / "tasks" / "tiny20" / "synonyms.json")
    return doctor(DATA / "pool-photos", task(folders), synonyms=names, workers=1)


def test_names_inside_other_words_are_found(tiny20):
    words = {word["word"] for word in row_of(tiny20, "ox")["inside"]}
    assert {"icebox", "loxodonta"} <= words
    assert row_of(tiny20, "thatch")["inside"][0]["word"] == "thatched"


def test_what_synonyms_would_add_is_measured(tiny20):
    thin = {row["label"] for row in tiny20["classes"] if row["captions"] < tiny20["few"]}
    assert thin == {"beach wagon", "hog"}
    hog = row_of(tiny20, "hog")
    assert hog["with_synonyms"] > 5 * hog["captions"]


def test_real_collisions_are_found_in_the_photos_pool():
    names = ["chain", "chain link fence", "frog", "tailed frog", "dog", "Frisbee", "pole"]
    told = doctor(DATA / "pool-photos", task(names), workers=1)
    kinds = {(row["a"], row["b"]): row["kind"] for row in told["shared"]}
    assert kinds["frog", "tailed frog"] == "nested"
    assert kinds["dog", "Frisbee"] == "together"


def test_names_of_imagenet_that_collide_are_found():
    facts = json.loads((DATA / "benchmarks" / "imagenet.json").read_text())
    told = doctor(DATA / "captions", task(facts["classes"]), workers=1)
    nested = {(row["a"], row["b"]) for row in told["shared"] if row["only"]}
    assert {("baseball", "baseball player"), ("chain", "chain-link fence")} <= nested
    plurals = {row["label"]: row["plural"]["word"] for row in told["classes"] if row["plural"]}
    assert plurals["mountain"] == "mountains"
