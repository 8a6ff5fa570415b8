"""Commands that make images with a generator: captions, synthesis, perturbation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headwater import terminal
from headwater.cli.apps import app, task_app
from headwater.cli.options import (
    AsJson,
    Block,
    Concurrency,
    Domain,
    Engine,
    Guidance,
    Key,
    Out,
    Painters,
    Precision,
    SaveSize,
    Scheduler,
    Seed,
    SetFolder,
    Size,
    TaskArgument,
    TaskName,
    Temperature,
    Tokens,
    TopP,
    Url,
    Writer,
    settings,
)
from headwater.errors import InputError

if TYPE_CHECKING:
    from headwater.steps.synthesis.settings import Writing

WAYS = ("grammar", "model", "endpoint", "alt_text", "captioner")


@app.command()
def synthesize(
    task: TaskName,
    out: Out,
    generator: Annotated[
        str | None, typer.Option(help="A diffusers pipeline: a folder or a name.")
    ] = None,
    n: Annotated[int | None, typer.Option("-n", help="Images, over all classes.")] = None,
    per_class: Annotated[int | None, typer.Option(help="Or images of each class.")] = None,
    captions_only: Annotated[
        bool, typer.Option("--captions-only", help="Write captions and paint nothing.")
    ] = False,
    captions: Annotated[
        str, typer.Option(help=f"Who writes: {', '.join(WAYS)}; or a file of captions.")
    ] = "grammar",
    kind: Annotated[
        list[str] | None, typer.Option(help="Share of a kind of captions: background=0.4.")
    ] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(help='What the kind "attribute" says: "in snow".')
    ] = None,
    domain: Domain = None,
    writer: Writer = None,
    url: Url = None,
    key: Key = None,
    concurrency: Concurrency = None,
    pairs: Annotated[
        Path | None, typer.Option(help="The set whose pairs alt_text and captioner tell of.")
    ] = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    tokens: Tokens = None,
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 50,
    guidance: Guidance = 2.0,
    size: Size = 512,
    save_size: SaveSize = 256,
    block: Block = 8,
    scheduler: Scheduler = "auto",
    precision: Precision = "float32",
    name: Annotated[str, typer.Option(help="The namespace of the ids.")] = "synthetic",
    seed: Seed = 0,
    engine: Engine = "local",
    workers: Painters = None,
    as_json: AsJson = False,
) -> None:
    """Images painted by a generator for every class of a task, as a set.

    Example: headwater synthesize --task roses.yaml --generator sd15 -n 500 --out sets/synthetic
    """
    from headwater.steps.synthesis.captions import write_task_captions
    from headwater.steps.synthesis.settings import Synthesis
    from headwater.steps.synthesis.synthesize import synthesize as step
    from headwater.task import load_task

    writing = _writing(
        captions, kinds=_shares(kind), attributes=tuple(attribute or ()), domain=domain,
        model=writer, url=url, key=key, concurrency=concurrency,
        source=pairs.name if pairs else None, temperature=temperature, top_p=top_p, tokens=tokens,
    )  # fmt: skip
    how = settings(
        Synthesis, n=n, per_class=per_class, steps=steps, guidance=guidance, size=size,
        save_size=save_size, block=block, scheduler=scheduler, precision=precision,
        captions=writing,
    )  # fmt: skip
    if captions_only:
        counts = write_task_captions(load_task(task), out, how=how, seed=seed, pairs=pairs)
        terminal.show(counts, as_json, terminal.facts)
        return
    if generator is None:
        raise InputError(
            "nothing to paint with", expected="--generator, or --captions-only", seen="neither"
        )
    counts = step(
        load_task(task), out, generator=generator, how=how, name=name, seed=seed, pairs=pairs,
        engine=engine, workers=workers,
    )  # fmt: skip
    terminal.show(counts, as_json, terminal.pairs)


@task_app.command("backgrounds")
def task_backgrounds(
    task: TaskArgument,
    out: Annotated[Path, typer.Option("--out", help="The task file to write.")],
    by: Annotated[
        str, typer.Option(help="Who writes: grammar (from a domain), model or endpoint.")
    ] = "grammar",
    count: Annotated[int, typer.Option(min=1, help="Backgrounds of each class.")] = 20,
    domain: Domain = None,
    writer: Writer = None,
    url: Url = None,
    key: Key = None,
    concurrency: Concurrency = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    tokens: Tokens = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Backgrounds for a task's own classes, kept in its file, where you may mend them.

    Example: headwater task backgrounds roses.yaml --domain flowers --out roses-outside.yaml
    """
    from headwater.steps.synthesis.backgrounds import write_backgrounds
    from headwater.store import write_text
    from headwater.task import load_task

    if out.exists():
        load_task(out)  # what is no task is not replaced
    how = _writing(
        by, domain=domain, model=writer, url=url, key=key, concurrency=concurrency,
        temperature=temperature, top_p=top_p, tokens=tokens,
    )  # fmt: skip
    told = write_backgrounds(load_task(task), how=how, count=count, seed=seed)
    write_text(out, told.to_yaml(out.parent))
    counts = {c.label: len(c.backgrounds) for c in told.classes}
    terminal.show({"task": str(out), "backgrounds": counts}, as_json, terminal.backgrounds)


