"""Commands on a whole study: make one, go on with one, ask one."""

from __future__ import annotations

from typing import Annotated

import typer

from headwater import terminal
from headwater.cli.apps import app
from headwater.cli.options import AsJson, Engine, Out, StudyFolder, Workers


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
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Train on copies of test images, and say so.")
    ] = False,
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
    study = run_study(told, out, engine=engine, workers=workers, allow_leaks=allow_leaks)
    terminal.show(study.summary(), as_json, terminal.summary)


@app.command()
def status(study: StudyFolder, as_json: AsJson = False) -> None:
    """What of a study is done and what is left.

    Example: headwater status out/roses
    """
    from headwater.study import open_study

    terminal.show(open_study(study).status(), as_json, terminal.rows)


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
