"""The leakage gate on real photographs: planted copies of test images stop a run, by name."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import polars as pl
import pytest
import yaml

from headwater.descriptors import open_descriptor
from headwater.errors import SetError
from headwater.gate import Gate, pass_gate
from headwater.recipe import Recipe
from headwater.steps.importing import import_images
from headwater.task import load_task

DATA = Path(os.environ.get("HEADWATER_DATA", Path(__file__).parents[3] / "shared" / "data"))
COPIES = DATA / "copies"

pytestmark = pytest.mark.skipif(not COPIES.is_dir(), reason=f"no photos under {DATA}")


def test_all_copies_of_test_photos_are_listed_and_no_photo_of_the_same_class(
    tmp_path: Path,
) -> None:
    for split, folder in (("test", "reference"), ("found", "candidates")):
        shutil.copytree(COPIES / folder, tmp_path / split / "photo")
    told = {"format": 1, "name": "photos", "classes": ["photo"], "images": {"test": "test"}}
    (tmp_path / "photos.yaml").write_text(yaml.safe_dump(told))
    task = load_task(tmp_path / "photos.yaml")
    import_images(tmp_path / "found", task, tmp_path / "set", name="found", workers=1)
    recipe = Recipe.model_validate(
        {
            "format": 1,
            "name": "photos",
            "task": "photos.yaml",
            "learner": {"model": "clip"},
            "sources": {"found": {"import": "found"}},
            "curate": {"descriptor": "builtin", "rules": []},
            "arms": {"found": {"source": "found"}},
            "scales": [10],
            "primary": {"arm": "found", "against": "off-the-shelf"},
        }
    )
    gate = Gate(tmp_path / "study", recipe, task, {"found": tmp_path / "set"})
    with pytest.raises(SetError, match="38 in found"):
        pass_gate(gate)

    pairs = json.loads((COPIES / "labels.json").read_text())
    planted = {(p["candidate"], p["reference"]) for p in pairs if p["copy"]}
    leaks = pl.read_parquet(tmp_path / "study" / "leaks" / "found" / "leaks.parquet")
    listed = {
        (pair.rpartition("/")[2], copy.rpartition("/")[2])
        for pair, copy in leaks["id", "copy_of"].iter_rows()
    }
    assert listed == planted
    assert leaks["similarity"].min() > open_descriptor("builtin").threshold
