"""The command that curates a set, and its rules as flags."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headwater import terminal
from headwater.cli.apps import app
from headwater.cli.options import (
    Activation,
    AsJson,
    Config,
    Engine,
    Pretrained,
    SetFolder,
    TaskName,
    Workers,
    open_model,
    settings,
)
from headwater.errors import InputError, plain

if TYPE_CHECKING:
    from headwater.steps.curation.settings import Curation
    from headwater.task import Task


FRACTION, CAP = 0.3, 10_000  # the paper's


@app.command()
def curate(
    source: SetFolder,
    task: TaskName,
    model: Annotated[
        str | None, typer.Option("--model", help="A model folder, or an open_clip name.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The folder to make.")] = None,
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
    review: Annotated[
        Path | None, typer.Option(help="Write a page of what was kept and dropped to this file.")
    ] = None,
    audit: Annotated[
        Path | None, typer.Option(help="Write a page of what other scores would have kept.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="For --audit: CSV of id,label, what the images show.")
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Write a page of the pairs where copies begin; needs no --out."),
    ] = None,
    engine: Engine = "local",
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """The best pairs of a set, free of copies of the test images, as a set.

    Example: headwater curate sets/captions --task roses.yaml --model vit --out sets/kept
    """
    from headwater.task import load_task

    pages = {"calibrate": calibrate, "review": review, "audit": audit}
    asked = {name: page for name, page in pages.items() if page is not None}
    _check_asked(out, model, asked, truth)
    flags = {
        "fraction": fraction, "cap": cap, "threshold": threshold, "against": against,
        "copy_threshold": copy_threshold, "duplicates": duplicates,
    }  # fmt: skip
    how = _curation(
        rules, flags, pixels=pixels, size=size, quality=quality, aggregate=aggregate,
        scores=scores, head=head, descriptor=descriptor, descriptor_weights=descriptor_weights,
        reject=reject,
    )  # fmt: skip
    told, counts = load_task(task), {}
    if out is not None:
        from headwater.steps.curation.curate import curate as step

        clip = open_model(str(model), pretrained, config, activation)
        counts = step(source, told, out, clip=clip, how=how, engine=engine, workers=workers)
    shown = {
        name: _write_page(name, page, source=source, out=out, task=told, how=how, truth=truth)
        for name, page in asked.items()
    }
    terminal.show({**counts, **shown}, as_json, lambda _: _print(counts, shown, asked))


def _check_asked(
    out: Path | None, model: str | None, pages: dict[str, Path], truth: Path | None
) -> None:
    """Refuse what cannot be done before anything is read."""
    from headwater.store import check_page

    if out is None and "calibrate" not in pages:
        raise InputError("nothing to make", expected="--out DIR, or --calibrate FILE", seen="none")
    if out is not None and model is None:
        raise InputError("nothing to score with", expected="--model", seen="none")
    if out is None and len(pages) > 1:
        raise InputError("a page of a set that is not made", expected="--out DIR", seen="none")
    if truth is not None and "audit" not in pages:
        raise InputError("--truth belongs to --audit", expected="--audit FILE", seen="none")
    if len({page.resolve() for page in pages.values()}) < len(pages):
        flags = " and ".join(f"--{name}" for name in pages)
        raise InputError("two pages in one file", expected=f"a file each for {flags}", seen="one")
    for page in pages.values():
        check_page(page)


def _write_page(
    name: str,
    page: Path,
    *,
    source: Path,
    out: Path | None,
    task: Task,
    how: Curation,
    truth: Path | None,
) -> Any:
    """Write one of the pages and return what it tells."""
    if name == "calibrate":
        from headwater.steps.curation.copies import copy_descriptor, copy_threshold
        from headwater.steps.curation.settings import compared_splits
        from headwater.steps.looking.calibrate import calibrate

        return calibrate(
            source, task, page, descriptor=copy_descriptor(how), threshold=copy_threshold(how),
            splits=compared_splits(how.rules_for("retrieve")) or ("test",),
        )  # fmt: skip
    assert out is not None
    if name == "review":
        from headwater.steps.looking.review import review

        return review(out, source, page, task=task)
    from headwater.steps.looking.audit import audit

    shares = [getattr(rule, "fraction", None) for rule in how.rules_for("retrieve")]
    share = next((share for share in shares if share is not None), FRACTION)
    return audit(out, page, source=source, truth=truth, fraction=share)


def _print(counts: dict[str, int], shown: dict[str, Any], pages: dict[str, Path]) -> None:
    if counts:
        terminal.pairs(counts)
    if "calibrate" in shown:
        told = shown["calibrate"]
        suggested = f", {told['suggested']:g} is suggested" if told["suggested"] else ""
        copies = f"{told['copies']:,} of {told['images']:,} images are copies"
        print(f"{copies} above {told['threshold']:g}{suggested}")
    for name, page in pages.items():
        print(plain(f"{name}: {page}"))


def _curation(rules: str | None, flags: dict[str, Any], **values: Any) -> Curation:
    """The settings that the options say; what is not said keeps its default."""
    from headwater.steps.curation.settings import Curation

    heads = [_head(text) for text in values.pop("head") or ()]
    values["heads"] = dict(heads)
    if len(values["heads"]) < len(heads):
        raise InputError("a head given twice", expected="one file each", seen=heads[-1][0])
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
    fraction: float = FRACTION,
    cap: int = CAP,
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
        rules = parse(read_text(file, InputError), str(file), InputError)
    else:
        rules = parse(text, "--rules", InputError)
    if rules is None:
        raise InputError("--rules says nothing", expected="a list; [] for no rule", seen="none")
    return rules


def _head(text: str) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    if not equals or not file:
        raise InputError("a head that is none", expected="aesthetic=FILE", seen=text)
    return name, file
