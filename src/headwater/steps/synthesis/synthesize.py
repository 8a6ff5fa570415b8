"""`synthesize`: images painted by a generator for every class of a task, as a set.

Captions come from a small grammar, one image a caption. Image i depends only on the seed, i,
its caption, the generator and the settings; parts are blocks of consecutive i.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from headwater.decode import encode_png
from headwater.pairs import check_namespace, image_column, sha256_of
from headwater.progress import track
from headwater.steps.sets import Part, finish_set, make_parts, sift
from headwater.steps.synthesis.settings import Synthesis
from headwater.store import Json, step
from headwater.synthesize.captions import KINDS, write_captions
from headwater.synthesize.generator import generator_digest, load_generator
from headwater.synthesize.images import generate_images
from headwater.task import Task

GATES = ("made", "valid")
PART = 256  # images a part, rounded up to whole blocks: what a kill can cost


def synthesize(
    task: Task,
    out: Path,
    *,
    generator: str | Path,
    how: Synthesis,
    seed: int = 0,
    name: str = "synthetic",
) -> Json:
    """Make the set `out` of images of the task's classes.

    Args:
        task: whose class names (and synthesis prompts, if it has any) are painted.
        out: the new set's folder.
        generator: a diffusers pipeline: a folder, or a name on the Hub.
        how: number of images and the settings of the pipeline.
        seed: of captions and noise.
        name: the namespace of the ids, with the seed.

    Returns:
        Images left after each gate.

    Raises:
        ModelError: the generator cannot be opened.
    """
    inputs = {"task": task.digest, "generator": generator_digest(generator)}
    check_namespace(name)
    arguments = {"name": name, "seed": seed, **how.model_dump(mode="json")}
    with step(out, "synthesize", arguments=arguments, inputs=inputs) as this:
        if this.finished:
            return this.counts
        captions = captions_for(task, how, seed)
        pipeline = load_generator(generator)
        size = -(-PART // how.block) * how.block
        jobs = [captions.slice(start, size) for start in range(0, len(captions), size)]

        def work(rows: pl.DataFrame) -> Part:
            made = generate_images(
                pipeline,
                rows["caption"].to_list(),
                seed=seed,
                indices=rows["index"].to_list(),
                **how.arguments,
            )
            done = list(track(made, label="painting", total=len(rows)))
            pairs = _pairs(rows, [encode_png(one.image) for one in done], f"{name}-{seed}")
            return sift(pairs, [one.reason for one in done], gate="valid")

        make_parts(out, work, jobs, label="synthesizing", workers=1)
        made = f"{len(captions):,} images painted from captions"
        story = f"{made}, seed {seed}, for the task {task.name}."
        title = f"{task.name}: synthetic"
        finish_set(this, labels=task.labels, gates=GATES, title=title, story=story)
        return this.counts


def captions_for(task: Task, how: Synthesis, seed: int) -> pl.DataFrame:
    """The captions to paint: columns index, label, caption, kind."""
    return write_captions(
        task.name_of,
        how.n,
        per_class=how.per_class,
        seed=seed,
        kinds=how.captions.kinds or KINDS,
        templates=task.prompts.synthesis or None,
    )


def _pairs(rows: pl.DataFrame, images: list[bytes], namespace: str) -> pl.DataFrame:
    names = [f"{index:07d}" for index in rows["index"]]
    return rows.select("label", "caption").with_columns(
        pl.Series("id", [f"{namespace}:{name}" for name in names]),
        image_column(images, [f"{name}.png" for name in names]),
        pl.Series("sha256", [sha256_of(data) for data in images]),
        source=pl.lit("synthetic"),
        pool=pl.lit(namespace),
        query=rows["kind"],
        found_by=pl.lit("synthesis"),
    )
