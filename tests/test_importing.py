"""`import`: captions beside the images, and nothing from outside of the folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from headwater.decode import encode_png
from headwater.errors import SetError, TaskError
from headwater.pairs import read_pairs
from headwater.steps.importing import import_images, read_captions
from headwater.task import Task

TASK = Task.model_validate({"format": 1, "name": "garden", "classes": ["rose"]})


def test_a_caption_beside_an_image_is_read_unless_it_leads_out(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("not yours")
    roses = tmp_path / "mine" / "rose"
    roses.mkdir(parents=True)
    for number, name in enumerate(("a", "b", "c", "d")):
        pixels = np.full((4, 4, 3), 50 * number, np.uint8)
        (roses / f"{name}.png").write_bytes(encode_png(pixels))
    (roses / "a.txt").write_text("a red rose")
    (roses / "b.txt").symlink_to(tmp_path / "secret")
    (roses / "c.txt").symlink_to(roses / "a.txt")
    import_images(tmp_path / "mine", TASK, tmp_path / "set", workers=1)
    captions = read_pairs(tmp_path / "set", ["caption"])["caption"].to_list()
    assert captions == ["a red rose", None, "a red rose", None]


def test_captions_are_texts(tmp_path: Path) -> None:
    file = tmp_path / "captions.json"
    file.write_text('{"rose/a.png": "half a \\ud800 character", "rose/b.png": null}')
    assert read_captions(tmp_path) == {"rose/a.png": "half a ? character"}
    file.write_text('{"rose/a.png": {"en": "a rose"}}')
    with pytest.raises(SetError, match=r"expected a text, saw .*for rose/a.png"):
        read_captions(tmp_path)


def test_an_image_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine" / "rose").mkdir(parents=True)
    path = tmp_path / "mine" / "rose" / os.fsdecode(b"\xff.png")
    try:
        path.write_bytes(encode_png(np.zeros((4, 4, 3), np.uint8)))
    except OSError:
        pytest.skip("a file system that takes only text for names")
    with pytest.raises(TaskError, match=r"name is no text: expected UTF-8, .*udcff.png"):
        import_images(tmp_path / "mine", TASK, tmp_path / "set", workers=1)
