"""Headwater: where should the training images come from?

The public names, each imported when first used, so that `import headwater` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

PUBLIC = {
    "match_captions": "headwater.retrieve.words",
    "parse_query": "headwater.expression",
    "top_k": "headwater.topk",
    "keep_top": "headwater.curate.select",
    "class_scores": "headwater.curate.score",
    "Candidates": "headwater.curate.scoring",
    "find_copies": "headwater.curate.copies",
    "find_duplicates": "headwater.curate.duplicates",
    "describe": "headwater.descriptors",
    "open_descriptor": "headwater.descriptors",
    "zero_shot_head": "headwater.adapt.head",
    "finetune": "headwater.adapt.finetune",
    "linear_probe": "headwater.adapt.probe",
    "compare_arms": "headwater.compare",
    "run_shards": "headwater.engine",
    "load_clip": "headwater.clip",
    "load_task": "headwater.task",
    "load_recipe": "headwater.recipe",
    "run_study": "headwater.study",
    "HeadwaterError": "headwater.errors",
}
"""Every public name and the module it lives in."""

__all__ = ["__version__", *PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module 'headwater' has no attribute {name!r}")
    return getattr(import_module(PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
