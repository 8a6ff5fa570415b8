"""Import on real photographs: class folders, a tar and Parquet of the same photos are one set."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import polars as pl
import pytest

from headwater.pairs import read_pairs
from headwater.steps.importing import import_images
from headwater.task import Task

DATA = Path(os.environ.get("HEADWATER_DATA", Path(__file__).parents[3] / "shared" / "data"))
PHOTOS = DATA / "tasks" / "tiny20"

pytestmark = pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"no photos under {DATA}")


def test_the_same_photos_in_three_forms_are_the_same_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(path for path in (PHOTOS / "val").rglob("*") if path.is_file())
    names = sorted({path.parent.name for path in files})
    task = Task.model_validate({"format": 1, "name": "tiny20", "classes": names})
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for path in files:
            tar.add(path, f"{path.parent.name.replace(' ', '_')}/{path.name}")
    rows = [{"image": path.read_bytes(), "label": names.index(path.parent.name)} for path in files]
    pl.DataFrame(rows).write_parquet(tmp_path / "photos.parquet")
    found = {}
    for form, place in (
        ("folders", PHOTOS / "val"),
        ("tar", tmp_path / "photos.tar"),
        ("table", tmp_path / "photos.parquet"),
    ):
        told = "task" if form == "table" else None
        counts = import_images(place, task, tmp_path / form, classes=told, workers=1)
        assert counts == {"found": len(files), "decodes": len(files)}
        found[form] = read_pairs(tmp_path / form, ["label", "sha256"]).sort("label", "sha256")
    assert found["tar"].equals(found["folders"])
    assert found["table"].equals(found["folders"])
    assert "CD_player as CD player, beach_wagon as beach wagon" in capsys.readouterr().err
