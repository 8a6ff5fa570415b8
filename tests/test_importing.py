"""`import`: captions beside the images, and nothing from outside of the folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from headwater.decode import encode_png
from headwater.pairs import read_pairs
from headwater.steps.importing import import_images
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
