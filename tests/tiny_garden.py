"""A task of two classes with pictures one can tell apart, and sets of such pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from headwater.steps.importing import import_images
from headwater.task import Task, load_task

CLASSES = ["rose", "fern"]


def picture(number: int, *, side: int = 48) -> Image.Image:
    """Soft blots of color, like no other number's."""
    blots = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(blots).resize((side, side), Image.Resampling.BICUBIC)


def save(folder: Path, pictures: dict[str, int], **how: Any) -> Path:
    """An ImageFolder: {"rose/1.png": number of the picture}."""
    for name, number in pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number, **how).save(folder / name)
    return folder


def numbered(first: int, count: int, *, kind: str = "png") -> dict[str, int]:
    """`count` pictures a class, each with its own number from `first` on."""
    return {
        f"{label}/{i}.{kind}": first + 10 * place + i
        for place, label in enumerate(CLASSES)
        for i in range(count)
    }


def make_task(folder: Path) -> Task:
    """Two classes; the test images are number 100 to 102 and 110 to 112."""
    for split, first, count in (("train", 200, 3), ("val", 300, 2), ("test", 100, 3)):
        save(folder / split, numbered(first, count))
    told = {"format": 1, "name": "garden", "classes": CLASSES}
    told["images"] = {split: split for split in ("train", "val", "test")}
    (folder / "garden.yaml").write_text(yaml.safe_dump(told))
    return load_task(folder / "garden.yaml")


def import_set(folder: Path, task: Task, pictures: dict[str, int], **how: Any) -> Path:
    """A set of some pictures; all such sets share the namespace `imported`."""
    images = save(folder.with_name(f"{folder.name}-images"), pictures)
    import_images(images, task, folder, workers=1, **how)
    return folder
