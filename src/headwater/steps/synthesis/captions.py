"""`synthesize --captions-only`, and what `synthesize` begins with: the captions of a task.

A grammar, a language model or an endpoint writes them, or they stand in a file already, or beside
the images of a set (`describing.py` has these images looked at). Whoever wrote them, it is one
table: index, label, caption, kind.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from headwater.errors import InputError
from headwater.pairs import read_pairs
from headwater.progress import say, track
from headwater.steps.synthesis.describing import describe_pairs
from headwater.steps.synthesis.settings import Synthesis, Writing
from headwater.store import (
    WORK,
    Json,
    digest_file,
    digest_value,
    read_step,
    step,
    write_table,
)
from headwater.synthesize.captions import (
    KINDS,
    SCHEMA,
    plan_captions,
    repeated_captions,
    write_captions,
)
from headwater.synthesize.captions.backgrounds import domain_backgrounds
from headwater.synthesize.captions.given import (
    CAPTIONS,
    distinct_texts,
    read_captions,
    retell,
    take_captions,
)
from headwater.synthesize.captions.plan import draw_labels
from headwater.synthesize.captions.rounds import SETTLED, count_refusals, settle_captions
from headwater.synthesize.captions.writer import Writer, served_name
from headwater.task import Task

Counts = dict[str, int]
"""What is worth telling of captions, by its name in `_TOLD`."""

AT_ONCE = 8
"""Full blocks of a writer that are settled together: what a kill can cost."""


@dataclass(frozen=True)
class Order:
    """The captions that are wanted, and where they are made."""

    task: Task
    how: Synthesis
    seed: int
    folder: Path
    pairs: Path | None

    @property
    def labels(self) -> list[str]:
        """The label of each caption, in order."""
        counts = (self.how.n, self.how.per_class)
        return list(draw_labels(self.task.labels, *counts, seed=self.seed))

    @property
    def source(self) -> Path:
        """The set whose pairs captions tell of."""
        if self.pairs is None:
            raise InputError(f"captions by {self.how.captions.by} tell of a set", expected="pairs")
        return self.pairs


def task_captions(
    task: Task,
    how: Synthesis,
    *,
    seed: int,
    folder: Path,
    pairs: Path | None = None,
    on_counts: Callable[[Counts], None] | None = None,
) -> pl.DataFrame:
    """The captions to paint: columns index, label, caption, kind.

    What is worth telling (answers that could not be used, captions that repeat) is said in a line.

    Args:
        task: whose classes they are of.
        how: how many, and how they come about.
        seed: any integer.
        folder: the step's; what is unfinished is kept below its `work/`, and gone on with.
        pairs: the finished set that captions by `alt_text` or `captioner` tell of.
        on_counts: is given what is worth telling, for records.

    Raises:
        InputError: a file, domain, kind or count that cannot be used; no `pairs` where they are
            needed.
        SetError: `pairs` is no finished set.
        ModelError: the model cannot be loaded.
        RunError: a writer that never keeps the name of some class, or cannot be reached.
    """
    captions, counts = _WAYS[how.captions.by](Order(task, how, seed, folder, pairs))
    told = counts | {"repeated": repeated_captions(captions)}
    told = {name: count for name, count in told.items() if name in _TOLD and count}
    for name, count in told.items():
        say(f"captions: {count:,} {_TOLD[name]}")
    if on_counts is not None:
        on_counts(told)
    return captions


def caption_inputs(how: Writing, pairs: Path | None = None, *, task: Task) -> dict[str, str]:
    """Digests of what captions come from beside their settings, for `step(inputs=...)`.

    Args:
        how: how they come about.
        pairs: the set they tell of, for `alt_text` and `captioner`.
        task: whose domain and backgrounds they may speak of; its digest does not hold these.

    Raises:
        InputError: no such file.
        SetError: no such set.
        ModelError: no such model.
    """
    inputs = {}
    if how.by in ("grammar", "model", "endpoint") and _has_backgrounds(task):
        inputs["backgrounds"] = digest_value([task.domain, task_backgrounds(task, how.domain)])
    if how.by in ("model", "captioner"):
        inputs["model"] = _model_digest(str(how.model))
    if how.by == "endpoint":
        inputs["model"] = served_name(str(how.model))
    if how.by == "file":
        inputs["captions"] = _file_digest(Path(str(how.path)))
    if how.by in ("alt_text", "captioner") and pairs is not None:
        inputs["pairs"] = read_step(pairs)["digest"]
    return inputs


def write_task_captions(
    task: Task, out: Path, *, how: Synthesis, seed: int = 0, pairs: Path | None = None
) -> Json:
    """Make the folder `out` of a task's captions, for `captions: {by: file, path: OUT}`.

    Args:
        task: whose classes they are of.
        out: the new folder, of `captions.parquet` and `step.json`.
        how: how many, and how they come about; nothing is painted.
        seed: any integer.
        pairs: the finished set that captions by `alt_text` or `captioner` tell of.

    Returns:
        How many `captions` there are, and how many are `repeated`: say what another of their class
        says. Where there are any: answers that were `empty` or `lost` the name of their class, and
        images that were `unreadable`.

    Raises:
        As `task_captions`; SetError if `out` holds other things.
    """
    inputs = {"task": task.digest, **caption_inputs(how.captions, pairs, task=task)}
    counts = {"n": how.n, "per_class": how.per_class}
    arguments = {"seed": seed, **counts, **how.captions.arguments}
    with step(out, "captions", arguments=arguments, inputs=inputs) as this:
        if not this.finished:
            told: Counts = {}
            captions = task_captions(
                task, how, seed=seed, folder=out, pairs=pairs, on_counts=told.update
            )
            write_table(out / CAPTIONS, captions)
            this.counts = {"captions": len(captions), "repeated": 0, **told}
        return this.counts


def task_backgrounds(task: Task, domain: str | None = None) -> dict[str, list[str]]:
    """The backgrounds of each class: its own, or else those of its domain.

    Args:
        task: the classes.
        domain: whose backgrounds a class without its own has; the task's by default.

    Raises:
        InputError: no such domain.
    """
    others = list(domain_backgrounds(domain or task.domain))
    return {c.label: list(c.backgrounds) or others for c in task.classes}


def writer_of(how: Writing) -> Writer:
    """The language model or endpoint that settings speak of; the key is the environment's."""
    sampled: Any = {"temperature": how.temperature, "top_p": how.top_p, "tokens": how.tokens}
    if how.by == "model":
        from headwater.synthesize.captions.language_model import LanguageModel

        return LanguageModel(str(how.model), **sampled, block=how.block)
    from headwater.synthesize.captions.endpoint import Endpoint

    key = os.environ.get(how.key) or None
    return Endpoint(str(how.url), str(how.model), key=key, **sampled, concurrency=how.concurrency)


