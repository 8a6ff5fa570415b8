"""Commands from a set to a measured model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headwater import terminal
from headwater.cli.apps import app
from headwater.cli.options import (
    Activation,
    AsJson,
    Config,
    Model,
    Out,
    Pretrained,
    Seed,
    TaskName,
    open_model,
    settings,
)


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
    balanced: Annotated[
        bool, typer.Option("--balanced", help="Draw of every class the same number of pairs.")
    ] = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Train CLIP on sets; the best epoch on val is kept, the test split is not read.

    Example: headwater adapt sets/kept --task roses.yaml --model vit --lr 1e-5 --out models/roses
    """
    from headwater.steps.adapt import adapt as step
    from headwater.steps.settings import Adaptation
    from headwater.task import load_task

    how = settings(Adaptation, epochs=epochs, batch_size=batch_size)
    told = step(
        {folder: 1 / len(sets) for folder in sets}, load_task(task), out,
        clip=open_model(model, pretrained, config, activation), lr=lr, n=n, seed=seed, how=how,
        objective=objective, budget="balanced" if balanced else "as_they_come",
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
