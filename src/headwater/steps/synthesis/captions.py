"""The captions of a task, by any writer or from another's hand, as one table."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from headwater.steps.synthesis.settings import Synthesis, Writing
from headwater.store import digest_value
from headwater.synthesize.captions import KINDS, write_captions
from headwater.synthesize.captions.backgrounds import domain_backgrounds
from headwater.task import Task


def task_captions(
    task: Task, how: Synthesis, *, seed: int, folder: Path, pairs: Path | None = None
) -> pl.DataFrame:
    """The captions to paint: columns index, label, caption, kind.

    Args:
        task: whose classes they are of.
        how: how many, and how they come about.
        seed: any integer.
        folder: the step's; what is unfinished is kept below its `work/`.
        pairs: the finished set that captions by `alt_text` or `captioner` tell of.
    """
    return write_captions(
        task.name_of,
        how.n,
        per_class=how.per_class,
        seed=seed,
        kinds=how.captions.kinds or KINDS,
        templates=task.prompts.synthesis or None,
        backgrounds=task_backgrounds(task, how.captions.domain),
        attributes=how.captions.attributes,
    )


def caption_inputs(how: Writing, pairs: Path | None = None, *, task: Task) -> dict[str, str]:
    """Digests of what captions come from beside their settings, for `step(inputs=...)`."""
    if task.domain is None and not any(c.backgrounds for c in task.classes):
        return {}
    return {"backgrounds": digest_value(task_backgrounds(task, how.domain))}


def task_backgrounds(task: Task, domain: str | None) -> dict[str, list[str]]:
    """The backgrounds of each class: its own, or else those of its domain."""
    others = list(domain_backgrounds(domain or task.domain))
    return {c.label: list(c.backgrounds) or others for c in task.classes}
