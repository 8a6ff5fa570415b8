"""Commands that make images with a generator: captions, synthesis, perturbation."""

from __future__ import annotations

from typing import Annotated

import typer

from headwater import terminal
from headwater.cli.apps import app
from headwater.cli.options import (
    AsJson,
    Block,
    Guidance,
    Out,
    SaveSize,
    Seed,
    SetFolder,
    Size,
    TaskName,
    settings,
)
from headwater.errors import InputError


@app.command()
def synthesize(
    task: TaskName,
    out: Out,
    generator: Annotated[str, typer.Option(help="A diffusers pipeline: a folder or a name.")],
    n: Annotated[int | None, typer.Option("-n", help="Images, over all classes.")] = None,
    per_class: Annotated[int | None, typer.Option(help="Or images of each class.")] = None,
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 50,
    guidance: Guidance = 2.0,
    size: Size = 512,
    save_size: SaveSize = 256,
    block: Block = 8,
    name: Annotated[str, typer.Option(help="The namespace of the ids.")] = "synthetic",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Images painted by a generator for every class of a task, as a set.

    Example: headwater synthesize --task roses.yaml --generator sd15 -n 500 --out sets/synthetic
    """
    from headwater.steps.synthesis.settings import Synthesis
    from headwater.steps.synthesis.synthesize import synthesize as step
    from headwater.task import load_task

    how = settings(
        Synthesis, n=n, per_class=per_class, steps=steps, guidance=guidance, size=size,
        save_size=save_size, block=block,
    )  # fmt: skip
    counts = step(load_task(task), out, generator=generator, how=how, seed=seed, name=name)
    terminal.show(counts, as_json, terminal.pairs)


@app.command()
def perturb(
    source: SetFolder,
    task: TaskName,
    out: Out,
    gamma: Annotated[float, typer.Option(help="Strength: 0 codec only, 1 all noise.")],
    generator: Annotated[str | None, typer.Option(help="A diffusers pipeline.")] = None,
    prompt: Annotated[str, typer.Option(help="{} is the class name.")] = "a photo of {}",
    steps: Annotated[int, typer.Option(help="Denoising steps of a whole run.")] = 50,
    guidance: Guidance = 2.0,
    size: Size = 512,
    save_size: SaveSize = 256,
    block: Block = 8,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """The images of a set after noise and denoising at strength gamma, as a set.

    Example: headwater perturb sets/kept --task roses.yaml --gamma 0.4 --generator sd15 --out g4
    """
    from headwater.steps.synthesis.perturb import perturb as step
    from headwater.steps.synthesis.settings import Perturbation
    from headwater.task import load_task

    if gamma > 0 and generator is None:
        raise InputError("gamma above 0 needs a generator", do="Give --generator.")
    how = settings(
        Perturbation, source=source.name, gamma=gamma, prompt=prompt, steps=steps,
        guidance=guidance, size=size, save_size=save_size, block=block,
    )  # fmt: skip
    counts = step(source, load_task(task), out, generator=generator, how=how, seed=seed)
    terminal.show(counts, as_json, terminal.pairs)
