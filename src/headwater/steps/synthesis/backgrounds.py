"""Backgrounds for a user's own classes, written beforehand and kept in the task file.

They come from the list of a domain, or from the same language models and endpoints that write
captions. Whoever reads the task file may mend them.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from headwater.errors import InputError
from headwater.progress import say, track
from headwater.steps.synthesis.captions import writer_of
from headwater.steps.synthesis.settings import Writing
from headwater.store import stable_seed
from headwater.synthesize.captions.backgrounds import domain_backgrounds, is_background
from headwater.synthesize.captions.rounds import settle_captions
from headwater.synthesize.captions.writer import Ask, Writer
from headwater.task import ClassName, Task

COUNT = 20
WRITERS = ("grammar", "model", "endpoint")


def write_backgrounds(task: Task, *, how: Writing, count: int = COUNT, seed: int = 0) -> Task:
    """The task with backgrounds for its classes; `Task.to_yaml` writes it down.

    A class that has backgrounds keeps them.

    Args:
        task: whose classes are given some.
        how: who writes: `grammar` draws them from the list of a domain (the settings' or the
            task's), `model` and `endpoint` are asked for each one.
        count: of each class; a writer that repeats itself gives fewer, which is said.
        seed: of the draw, or of the writer.

    Raises:
        InputError: another way of writing, no such domain, or one with fewer backgrounds.
        ModelError: the model cannot be loaded.
        RunError: a writer that gives no places for some class, or cannot be reached.

    Example:
        >>> garden = Task.model_validate({"format": 1, "name": "garden", "classes": ["iris"]})
        >>> told = write_backgrounds(garden, how=Writing(domain="flowers"), count=2)
        >>> len(told.classes[0].backgrounds)
        2
    """
    if how.by not in WRITERS:
        raise InputError("no backgrounds are written so", expected=", ".join(WRITERS), seen=how.by)
    if count < 1:
        raise InputError("a number of backgrounds", expected="1 or more", seen=str(count))
    bare = [c for c in task.classes if not c.backgrounds]
    if how.by == "grammar":
        found = _drawn(bare, how.domain or task.domain, count=count, seed=seed)
    else:
        found = _written(bare, writer_of(how), count=count, seed=seed) if bare else {}
    classes = [
        c.model_copy(update={"backgrounds": tuple(found.get(c.label, c.backgrounds))})
        for c in task.classes
    ]
    return task.model_copy(update={"classes": tuple(classes)})


def _drawn(
    classes: Sequence[ClassName], domain: str | None, *, count: int, seed: int
) -> dict[str, list[str]]:
    phrases = domain_backgrounds(domain)
    if count > len(phrases):
        raise InputError(
            f"the domain {domain or 'general'} has {len(phrases)} backgrounds",
            expected=f"{count} of each class", do="Ask for fewer, or let a model write them.",
        )  # fmt: skip
    return {
        c.label: sorted(phrases, key=lambda phrase: stable_seed(seed, c.label, phrase))[:count]
        for c in classes
    }


def _written(
    classes: Sequence[ClassName], writer: Writer, *, count: int, seed: int
) -> dict[str, list[str]]:
    asks = [
        Ask(index, c.label, c.name, "place", "", turn=turn, attempt=0)
        for index, (c, turn) in enumerate((c, turn) for c in classes for turn in range(count))
    ]
    blocks = settle_captions(asks, writer, seed=seed, check=_is_place)
    label, unit = "writing backgrounds", "backgrounds"
    settled = pl.concat(track(blocks, label=label, total=len(asks), unit=unit, size=len))
    found: dict[str, dict[str, str]] = {c.label: {} for c in classes}
    for label, text in settled.select("label", "caption").iter_rows():
        found[label].setdefault(text.casefold(), text[:1].lower() + text[1:])
    for label, phrases in found.items():
        if len(phrases) < count:
            say(f"backgrounds: {len(phrases)} of class {label}, not {count}: the rest repeat them")
    return {label: list(phrases.values()) for label, phrases in found.items()}


def _is_place(line: str, ask: Ask) -> str | None:
    return None if is_background(line, ask.name) else "unfit"
