from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from headwater.classes import class_index, file_name
from headwater.decode import encode_png
from headwater.errors import TaskError
from headwater.splits import load_split, split_digest
from headwater.task import load_task

GARDEN = """\
format: 1
name: garden
classes:
- rose
- {label: fern, name: tree fern, queries: [tree fern, Cyatheales]}
images: {test: images/test}
"""


def write_garden(folder: Path, classes: tuple[str, ...] = ("rose",)) -> Path:
    for name in classes:
        sub = folder / "images" / "test" / name
        sub.mkdir(parents=True)
        for i in range(2):
            (sub / f"{i}.png").write_bytes(encode_png(np.full((4, 4, 3), i, np.uint8)))
    (folder / "garden.yaml").write_text(GARDEN)
    return folder / "garden.yaml"


def test_images_are_read_in_the_order_of_the_labels(tmp_path: Path) -> None:
    task = load_task(write_garden(tmp_path, classes=("Tree_Fern", "rose")))
    split = load_split(task, "test")
    assert split.ids == ["rose/0.png", "rose/1.png", "Tree_Fern/0.png", "Tree_Fern/1.png"]
    assert split.targets.tolist() == [0, 0, 1, 1]
    assert split.images[1].max() == 1


def test_the_digest_of_a_split_follows_its_pixels(tmp_path: Path) -> None:
    task = load_task(write_garden(tmp_path))
    before = split_digest(task, "test")
    (tmp_path / "images/test/rose/0.png").write_bytes(encode_png(np.ones((4, 4, 3), np.uint8)))
    assert split_digest(task, "test") != before


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(encode_png(np.zeros((4, 4, 3), np.uint8)))
    task = load_task(write_garden(tmp_path))
    (tmp_path / "images/test/rose/link.png").symlink_to(tmp_path / "secret.png")
    assert load_split(task, "test").ids == ["rose/0.png", "rose/1.png"]


@pytest.mark.parametrize(
    ("folder", "label"),
    [("rose", "rose"), ("tree fern", "fern"), ("Tree_Fern", "fern"), ("FERN", "fern")],
)
def test_folders_are_matched_to_classes(tmp_path: Path, folder: str, label: str) -> None:
    task = load_task(write_garden(tmp_path))
    assert task.labels[class_index(folder, task)] == label


def test_a_near_miss_is_named(tmp_path: Path) -> None:
    task = load_task(write_garden(tmp_path))
    with pytest.raises(TaskError, match=r"roze is no class of task garden.*Did you mean rose"):
        class_index("roze", task)


def test_broken_evaluation_images_are_never_dropped(tmp_path: Path) -> None:
    task = load_task(write_garden(tmp_path))
    (tmp_path / "images/test/rose/0.png").write_bytes(b"")
    with pytest.raises(TaskError, match="cannot be decoded: expected an image, saw empty file"):
        load_split(task, "test")


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    task = load_task(write_garden(tmp_path))
    with pytest.raises(TaskError, match="no val split: expected val, saw test"):
        load_split(task, "val")


@given(st.text(min_size=1))
def test_the_name_of_a_file_leads_back_to_its_text(text: str) -> None:
    name = file_name(text)
    assert unquote(name) == text
    assert not set(name) & set('/\\:*?"<>|\0\n')
    assert name not in (".", "..")
    assert not name.startswith((".", " "))


def test_an_escaped_folder_is_its_class(tmp_path: Path) -> None:
    labels = ["AC/DC", "AC%2FDC", "AC DC", "..", "100% silk"]
    told = {"format": 1, "name": "odd", "classes": labels}
    (tmp_path / "odd.yaml").write_text(yaml.safe_dump(told))
    task = load_task(tmp_path / "odd.yaml")
    names = [file_name(label) for label in labels]
    assert names == ["AC%2FDC", "AC%252FDC", "AC DC", "%2E%2E", "100% silk"]
    assert [task.labels[class_index(name, task)] for name in names] == labels


def test_all_unknown_folders_are_named_at_once(tmp_path: Path) -> None:
    task = load_task(write_garden(tmp_path, classes=("roze", "tree_ferm", "zzz")))
    told = (
        r"3 folders are not of task garden: .* saw roze \(rose\?\); tree_ferm \(tree fern\?\); zzz$"
    )
    with pytest.raises(TaskError, match=told):
        load_split(task, "test")


def test_two_folders_of_one_class_are_both_named(tmp_path: Path) -> None:
    task = load_task(write_garden(tmp_path, classes=("rose", "tree fern", "Fern")))
    told = "two folders for class fern: expected one, saw Fern and tree fern"
    with pytest.raises(TaskError, match=told):
        load_split(task, "test")


def test_names_without_a_letter_are_not_alike(tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text(
        yaml.safe_dump({"format": 1, "name": "o", "classes": ["++"]})
    )
    with pytest.raises(TaskError, match="-- is no class"):
        class_index("--", load_task(tmp_path / "odd.yaml"))
