"""What many commands share: options, and how a model and settings come from them."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from headwater.errors import InputError

if TYPE_CHECKING:
    from headwater.clip import Clip

Settings = TypeVar("Settings")

FLAGS = {"n": "-n", "heads": "--head"}
"""Flags that are not called like their setting."""

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Out = Annotated[Path, typer.Option("--out", help="The folder to make.")]
PoolPath = Annotated[str, typer.Argument(help="The pool's folder, any fsspec path.")]
Mode = Annotated[str, typer.Option(help="How captions match: phrase, all, substring or reference.")]
PoolOption = Annotated[str, typer.Option("--pool", help="The pool's folder, any fsspec path.")]
TaskArgument = Annotated[str, typer.Argument(help="A task file, or a built-in task's name.")]
TaskName = Annotated[str, typer.Option("--task", help="A task file, or a built-in task's name.")]
Model = Annotated[str, typer.Option("--model", help="A model folder, or an open_clip name.")]
Pretrained = Annotated[
    str | None, typer.Option(help="For an open_clip name: a tag, or a weights file.")
]
Config = Annotated[str | None, typer.Option(help="For an unknown name: the model's JSON config.")]
Activation = Annotated[
    str | None, typer.Option(help="Of bare weights: gelu or quickgelu, as they were trained.")
]
Guidance = Annotated[float, typer.Option(help="Classifier-free guidance.")]
Size = Annotated[int, typer.Option(help="Side painted at, pixels.")]
SaveSize = Annotated[int, typer.Option(help="Side saved at, pixels.")]
Block = Annotated[int, typer.Option(help="Images made at once.")]
Scheduler = Annotated[
    str, typer.Option(help="ddim, own (the pipeline's), or auto: DDIM where that can be.")
]
Precision = Annotated[str, typer.Option(help="float32, float16 or bfloat16.")]
Domain = Annotated[
    str | None, typer.Option(help="Whose backgrounds classes have that have none: flowers, ...")
]
Writer = Annotated[str | None, typer.Option(help="The model that writes: a folder, or a name.")]
Url = Annotated[str | None, typer.Option(help="The endpoint, up to and with /v1.")]
Key = Annotated[str | None, typer.Option(help="The variable with its key; OPENAI_API_KEY.")]
Concurrency = Annotated[int | None, typer.Option(help="Its requests at once; 4.")]
Temperature = Annotated[float | None, typer.Option(help="Of the writer; 0.8.")]
TopP = Annotated[float | None, typer.Option(help="Share of the probability it samples from; 0.9.")]
Tokens = Annotated[int | None, typer.Option(help="The most a caption may take; 100.")]
Workers = Annotated[int | None, typer.Option(help="Processes; one per core if not given.")]
Painters = Annotated[
    int | None, typer.Option("--workers", help="Processes; one a GPU, or one, if not given.")
]
Engine = Annotated[str, typer.Option(help="What runs side by side: local processes, or ray.")]
Seed = Annotated[int, typer.Option(min=0, help="Decides everything that is random.")]
PoolName = Annotated[str, typer.Option(help="The namespace of the ids of the pool's pairs.")]
SetFolder = Annotated[Path, typer.Argument(metavar="SET", help="A finished set.")]
StudyFolder = Annotated[Path, typer.Argument(metavar="STUDY", help="A study's folder.")]


def open_model(
    model: str, pretrained: str | None, config: str | None, activation: str | None
) -> Clip:
    """The CLIP that the options name."""
    from headwater.clip import load_clip

    return load_clip(model, pretrained=pretrained, config=config, activation=activation)


def settings(kind: Callable[..., Settings], **values: Any) -> Settings:
    """Settings from flags; a value out of bounds is wrong usage."""
    from pydantic import ValidationError

    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # several settings that do not go together
            raise InputError(first["msg"].removeprefix("Value error, ")) from None
        name, *inside = first["loc"]
        flag = FLAGS.get(str(name)) or "--" + str(name).replace("_", "-")
        keys = [str(key + 1) if isinstance(key, int) else key for key in inside]
        place = ".".join(key for key in keys if not key.startswith("<"))
        message = first["msg"].removeprefix("Value error, ")
        told = ": ".join(part for part in (flag, place, message) if part)
        raise InputError(told, seen=reprlib.repr(first["input"])) from None
