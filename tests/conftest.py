"""What all tests share."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

# As the command line does (src/headwater/__main__.py), before anything imports torch.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")

# What one run of the tests keeps, the next must not find.
CACHE = tempfile.TemporaryDirectory(prefix="headwater-cache-")
os.environ["HEADWATER_CACHE"] = CACHE.name

# No test asks the web for anything (tests of fetching talk to a server of their own).
os.environ["HEADWATER_OFFLINE"] = "1"


@pytest.fixture(scope="module")
def generator_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion on disk."""
    from tests.tiny_pipeline import build_tiny_pipeline

    return build_tiny_pipeline(tmp_path_factory.mktemp("generator"))


@pytest.fixture(scope="module")
def pipeline(generator_folder: Path) -> DiffusionPipeline:
    """A tiny Stable Diffusion, open."""
    from headwater.synthesize.generator import load_generator

    return load_generator(generator_folder, device="cpu")


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> DiffusionPipeline:
    """A tiny Stable Diffusion 3, open: a transformer trained by flow matching."""
    from tests.tiny_pipeline import build_tiny_flow_pipeline

    from headwater.synthesize.generator import load_generator

    return load_generator(build_tiny_flow_pipeline(tmp_path_factory.mktemp("flow")), device="cpu")


@pytest.fixture(params=["pipeline", "flow"])
def either(request: pytest.FixtureRequest) -> DiffusionPipeline:
    """Each of the two families in turn."""
    return request.getfixturevalue(request.param)
