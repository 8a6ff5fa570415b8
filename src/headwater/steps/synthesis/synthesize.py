"""`synthesize`: images painted by a generator for every class of a task, as a set.

One image a caption (`captions.py`). Image i depends only on the seed, i, its caption, the
generator and the settings; a part of the set is a run of consecutive i, in whole blocks
(`easel.py`). Parts are painted side by side, each by the painter of its process (`painter.py`).
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import torch

from headwater.classes import many
from headwater.cost import sum_costs, tell_cost
from headwater.pairs import check_namespace
from headwater.progress import say
from headwater.steps.sets import finish_set, make_parts, parts_decisions
from headwater.steps.synthesis.captions import caption_inputs, task_captions
from headwater.steps.synthesis.easel import LABEL, UNIT, Easel
from headwater.steps.synthesis.ledger import count_cut, write_blocks, write_costs
from headwater.steps.synthesis.painter import gpu_count, painting_workers, part_size
from headwater.steps.synthesis.settings import Synthesis
from headwater.steps.synthesis.story import tell_captions, tell_dropped, tell_generator
from headwater.store import WORK, Json, read_json, step, write_json, write_table
from headwater.synthesize.captions.given import CAPTIONS
from headwater.synthesize.generator import generator_digest
from headwater.task import Task

COUNTS = "captions.json"  # beside unfinished work: what was told of the captions
GATES = ("written", "fits", "valid")


def synthesize(
    task: Task,
    out: Path,
    *,
    generator: str | Path,
    how: Synthesis,
    seed: int = 0,
    name: str = "synthetic",
    pairs: Path | None = None,
    engine: str = "local",
    workers: int | None = None,
) -> Json:
    """Make the set `out` of images of the task's classes.

    Args:
        task: whose class names (and synthesis prompts, if it has any) are painted.
        out: the new set's folder.
        generator: a diffusers pipeline: a folder, or a name on the Hub.
        how: number of images, their captions, and the settings of the pipeline.
        seed: of captions and noise.
        name: the namespace of the ids, with the seed.
        pairs: the finished set that captions by `alt_text` or `captioner` tell of.
        engine, workers: what runs side by side, as `run_shards` takes them; None: a process for
            each GPU, or one.

    Returns:
        Images left after each gate; and where there are any, captions `repeated`, answers that were
        `empty` or `lost` the name of their class, images that were `unreadable`, captions `cut`,
        and blocks `halved` for want of memory.

    Raises:
        ModelError: the generator cannot be opened.
        RunError: not even one image at a time fits into memory.
    """
    check_namespace(name)
    inputs = {
        "task": task.digest,
        "generator": generator_digest(generator),
        **caption_inputs(how.captions, pairs, task=task),
    }
    arguments = {
        "name": name, "seed": seed, **how.model_dump(mode="json", exclude={"captions"}),
        "captions": how.captions.arguments,
    }  # fmt: skip
    with step(out, "synthesize", arguments=arguments, inputs=inputs) as this:
        if this.finished:
            return this.counts
        captions, told = _captions(task, how, seed=seed, folder=out, pairs=pairs)
        parts = cut_into_parts(captions, block=how.block)
        easel = Easel(
            out, str(generator), how, seed=seed, namespace=f"{name}-{seed}",
            names=task.name_of, threads=torch.get_num_threads(),
        )  # fmt: skip
        make_parts(
            out, easel, list(enumerate(parts)), label=LABEL, unit=UNIT, size=_images, gpu=True,
            engine=engine, workers=painting_workers(workers, gpus=gpu_count(), engine=engine),
        )  # fmt: skip
        odd = {
            **told,
            "cut": count_cut(out),
            "halved": write_blocks(out, [part["index"][0] for part in parts], block=how.block),
        }
        story = [
            f"{len(captions):,} images painted by {tell_generator(generator, inputs['generator'])}"
            f", seed {seed}, for the task {task.name}.",
            tell_captions(
                captions, by=how.captions.by, repeated=told.get("repeated", 0), cut=odd["cut"]
            ),
            tell_dropped(parts_decisions(out)),
        ]
        finish_set(
            this, labels=task.labels, gates=GATES, title=f"{task.name}: synthetic",
            story=" ".join(filter(None, story)),
        )  # fmt: skip
        this.counts |= {name: count for name, count in odd.items() if count}
        _say(this.counts, write_costs(out))
        return this.counts


def cut_into_parts(captions: pl.DataFrame, *, block: int) -> list[pl.DataFrame]:
    """Captions as they are painted together.

    Example:
        >>> captions = pl.DataFrame({"index": range(100)})
        >>> [len(part) for part in cut_into_parts(captions, block=10)]
        [40, 40, 20]
    """
    size = part_size(len(captions), block=block)
    return [captions.slice(start, size) for start in range(0, len(captions), size)]


def _captions(
    task: Task, how: Synthesis, *, seed: int, folder: Path, pairs: Path | None
) -> tuple[pl.DataFrame, Json]:
    # Written once: whoever writes them may write others when asked again.
    path, counts = folder / CAPTIONS, folder / WORK / COUNTS
    if not (path.exists() and counts.exists()):
        told: Json = {}
        captions = task_captions(
            task, how, seed=seed, folder=folder, pairs=pairs, on_counts=told.update
        )
        write_json(counts, {"counts": told})
        write_table(path, captions)
    return pl.read_parquet(path), read_json(counts)["counts"]


def _images(numbered: tuple[int, pl.DataFrame]) -> int:
    return len(numbered[1])


def _say(counts: Json, costs: pl.DataFrame) -> None:
    """What one would not see in the numbers of the gates."""
    if cut := counts.get("cut"):
        say(f"{many(cut, 'caption')} cut short: longer than the generator reads")
    if cost := sum_costs(costs):
        say(f"cost: {tell_cost(cost)}")
