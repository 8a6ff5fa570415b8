"""`perturb`: the images of a set after noise-and-denoise at strength gamma, as a set.

A perturbed set inherits the ids its parent kept and is filtered no second time, so that both
are paired image by image.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from headwater.curate.pixels import PIXELS_FILE, as_it_came, looks_column, summarize
from headwater.decode import decode_rgb, encode_jpeg
from headwater.pairs import image_column, read_shard, sha256_of, shard_path, shard_paths
from headwater.progress import track
from headwater.prompts import fill
from headwater.steps.sets import Part, finish_set, make_parts, sift
from headwater.steps.synthesis.settings import Perturbation
from headwater.store import Json, read_step, step, write_json
from headwater.synthesize.generator import generator_digest, load_generator
from headwater.synthesize.perturb import perturb_images
from headwater.task import Task

GATES = ("inherited", "valid")


def perturb(
    source: Path,
    task: Task,
    out: Path,
    *,
    generator: str | Path | None,
    how: Perturbation,
    seed: int = 0,
) -> Json:
    """Make the set `out` of the perturbed images of the set `source`.

    Args:
        source: a finished set, curated already.
        task: whose class names the images are denoised with.
        out: the new set's folder.
        generator: a diffusers pipeline with an img2img form; not needed at gamma 0.
        how: gamma and the settings of the pipeline.
        seed: of the noise; each image's noise depends on it and on the image's id only.

    Returns:
        Images left after each gate.

    Raises:
        SetError: the source is unfinished.
        ModelError: the generator cannot be opened, or has no img2img form.
    """
    painted = how.gamma > 0
    inputs = {"set": read_step(source)["digest"], "task": task.digest}
    if painted:
        inputs["generator"] = generator_digest(str(generator))
    arguments = {"seed": seed, **how.model_dump(mode="json", exclude={"source"})}
    with step(out, "perturb", arguments=arguments, inputs=inputs) as this:
        if this.finished:
            return this.counts
        pipeline = load_generator(str(generator)) if painted else None
        names = task.name_of

        def work(path: Path) -> Part:
            pairs = read_shard(path)
            data = pairs["image"].struct.field("bytes")
            made = perturb_images(
                pipeline,
                (decode_rgb(one) for one in data),
                [fill(how.prompt, names[label]) for label in pairs["label"]],
                gamma=how.gamma,
                keys=pairs["id"].to_list(),
                seed=seed,
                **how.arguments,
            )
            done = list(track(made, label=f"perturbing at {how.gamma:g}", total=len(pairs)))
            images = [encode_jpeg(one.image, quality=how.quality) for one in done]
            reasons = [one.reason for one in done]
            return sift(_with_images(pairs, images), reasons, gate="valid")

        make_parts(out, work, shard_paths(source), label=f"perturbing at {how.gamma:g}", workers=1)
        write_looks(source, out)
        story = f"Images of another set after noise and denoising at gamma {how.gamma:g}."
        title = f"{task.name}: perturbed at {how.gamma:g}"
        finish_set(this, labels=task.labels, gates=GATES, title=title, story=story)
        return this.counts


def write_looks(source: Path, out: Path) -> None:
    """What the images were like before they were perturbed, and what they are like."""
    parents = shard_paths(source)
    own = [shard_path(out, number, len(parents)) for number in range(len(parents))]
    looks = [_looks(*both) for both in zip(parents, own, strict=True)]
    write_json(out / PIXELS_FILE, summarize(pl.concat(looks)))


def _with_images(pairs: pl.DataFrame, images: list[bytes]) -> pl.DataFrame:
    names = pairs["image"].struct.field("path").to_list()
    return pairs.with_columns(
        image_column(images, names),
        pl.Series("sha256", [sha256_of(data) for data in images], dtype=pl.String),
        source=pl.lit("perturbed"),
    )


def _looks(source: Path, own: Path) -> pl.DataFrame:
    key = ["id", "label"]
    parent = read_shard(source, [*key, "image"]).rename({"image": "before"})
    both = read_shard(own, [*key, "image"]).join(parent, on=key, maintain_order="left")
    return pl.DataFrame(
        [
            looks_column(name, (as_it_came(data).after for data in images.struct.field("bytes")))
            for name, images in (("before", both["before"]), ("after", both["image"]))
        ]
    )