Made = tuple[pl.DataFrame, Counts]


def _by_grammar(order: Order) -> Made:
    task, how = order.task, order.how
    captions = write_captions(
        task.name_of,
        how.n,
        per_class=how.per_class,
        seed=order.seed,
        kinds=how.captions.kinds or KINDS,
        templates=task.prompts.synthesis or None,
        backgrounds=task_backgrounds(task, how.captions.domain),
        attributes=how.captions.attributes,
        textures=(how.captions.domain or task.domain) == "textures",
    )
    return captions, {}


def _by_writer(order: Order) -> Made:
    task, how = order.task, order.how
    asks = plan_captions(
        task.name_of,
        how.n,
        per_class=how.per_class,
        seed=order.seed,
        kinds=how.captions.kinds or KINDS,
        backgrounds=task_backgrounds(task, how.captions.domain),
        attributes=how.captions.attributes,
    )
    kept = order.folder / WORK / "captions"
    before = _read_kept(kept)
    left = len(asks) - len(before)
    if left:
        blocks = settle_captions(
            asks, writer_of(how.captions), seed=order.seed, before=before,
            block=AT_ONCE * max(how.captions.block, how.captions.concurrency),
        )  # fmt: skip
        for block in track(blocks, label="writing captions", total=left, unit="captions", size=len):
            write_table(kept / f"{block['index'][0]:09d}.parquet", block)
    settled = _read_kept(kept)
    return settled.select(*SCHEMA), count_refusals(settled)


def _by_file(order: Order) -> Made:
    given = read_captions(Path(str(order.how.captions.path)), order.task)
    counts = {"n": order.how.n, "per_class": order.how.per_class}
    return take_captions(given, order.task.labels, seed=order.seed, **counts), {}


def _by_alt_text(order: Order) -> Made:
    pairs = read_pairs(order.source, ["id", "label", "caption"])
    texts = distinct_texts(pairs, seed=order.seed)
    return retell(texts, order.labels, order.task.name_of, kind="alt_text"), {}


def _by_captioner(order: Order) -> Made:
    how = order.how.captions
    labels = pl.Series(order.labels, dtype=pl.String)
    wanted = dict(labels.value_counts(name="count").iter_rows())
    told = describe_pairs(
        order.source, wanted, model=str(how.model), tokens=how.tokens, block=how.block,
        seed=order.seed, folder=order.folder / WORK / "described",
    )  # fmt: skip
    captions = retell(told.texts, labels, order.task.name_of, kind="captioner")
    return captions, {"unreadable": told.unreadable}


_WAYS: Mapping[str, Callable[[Order], Made]] = {
    "grammar": _by_grammar,
    "model": _by_writer,
    "endpoint": _by_writer,
    "file": _by_file,
    "alt_text": _by_alt_text,
    "captioner": _by_captioner,
}

_TOLD = {
    "empty": "answers had nothing in them and were asked for again",
    "lost": "answers lost the name of their class and were asked for again",
    "unreadable": "images could not be described",
    "repeated": "captions say what another of their class says; their images differ by noise",
}


def _read_kept(folder: Path) -> pl.DataFrame:
    """The captions that were settled already, in order."""
    empty = pl.DataFrame(schema=SETTLED)
    return pl.concat([empty, *map(pl.read_parquet, sorted(folder.glob("*.parquet")))])


def _has_backgrounds(task: Task) -> bool:
    return task.domain is not None or any(c.backgrounds for c in task.classes)


def _file_digest(path: Path) -> str:
    file = path / CAPTIONS if path.is_dir() else path
    if not file.is_file():
        raise InputError("no captions there", expected=f"a file {path}", seen="nothing there")
    return digest_file(file)


def _model_digest(model: str) -> str:
    from headwater.synthesize.captions.checkpoint import find_model, model_digest

    return model_digest(find_model(model))
