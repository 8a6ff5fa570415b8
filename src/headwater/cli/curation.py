"""The command that curates a set, and its rules as flags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from headwater import terminal
from headwater.cli.apps import app
from headwater.cli.options import (
    Activation,
    AsJson,
    Config,
    Engine,
    Model,
    Out,
    Pretrained,
    SetFolder,
    TaskName,
    Workers,
    open_model,
    settings,
)
from headwater.errors import InputError


@app.command()
def curate(
    source: SetFolder,
    task: TaskName,
    model: Model,
    out: Out,
    pretrained: Pretrained = None,
    config: Config = None,
    activation: Activation = None,
    pixels: Annotated[str, typer.Option(help="one path for all images, or reference.")] = "one",
    size: Annotated[int, typer.Option(help="Side of every image, pixels.")] = 256,
    quality: Annotated[int, typer.Option(help="JPEG quality of every image.")] = 95,
    aggregate: Annotated[str, typer.Option(help="Over a class's texts: mean or max.")] = "mean",
    fraction: Annotated[float | None, typer.Option(help="Share kept of each class; 0.3.")] = None,
    cap: Annotated[int | None, typer.Option(help="Most pairs of each class; 10,000.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Lowest CLIP score kept.")] = None,
    against: Annotated[
        list[str] | None, typer.Option(help="Splits no pair may copy; test if not given.")
    ] = None,
    copy_threshold: Annotated[
        float | None, typer.Option(help="Similarity that makes a copy.")
    ] = None,
    duplicates: Annotated[
        str | None, typer.Option(help="Drop copies within the whole set, or within a class.")
    ] = None,
    rules: Annotated[
        str | None,
        typer.Option(
            help="Instead of these flags: reference, a YAML file, or YAML: [{copies: ..}]"
        ),
    ] = None,
    scores: Annotated[
        list[str] | None, typer.Option(help="Further columns: a score, or FILE.py:FUNCTION.")
    ] = None,
    head: Annotated[
        list[str] | None, typer.Option(help="aesthetic=FILE or safety=FILE: weights of a score.")
    ] = None,
    descriptor: Annotated[
        str, typer.Option(help="What tells copies: auto, builtin, isc or sscd.")
    ] = "auto",
    descriptor_weights: Annotated[Path | None, typer.Option(help="Its file.")] = None,
    reject: Annotated[
        Path | None, typer.Option(help="CSV of ids a person marked as bad; they are dropped.")
    ] = None,
    engine: Engine = "local",
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """The best pairs of a set, free of copies of the test images, as a set.

    Example: headwater curate sets/captions --task roses.yaml --model vit --out sets/kept
    """
    from headwater.steps.curate import curate as step
    from headwater.task import load_task

    flags = {
        "fraction": fraction, "cap": cap, "threshold": threshold, "against": against,
        "copy_threshold": copy_threshold, "duplicates": duplicates,
    }  # fmt: skip
    how = _curation(
        rules, flags, pixels=pixels, size=size, quality=quality, aggregate=aggregate,
        scores=scores, head=head, descriptor=descriptor, descriptor_weights=descriptor_weights,
        reject=reject,
    )  # fmt: skip
    counts = step(
        source, load_task(task), out, clip=open_model(model, pretrained, config, activation),
        how=how, engine=engine, workers=workers,
    )  # fmt: skip
    terminal.show(counts, as_json, terminal.pairs)


def _curation(rules: str | None, flags: dict[str, Any], **values: Any) -> Any:
    """The settings that the options say; what is not said keeps its default."""
    from headwater.steps.settings import Curation

    values["heads"] = dict(_head(text) for text in values.pop("head") or ())
    for name in ("descriptor_weights", "reject"):
        values[name] = str(values[name]) if values[name] else None
    if values["scores"] is not None:
        values["scores"] = tuple(dict.fromkeys((*Curation().scores, *values["scores"])))
    said = {name: value for name, value in flags.items() if value is not None}
    if rules is not None and said:
        flag = "--" + next(iter(said)).replace("_", "-")
        raise InputError("two ways to say the rules", expected="--rules or flags", seen=flag)
    values["rules"] = _read_rules(rules) if rules is not None else _usual_rules(**said)
    return settings(Curation, **{name: v for name, v in values.items() if v is not None})


def _usual_rules(
    *,
    fraction: float = 0.3,
    cap: int = 10_000,
    threshold: float | None = None,
    against: list[str] | None = None,
    copy_threshold: float | None = None,
    duplicates: str | None = None,
) -> list[dict[str, Any]]:
    """The usual stack with some of its numbers changed."""
    top = {"score": "clip_score", "fraction": fraction, "cap": cap, "threshold": threshold}
    copies = {"copies": against or ["test"], "threshold": copy_threshold}
    twins = [{"duplicates": duplicates, "threshold": copy_threshold}] if duplicates else []
    return [top, copies, *twins]


def _read_rules(text: str) -> Any:
    """The rules in a YAML file, or in YAML on the command line."""
    from headwater.yamlfile import parse, read_text

    file = Path(text)
    if file.suffix in (".yaml", ".yml"):
        return parse(read_text(file, InputError), str(file), InputError)
    return parse(text, "--rules", InputError)


def _head(text: str) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    if not equals or not file:
        raise InputError("a head that is none", expected="aesthetic=FILE", seen=text)
    return name, file
