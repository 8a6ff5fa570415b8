"""Synthesis as a set: who paints, and what a set holds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.tiny_pipeline import build_tiny_pipeline

from headwater.steps.synthesis.painter import close_painter, open_painter

SETTINGS: dict[str, Any] = {"scheduler": "auto", "precision": "float32"}


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_pipeline(tmp_path_factory.mktemp("generator"))


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    close_painter()


def test_a_pipeline_is_opened_once(generator: Path) -> None:
    first = open_painter(generator, **SETTINGS)
    assert open_painter(generator, **SETTINGS) is first
    assert open_painter(generator, **SETTINGS | {"scheduler": "own"}) is not first


def test_a_folder_that_was_written_to_is_opened_anew(generator: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(generator, tmp_path / "copy"))
    first = open_painter(copy, **SETTINGS)
    os.utime(copy / "unet" / "diffusion_pytorch_model.safetensors", (0, 0))
    assert open_painter(copy, **SETTINGS) is not first