def _writing(captions: str, **asked: Any) -> Writing:
    """How captions come about: `captions` is one of the ways, or where they are."""
    from headwater.steps.synthesis.settings import Writing

    if captions not in WAYS and not Path(captions).exists():
        raise InputError(
            "no such captions", expected=f"{', '.join(WAYS)}, or a file", seen=captions
        )
    way = {"by": captions} if captions in WAYS else {"by": "file", "path": captions}
    return settings(Writing, **way, **{k: v for k, v in asked.items() if v not in (None, ())})


def _shares(kinds: list[str] | None) -> dict[str, float] | None:
    """Shares of kinds of captions, of `KIND=SHARE` each."""
    told = {}
    for text in kinds or ():
        kind, _, share = text.partition("=")
        try:
            told[kind.strip()] = float(share)
        except ValueError:
            raise InputError("--kind", expected="KIND=SHARE", seen=text) from None
    return told or None


@app.command()
def perturb(
    source: SetFolder,
    task: TaskName,
    out: Out,
    gamma: Annotated[
        list[str],
        typer.Option(help="0 codec only, autoencoder, up to 1 all noise; several: a set each."),
    ],
    generator: Annotated[
        str | None, typer.Option(help="A diffusers pipeline, unless gamma is 0.")
    ] = None,
    prompt: Annotated[str, typer.Option(help="{} is the class name.")] = "a photo of {}",
    steps: Annotated[int, typer.Option(help="Denoising steps of a whole run.")] = 50,
    guidance: Guidance = 2.0,
    size: Size = 512,
    save_size: SaveSize = 256,
    block: Block = 8,
    scheduler: Scheduler = "auto",
    precision: Precision = "float32",
    html: Annotated[
        Path | None, typer.Option(help="Write a page of the same images side by side.")
    ] = None,
    seed: Seed = 0,
    engine: Engine = "local",
    workers: Painters = None,
    as_json: AsJson = False,
) -> None:
    """The images of a set after noise and denoising at strength gamma, as a set.

    Several gammas share each image's noise. One gamma makes the set --out itself, several make a
    set in it each: gamma=0.2, gamma=autoencoder and so on.

    Example: headwater perturb sets/kept --task roses.yaml --gamma 0.4 --generator sd15 --out g4
    """
    from headwater.steps.synthesis.perturb import perturb as step
    from headwater.steps.synthesis.perturb import perturb_curve
    from headwater.steps.synthesis.settings import Perturbation
    from headwater.steps.synthesis.strip import write_strip
    from headwater.store import check_page
    from headwater.task import load_task

    if html:
        check_page(html)
    ways = [
        settings(
            Perturbation, source=source.name, gamma=each, prompt=prompt, steps=steps,
            guidance=guidance, size=size, save_size=save_size, block=block, scheduler=scheduler,
            precision=precision,
        )
        for each in gamma
    ]  # fmt: skip
    told = load_task(task)
    asked: dict[str, Any] = {
        "generator": generator, "how": ways[0], "seed": seed, "engine": engine, "workers": workers,
    }  # fmt: skip
    if len(ways) == 1:
        folders = [out]
        counts = step(source, told, out, **asked)
        terminal.show(counts, as_json, terminal.pairs)
    else:
        made = perturb_curve(source, told, out, gammas=[way.gamma for way in ways], **asked)
        folders = [out / name for name in made]
        terminal.show(made, as_json, terminal.curve)
    if html:
        write_strip(source, folders, told, html)
