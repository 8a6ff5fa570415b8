"""The command line: one command a verb. Each opens, calls and prints; the work is in `steps/`.

Results go to standard output (`--json` for machines), progress and errors to standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from headwater import terminal
from headwater.errors import HeadwaterError, InputError, RunError, plain

if TYPE_CHECKING:
    from headwater.clip import Clip

Settings = TypeVar("Settings")

# Typer brings its own copy of click, so its errors are reached through a name it makes public.
UsageError: Any = typer.BadParameter.__bases__[0]

app = typer.Typer(
    name="headwater",
    help="Where should the training images come from? Retrieve, synthesize, compare.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
task_app = typer.Typer(no_args_is_help=True, help="Look at tasks.", rich_markup_mode=None)
pool_app = typer.Typer(no_args_is_help=True, help="Look at and embed pools.", rich_markup_mode=None)
app.add_typer(task_app, name="task")
app.add_typer(pool_app, name="pool")

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Out = Annotated[Path, typer.Option("--out", help="The folder to make.")]
TaskName = Annotated[str, typer.Option("--task", help="A task file, or a built-in task's name.")]
Model = Annotated[str, typer.Option("--model", help="A model folder, or an open_clip name.")]
Pretrained = Annotated[
    str | None, typer.Option(help="For an open_clip name: a tag, or a weights file.")
]
Config = Annotated[str | None, typer.Option(help="For an unknown name: the model's JSON config.")]
Activation = Annotated[
    str | None, typer.Option(help="Of bare weights: gelu or quickgelu, as they were trained.")
]
Workers = Annotated[int | None, typer.Option(help="Processes; one per core if not given.")]
Engine = Annotated[str, typer.Option(help="What runs side by side: local processes, or ray.")]
Seed = Annotated[int, typer.Option(help="Decides everything that is random.")]
PoolName = Annotated[str, typer.Option(help="The namespace of the ids of the pool's pairs.")]
SetFolder = Annotated[Path, typer.Argument(metavar="SET", help="A finished set.")]
StudyFolder = Annotated[Path, typer.Argument(metavar="STUDY", help="A study's folder.")]


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; every error becomes one line."""
    try:
        code = app(arguments, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except UsageError as error:
        message = plain(error.format_message())
        return _fail(f"{message} See `headwater --help`." if message else "", 2)
    except HeadwaterError as error:
        return _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("stopped; the same command goes on where it was.", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(str(RunError(str(error), do="Run the same command again once mended.")), 1)
    except MemoryError:
        return _fail("out of memory; finished work is kept. Try smaller --workers or scales.", 1)


@app.command()
def demo(
    out: Out,
    quick: Annotated[bool, typer.Option("--quick", help="A smaller world, in a minute.")] = False,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """The whole road in miniature, on real digit scans, offline.

    Example: headwater demo --out out/demo
    """
    from headwater.miniature.demo import run_demo

    study = run_demo(out, quick=quick, workers=workers)
    terminal.show(study.summary(), as_json, terminal.summary)


@app.command("run")
def run_recipe(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or a built-in recipe's name.")],
    out: Out,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="KEY.KEY=VALUE instead of what it says.")
    ] = None,
    engine: Engine = "local",
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Run a recipe from task to report, or go on with it.

    Example: headwater run roses.yaml --out out/roses --set adapt.epochs=10
    """
    from headwater.recipe import load_recipe
    from headwater.study import run_study

    told = load_recipe(recipe, changes=tuple(changes or ()))
    study = run_study(told, out, engine=engine, workers=workers)
    terminal.show(study.summary(), as_json, terminal.summary)


@app.command()
def status(study: StudyFolder, as_json: AsJson = False) -> None:
    """What of a study is done and what is left.

    Example: headwater status out/roses
    """
    from headwater.study import open_study

    terminal.show(open_study(study).status(), as_json, terminal.rows)


@app.command()
def doctor(
    task: TaskName,
    pool: Annotated[str, typer.Option("--pool", help="The pool's folder, any fsspec path.")],
    mode: Annotated[
        str, typer.Option(help="How captions match: phrase, all, substring or reference.")
    ] = "phrase",
    synonyms: Annotated[
        Path | None, typer.Option(help="JSON with further names to try: {label: [names]}.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page to this file.")] = None,
    seed: Seed = 0,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """What a task's class names would find in a pool's captions, before anything is spent.

    Example: headwater doctor --task roses.yaml --pool pool --html doctor.html
    """
    from headwater.steps.doctor import doctor as step
    from headwater.steps.doctor import read_synonyms, write_page
    from headwater.task import load_task

    names = read_synonyms(synonyms) if synonyms else None
    told = step(pool, load_task(task), mode=mode, synonyms=names, seed=seed, workers=workers)
    if html:
        write_page(told, html)
    terminal.show(told, as_json, terminal.doctor)


@app.command()
def retrieve(
    pool: Annotated[str, typer.Argument(help="The pool's folder, any fsspec path.")],
    task: TaskName,
    out: Out,
    by: Annotated[str, typer.Option(help="captions, neighbors, both or random.")] = "captions",
    mode: Annotated[
        str, typer.Option(help="How captions match: phrase, all, substring or reference.")
    ] = "phrase",
    k: Annotated[int, typer.Option(help="Neighbors per prompt and kind of embedding.")] = 2000,
    average: Annotated[
        bool, typer.Option("--average", help="One query a class: the mean of its prompts.")
    ] = False,
    examples: Annotated[
        str | None, typer.Option(help="Images as queries: one folder a class.")
    ] = None,
    duplicates: Annotated[
        float | None, typer.Option(help="Cosine above which the worse of two neighbors is dropped.")
    ] = None,
    vectors: Annotated[
        Path | None, typer.Option(help="The embedded pool, if it lies elsewhere.")
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="Which of the pool's vectors: b32 or l14 of DataComp's.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model that embedded the pool.")] = None,
    pretrained: Pretrained = None,
    config: Config = None,
    activation: Activation = None,
    n: Annotated[int, typer.Option("-n", help="How many pairs random draws.")] = 10_000,
    unsafe_above: Annotated[
        float, typer.Option(help="The punsafe above which a pair is unsafe.")
    ] = 0.5,
    pool_name: PoolName = "pool",
    seed: Seed = 0,
    engine: Engine = "local",
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Real pairs of a pool for every class of a task, as a set.

    Example: headwater retrieve pool --task roses.yaml --by captions --out sets/captions
    """
    from headwater.steps.retrieve import retrieve as step
    from headwater.steps.settings import Retrieval
    from headwater.task import load_task

    how = _settings(
        Retrieval, by=by, mode=mode, k=k, average=average, examples=examples, n=n,
        duplicates=duplicates, features=features, unsafe_above=unsafe_above,
    )  # fmt: skip
    counts = step(
        pool, load_task(task), out, how=how, seed=seed, pool_name=pool_name,
        clip=_clip(model, pretrained, config, activation) if model else None, vectors=vectors,
        engine=engine, workers=workers,
    )  # fmt: skip
    terminal.show(counts, as_json, terminal.pairs)


@app.command()
def synthesize(
    task: TaskName,
    out: Out,
    generator: Annotated[str, typer.Option(help="A diffusers pipeline: a folder or a name.")],
    n: Annotated[int, typer.Option("-n", help="Images, over all classes.")],
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 50,
    guidance: Annotated[float, typer.Option(help="Classifier-free guidance.")] = 2.0,
    size: Annotated[int, typer.Option(help="Side painted at, pixels.")] = 512,
    save_size: Annotated[int, typer.Option(help="Side saved at, pixels.")] = 256,
    block: Annotated[int, typer.Option(help="Images made at once.")] = 8,
    name: Annotated[str, typer.Option(help="The namespace of the ids.")] = "synthetic",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Images painted by a generator for every class of a task, as a set.

    Example: headwater synthesize --task roses.yaml --generator sd15 -n 500 --out sets/synthetic
    """
    from headwater.steps.settings import Synthesis
    from headwater.steps.synthesize import synthesize as step
    from headwater.task import load_task

    how = _settings(
        Synthesis, n=n, steps=steps, guidance=guidance, size=size, save_size=save_size, block=block
    )
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
    guidance: Annotated[float, typer.Option(help="Classifier-free guidance.")] = 2.0,
    size: Annotated[int, typer.Option(help="Side painted at, pixels.")] = 512,
    save_size: Annotated[int, typer.Option(help="Side saved at, pixels.")] = 256,
    block: Annotated[int, typer.Option(help="Images made at once.")] = 8,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """The images of a set after noise and denoising at strength gamma, as a set.

    Example: headwater perturb sets/kept --task roses.yaml --gamma 0.4 --generator sd15 --out g4
    """
    from headwater.steps.perturb import perturb as step
    from headwater.steps.settings import Perturbation
    from headwater.task import load_task

    if gamma > 0 and generator is None:
        raise InputError("gamma above 0 needs a generator", do="Give --generator.")
    how = _settings(
        Perturbation, source=source.name, gamma=gamma, prompt=prompt, steps=steps,
        guidance=guidance, size=size, save_size=save_size, block=block,
    )  # fmt: skip
    counts = step(source, load_task(task), out, generator=generator, how=how, seed=seed)
    terminal.show(counts, as_json, terminal.pairs)


@app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="One folder a class, with images in it.")],
    task: TaskName,
    out: Out,
    name: Annotated[str, typer.Option(help="The namespace of the ids.")] = "imported",
    engine: Engine = "local",
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Images made elsewhere, as a set like any other.

    Example: headwater import my-images --task roses.yaml --name mine --out sets/mine
    """
    from headwater.steps.importing import import_images
    from headwater.task import load_task

    counts = import_images(folder, load_task(task), out, name=name, engine=engine, workers=workers)
    terminal.show(counts, as_json, terminal.pairs)


@app.command()
def curate(
    source: SetFolder,
    task: TaskName,
    model: Model,
    out: Out,
    pretrained: Pretrained = None,
    config: Config = None,
    activation: Activation = None,
    size: Annotated[int, typer.Option(help="Side of every image, pixels.")] = 256,
    aggregate: Annotated[str, typer.Option(help="Over a class's texts: mean or max.")] = "mean",
    fraction: Annotated[float, typer.Option(help="Share kept of each class.")] = 0.3,
    cap: Annotated[int, typer.Option(help="Most pairs kept of each class.")] = 10_000,
    threshold: Annotated[float | None, typer.Option(help="Lowest score kept.")] = None,
    against: Annotated[
        list[str] | None, typer.Option(help="Splits no pair may copy; test if not given.")
    ] = None,
    copy_threshold: Annotated[
        float | None, typer.Option(help="Similarity that makes a copy.")
    ] = None,
    quality: Annotated[int, typer.Option(help="JPEG quality of every image.")] = 95,
    score: Annotated[bool, typer.Option(help="Score and select, or keep all.")] = True,
    as_json: AsJson = False,
) -> None:
    """The best pairs of a set, free of copies of the test images, as a set.

    Example: headwater curate sets/captions --task roses.yaml --model vit --out sets/kept
    """
    from headwater.steps.curate import curate as step
    from headwater.steps.settings import Curation
    from headwater.task import load_task

    how = _settings(
        Curation, size=size, aggregate=aggregate, fraction=fraction, cap=cap, threshold=threshold,
        against=tuple(against or ["test"]), copy_threshold=copy_threshold, quality=quality,
        score=score,
    )  # fmt: skip
    clip = _clip(model, pretrained, config, activation)
    terminal.show(step(source, load_task(task), out, clip=clip, how=how), as_json, terminal.pairs)


@app.command()
def adapt(
    sets: Annotated[list[Path], typer.Argument(metavar="SET...", help="Sets, in equal shares.")],
    task: TaskName,
    model: Model,
    out: Out,
    pretrained: Pretrained = None,
    config: Config = None,
    activation: Activation = None,
    n: Annotated[int | None, typer.Option("-n", help="Pairs to train on; else all.")] = None,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-5,
    epochs: Annotated[int, typer.Option(help="Passes over the pairs.")] = 30,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 512,
    objective: Annotated[str, typer.Option(help="cross_entropy or contrastive.")] = "cross_entropy",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Train CLIP on sets; the best epoch on val is kept, the test split is not read.

    Example: headwater adapt sets/kept --task roses.yaml --model vit --lr 1e-5 --out models/roses
    """
    from headwater.steps.adapt import adapt as step
    from headwater.steps.settings import Adaptation
    from headwater.task import load_task

    how = _settings(Adaptation, epochs=epochs, batch_size=batch_size)
    told = step(
        {folder: 1 / len(sets) for folder in sets}, load_task(task), out,
        clip=_clip(model, pretrained, config, activation), lr=lr, n=n, seed=seed, how=how,
        objective=objective,
    )  # fmt: skip
    terminal.show(told, as_json, terminal.rows_by_name)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder.")],
    task: TaskName,
    out: Out,
    split: Annotated[list[str] | None, typer.Option(help="Splits; test if not given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Predictions of a model on a task's images, and the metrics that follow from them.

    Example: headwater evaluate models/roses/models/zero_shot --task roses.yaml --out out/test
    """
    from headwater.steps.evaluate import evaluate as step
    from headwater.steps.evaluate import model_digest, open_folder
    from headwater.task import load_task

    images = load_task(task)
    told = step(
        lambda: open_folder(model, images), model_digest(model), images, out,
        splits=tuple(split or ["test"]),
    )  # fmt: skip
    rows = {f"{m} on {s}": values for m, by_split in told.items() for s, values in by_split.items()}
    terminal.show(told, as_json, lambda _: terminal.rows_by_name(rows))


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder with a head.")],
    folder: Annotated[Path, typer.Argument(help="Images, in any folders below it.")],
    as_json: AsJson = False,
) -> None:
    """Label and confidence of every image in a folder, as CSV on standard output.

    Example: headwater predict models/roses/models/zero_shot photos > predictions.csv
    """
    from headwater.steps.predict import predict as step

    table = step(model, folder)
    terminal.show(table.to_dicts(), as_json, lambda _: print(table.write_csv(), end=""))


@app.command()
def compare(study: StudyFolder, as_json: AsJson = False) -> None:
    """Make the verdict of a study's finished trials anew, and print it.

    Example: headwater compare out/roses
    """
    from headwater.study import open_study

    terminal.show(open_study(study).compare(), as_json, terminal.verdict)


@app.command()
def report(study: StudyFolder, as_json: AsJson = False) -> None:
    """Make the report of a study's finished trials anew.

    Example: headwater report out/roses
    """
    from headwater.study import open_study

    path = open_study(study).report()
    terminal.show({"report": str(path)}, as_json, lambda told: print(told["report"]))


@app.command()
def why(
    folder: SetFolder,
    pair_id: Annotated[str, typer.Argument(metavar="ID", help="As in decisions.parquet.")],
    as_json: AsJson = False,
) -> None:
    """Where a pair went: found by what, kept or dropped, by which step, and why.

    Example: headwater why sets/kept pool:000012345
    """
    from headwater.steps.why import why as step

    terminal.show(step(folder, pair_id), as_json, terminal.story)


@task_app.command("list")
def task_list(as_json: AsJson = False) -> None:
    """The tasks that come with Headwater.

    Example: headwater task list
    """
    from headwater.task import builtin_tasks

    terminal.show(builtin_tasks(), as_json, lambda names: print("\n".join(names)))


@task_app.command("show")
def task_show(
    task: Annotated[str, typer.Argument(help="A task file, or a built-in task's name.")],
    as_json: AsJson = False,
) -> None:
    """A task's classes, queries, prompts and splits.

    Example: headwater task show miniature
    """
    from headwater.task import load_task

    terminal.show(load_task(task).model_dump(mode="json"), as_json, terminal.task)


@pool_app.command("describe")
def pool_describe(
    pool: Annotated[str, typer.Argument(help="The pool's folder, any fsspec path.")],
    as_json: AsJson = False,
) -> None:
    """Rows, columns, what is there and a sample of a pool.

    Example: headwater pool describe pool
    """
    from headwater.pool import describe, open_pool

    terminal.show(describe(open_pool(pool)), as_json, terminal.facts)


@pool_app.command("embed")
def pool_embed(
    pool: Annotated[str, typer.Argument(help="The pool's folder, any fsspec path.")],
    model: Model,
    out: Out,
    pretrained: Pretrained = None,
    config: Config = None,
    activation: Activation = None,
    only: Annotated[str | None, typer.Option(help="images or captions; both if not given.")] = None,
    prefilter: Annotated[
        str | None,
        typer.Option(
            help="Embed only pairs whose caption shares a word with a class of this task."
        ),
    ] = None,
    sample: Annotated[
        int, typer.Option(help="Pairs of the whole pool that the prefilter is measured on.")
    ] = 2_000,
    precision: Annotated[
        str, typer.Option(help="float32, bf16, or auto: bf16 on a GPU that has it.")
    ] = "auto",
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 256,
    seed: Seed = 0,
    workers: Annotated[
        int | None, typer.Option(help="Processes that decode; one per core if not given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """CLIP embeddings of a pool's images and captions, in clip-retrieval's layout.

    Example: headwater pool embed pool --model vit --out vectors
    """
    from headwater.steps.embed import embed
    from headwater.task import load_task

    clip = _clip(model, pretrained, config, activation)
    counts = embed(
        pool, out, clip=clip, only=only, prefilter=load_task(prefilter) if prefilter else None,
        sample=sample, seed=seed, batch_size=batch_size, precision=precision, workers=workers,
    )  # fmt: skip
    terminal.show(counts, as_json, terminal.facts)


def _clip(model: str, pretrained: str | None, config: str | None, activation: str | None) -> Clip:
    from headwater.clip import load_clip

    return load_clip(model, pretrained=pretrained, config=config, activation=activation)


def _settings(kind: Callable[..., Settings], **values: Any) -> Settings:
    """Settings from flags; a value out of bounds is wrong usage."""
    from pydantic import ValidationError

    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        flag = "--" + str(first["loc"][0]).replace("_", "-")
        raise InputError(f"{flag}: {first['msg']}", seen=repr(first["input"])) from None


def _fail(message: str, code: int) -> int:
    if message:
        print(f"headwater: {message}", file=sys.stderr)
    return code
