"""`perturb`: the images of a set after noise-and-denoise at strength gamma, as a set.

A perturbed set inherits the ids its parent kept and is filtered no second time, so that both
are paired image by image, and so are the sets of several gammas. An image that came out broken
is dropped with its reason and nothing takes its place: `valid` counts what is left, and
`paired_pairs` what all sets of a curve have in common.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import accumulate
from pathlib import Path

import polars as pl
import torch

from headwater.cost import sum_costs, tell_cost
from headwater.curate.pixels import PIXELS_FILE, summarize
from headwater.errors import InputError, SetError
from headwater.pairs import read_decisions, read_funnel, read_shard, shard_paths
from headwater.progress import say
from headwater.prompts import SLOT, fill
from headwater.steps.agreement import KEY, check_classes
from headwater.steps.curation.refusals import refuse_waiting
from headwater.steps.sets import finish_set, make_parts
from headwater.steps.synthesis.easel import UNIT
from headwater.steps.synthesis.ledger import write_blocks, write_costs
from headwater.steps.synthesis.painter import gpu_count, painting_workers, part_size
from headwater.steps.synthesis.retouch import Retoucher, Rows, read_looks
from headwater.steps.synthesis.settings import Perturbation
from headwater.store import DONE, Json, read_step, step, write_json
from headwater.synthesize.gamma import AUTOENCODER, Gamma, gamma_name
from headwater.synthesize.generator import generator_digest
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
    engine: str = "local",
    workers: int | None = None,
) -> Json:
    """Make the set `out` of the perturbed images of the set `source`.

    Args:
        source: a finished set, curated already, or one without labels.
        task: whose class names the images are denoised with; pairs without a label are denoised
            with what stands before the class in the prompt.
        out: the new set's folder.
        generator: a diffusers pipeline with an img2img form; not needed at gamma 0.
        how: gamma and the settings of the pipeline.
        seed: of the noise; each image's noise depends on it and on the image's id only.
        engine, workers: what runs side by side, as `painting_workers` takes them.

    Returns:
        Images left after each gate.

    Raises:
        SetError: the source is unfinished, has images to download, or is of other classes.
        ModelError: the generator cannot be opened, or has no img2img form.
        InputError: no generator, and gamma is not 0.
    """
    record = read_step(source)
    refuse_waiting(source)
    check_classes(source, task)
    labels = list(read_funnel(source)["classes"])
    prompts = {label: prompt_for(label, task.name_of, how.prompt) for label in labels}
    painted = how.gamma != 0
    inputs = {"set": record["digest"], "task": task.digest} | _painter_input(generator, how.gamma)
    arguments = {"seed": seed, **how.model_dump(mode="json", exclude={"source"})}
    with step(out, "perturb", arguments=arguments, inputs=inputs) as this:
        if this.finished:
            return this.counts
        jobs = cut_into_rows(source, block=how.block)
        retoucher = Retoucher(
            out, str(generator) if painted else None, how, seed=seed, prompts=prompts,
            threads=torch.get_num_threads(),
        )  # fmt: skip
        crew = painting_workers(workers, gpus=gpu_count(), engine=engine)
        make_parts(
            out, retoucher, list(enumerate(jobs)), label=f"perturbing at {gamma_name(how.gamma)}",
            unit=UNIT, size=_count, engine=engine, workers=crew if painted else workers,
            gpu=painted,
        )  # fmt: skip
        write_json(out / PIXELS_FILE, summarize(read_looks(out)))
        halved = write_blocks(out, [rows.first for rows in jobs], block=how.block)
        story = f"Images of another set, {gamma_words(how.gamma)}."
        title = f"{task.name}: perturbed at {gamma_name(how.gamma)}"
        finish_set(this, labels=labels, gates=GATES, title=title, story=story)
        cost = sum_costs(write_costs(out))
        if cost is not None and painted:
            say(f"perturbing: {tell_cost(cost)}")
        _tell(this.counts, how.gamma, halved=halved)
        return this.counts


def perturb_curve(
    source: Path,
    task: Task,
    out: Path,
    *,
    gammas: Sequence[Gamma],
    generator: str | Path | None,
    how: Perturbation,
    seed: int = 0,
    engine: str = "local",
    workers: int | None = None,
) -> dict[str, Json]:
    """Make a perturbed set for each of several gammas: `out/gamma=0.3` and so on.

    Args:
        gammas: of the sets; a set that is there already is left alone.
        how: the settings they share; its own gamma says nothing here.
        source, task, generator, seed, engine, workers: as `perturb` takes them.

    Returns:
        By the name of its folder, what `perturb` returned for each gamma.

    Raises:
        SetError: `out` is a set itself.
        Whatever `perturb` raises.
    """
    if (out / DONE).exists():
        raise SetError(
            f"{out} is a set", expected="a folder for several sets", seen="one made already",
            do="Choose another --out.",
        )  # fmt: skip
    made = {}
    for gamma in gammas:
        way = Perturbation.model_validate({**how.model_dump(), "gamma": gamma})
        name = folder_name(way.gamma)
        made[name] = perturb(
            source, task, out / name, generator=generator, how=way, seed=seed, engine=engine,
            workers=workers,
        )  # fmt: skip
    return made


def folder_name(gamma: Gamma) -> str:
    """What the set of a gamma is called among others.

    Example:
        >>> folder_name(0.3)
        'gamma=0.3'
    """
    return f"gamma={gamma_name(gamma)}"


def paired_pairs(folders: Sequence[Path]) -> pl.DataFrame:
    """The id and label of every pair that all perturbed sets of a parent have kept."""
    kept = [read_decisions(folder).filter("kept").select(KEY) for folder in folders]
    return reduce(lambda one, other: one.join(other, on=KEY, how="semi"), kept)


def gamma_words(gamma: Gamma) -> str:
    """What was done at a gamma, in words.

    Example:
        >>> gamma_words(0.3)
        'after noise and denoising at gamma 0.3'
    """
    if gamma == AUTOENCODER:
        return "encoded and decoded by the autoencoder of a generator"
    return f"after noise and denoising at gamma {gamma:g}" if gamma else "resized, by no model"


def prompt_for(label: str, names: Mapping[str, str], template: str) -> str:
    """The prompt of a class; without a class, what stands before it in the template.

    Example:
        >>> prompt_for("a", {"a": "iris"}, "a photo of {a} {}"), prompt_for("", {}, "a photo of {}")
        ('a photo of an iris', 'a photo')
    """
    if label in names:
        return fill(template, names[label])
    before = SLOT.split(template)[0]
    return re.sub(r"(\s+(of|a|an|the))*\s*$", "", before)


def cut_into_rows(source: Path, *, block: int) -> list[Rows]:
    """The parts a set is perturbed in: whole blocks of a shard.

    Blocks begin with each shard, so an image stands at the same place of the same block in
    whatever parts and by however many workers. A shard without pairs is one part.
    """
    counts = {path: len(read_shard(path, ["id"])) for path in shard_paths(source)}
    size = part_size(sum(counts.values()), block=block)
    before = accumulate(counts.values(), initial=0)
    return [
        Rows(path, range(start, min(start + size, count)), first + start)
        for (path, count), first in zip(counts.items(), before, strict=False)
        for start in range(0, max(count, 1), size)
    ]


def _painter_input(generator: str | Path | None, gamma: Gamma) -> dict[str, str]:
    """The digest of the generator, where there is anything for it to do."""
    if gamma == 0:
        return {}
    if generator is None:
        raise InputError(f"gamma {gamma_name(gamma)} needs a generator", do="Give one.")
    return {"generator": generator_digest(generator)}


def _count(numbered: tuple[int, Rows]) -> int:
    return len(numbered[1].which)


def _tell(counts: Json, gamma: Gamma, *, halved: int) -> None:
    if halved:
        counts["halved"] = halved
    dropped = counts["inherited"] - counts["valid"]
    if dropped:
        say(f"{dropped:,} of {counts['inherited']:,} images came out broken at {gamma_name(gamma)}")
