"""The calibration page: which pairs it shows, what it counts, and that nothing in it is a tag."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image
from tests import tiny_garden

from headwater.curate.changes import CHANGES
from headwater.descriptors import open_descriptor
from headwater.errors import InputError, SetError, TaskError
from headwater.report.calibration import render_calibration
from headwater.steps.looking.calibrate import calibrate

PLANTED = {"rose/copy.jpg": 100, "rose/own.png": 1, "fern/own.png": 2, "fern/twin.png": 111}


@pytest.fixture(scope="module")
def garden(tmp_path_factory):
    folder = tmp_path_factory.mktemp("garden")
    task = tiny_garden.make_task(folder)
    return task, tiny_garden.import_set(folder / "set", task, PLANTED)


def told_of(garden, page, **how):
    task, folder = garden
    return calibrate(folder, task, page, descriptor=open_descriptor("builtin"), **how)


@pytest.fixture(scope="module")
def made(garden, tmp_path_factory):
    page = tmp_path_factory.mktemp("page") / "copies.html"
    return told_of(garden, page), page.read_text()


def test_planted_copies_are_above_and_the_others_below(made):
    told, _ = made
    assert told["threshold"] == 0.2
    assert (told["images"], told["references"], told["copies"]) == (4, 6, 2)
    above = [(pair["id"], pair["label"], pair["copy_of"]) for pair in told["above"]]
    assert sorted(above) == [
        ("imported:fern/twin.png", "fern", "test/fern/1.png"),
        ("imported:rose/copy.jpg", "rose", "test/rose/0.png"),
    ]
    assert {pair["id"] for pair in told["below"]} == {
        "imported:rose/own.png",
        "imported:fern/own.png",
    }


def test_pairs_fall_in_similarity_and_those_nearest_to_the_threshold_are_shown(garden, tmp_path):
    every = told_of(garden, tmp_path / "all.html", threshold=-1.0, shown=9)
    similarity = [pair["similarity"] for pair in every["above"]]
    assert similarity == sorted(similarity, reverse=True)
    middle = float(np.mean(similarity[1:3]))
    told = told_of(garden, tmp_path / "one.html", threshold=middle, shown=1)
    assert told["above"] == every["above"][1:2]
    assert told["below"] == every["above"][2:3]


def test_every_threshold_is_counted_and_the_one_in_use_is_among_them(made):
    told, _ = made
    every = [*told["above"], *told["below"]]
    for row in told["thresholds"]:
        assert row["copies"] == sum(pair["similarity"] > row["threshold"] for pair in every)
    assert [row["threshold"] for row in told["thresholds"] if row["in_use"]] == [0.2]
    assert told["suggested"] in [row["threshold"] for row in told["thresholds"]]
    assert sum(stretch["images"] for stretch in told["histogram"]) == told["images"]


def test_what_is_measured_on_train_images(made):
    told, _ = made
    measured = told["measured"]
    assert measured["images"] == 6
    assert [row["change"] for row in measured["changes"]] == list(CHANGES)
    assert all(row["threshold"] == 1 for row in measured["changes"][:4])
    assert measured["mistaken"]["threshold"] == 0


def test_without_train_images_nothing_is_suggested(garden, tmp_path):
    task, folder = garden
    images = {"test": task.images["test"]}
    bare = task.model_copy(update={"images": images}), folder
    page = tmp_path / "page.html"
    told = told_of(bare, page)
    assert told["measured"] is told["suggested"] is None
    assert "suggested" not in page.read_text().split("<main>")[1]
    assert "--copy-threshold 0.2<" in page.read_text()


def test_train_images_are_no_copies_of_themselves(garden, tmp_path):
    told = told_of(garden, tmp_path / "page.html", splits=("train",))
    assert told["measured"]["mistaken"]["threshold"] == 0
    assert told["copies"] == 0


def test_the_page_holds_its_pictures_and_loads_nothing(made):
    told, text = made
    assert len(re.findall(r'<img src="data:image/jpeg;base64,', text)) == 2 * told["images"]
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)
    assert f"--copy-threshold {told['suggested']}" in text
    assert "2 of 4 images are taken for copies" in text


def test_the_same_set_gives_the_same_page(garden, made, tmp_path):
    told_of(garden, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == made[1]


def test_one_image_under_two_labels_is_one(garden, tmp_path):
    task, _ = garden
    twice = {"rose/a.png": 100, "fern/b.png": 100}
    folder = tiny_garden.import_set(tmp_path / "set", task, twice)
    assert told_of((task, folder), tmp_path / "page.html")["images"] == 1


def test_names_from_outside_are_escaped(made):
    told, _ = made
    pair = {**told["above"][0], "id": "<script>x\x1b</script>", "label": '"><b>', "copy_of": "<i>"}
    hostile = {**told, "task": "<u>", "set": "<s>", "above": [pair], "below": []}
    picture = b"\xff\xd8\xff"
    text = render_calibration(hostile, [(picture, picture)])
    assert "<script>" not in text
    assert all(tag not in text for tag in ("<b>", "<i>", "<u>", "<s>", "\x1b"))
    assert "&lt;script&gt;x&lt;/script&gt;" in text


def test_a_picture_that_cannot_be_shown_leaves_its_pair_on_the_page(made):
    told, _ = made
    one = {**told, "above": told["above"][:1], "below": []}
    text = render_calibration(one, [(None, b"\xff\xd8\xff")])
    assert text.count("<img") == text.count("not shown") == 1
    assert told["above"][0]["id"] in text


def test_what_cannot_be_compared_is_refused(garden, tmp_path):
    task, _ = garden
    with pytest.raises(TaskError, match=r"no door images.*saw test, train, val"):
        told_of(garden, tmp_path / "page.html", splits=("door",))
    with pytest.raises(InputError, match="cannot write a page"):
        told_of(garden, tmp_path)
    with pytest.raises(SetError):
        told_of((task, tmp_path), tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (40, 30)])
def test_every_change_leaves_a_picture_of_any_size(size):
    picture = Image.new("RGB", size, (200, 10, 90))
    for change in CHANGES.values():
        assert min(change(picture).convert("RGB").size) >= 1


def test_every_change_changes_a_photograph():
    photo = tiny_garden.picture(5, side=80)
    for name, change in CHANGES.items():
        changed = change(photo)
        same = changed.size == photo.size and np.array_equal(np.asarray(changed), photo)
        assert not same, name
