"""What opening any model has in common: a name, files that may be broken, a device, silence.

A generator (`generator.py`, `vetting.py`) and a model that writes captions
(`captions/checkpoint.py`) are both opened with this.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from headwater.errors import ModelError, first_line

POINTER = b"version https://git-lfs"  # what stands in a file that Git LFS has not fetched


def check_name(name: str, *, what: str) -> None:
    """Refuse what can be no name on the Hugging Face Hub, but a path to nothing.

    Raises:
        ModelError: so it is.

    Example:
        >>> check_name("someone/small-sd", what="generator")
    """
    if name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1:
        raise ModelError(
            f"no {what} there", expected="a folder", seen=Path(name).name, do="Check the path."
        )


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def check_weights(path: Path, *, shown: str, what: str, do: str) -> None:
    """Refuse a file of weights that is no whole safetensors file; its head tells.

    Args:
        path: the file.
        shown: what it is called in the error.
        what: whose it is, as "the generator small-sd".
        do: how to get it again.

    Raises:
        ModelError: cut off, something else, or fetched without Git LFS.
    """
    pointer = False
    try:
        with path.open("rb") as file:
            pointer = file.read(len(POINTER)) == POINTER
        if not pointer:
            with safe_open(path, "pt"):  # reads the head and holds it against the file's length
                return
        seen = "a pointer of Git LFS"
    except (SafetensorError, OSError) as error:
        seen = first_line(error)
    raise ModelError(
        f"{what} is not whole", seen=f"{shown}: {seen}",
        do="Run `git lfs pull` in it." if pointer else do,
    )  # fmt: skip


def put_on(model: Any, device: str | None, *, what: str) -> Any:
    """A model on its device; None is the GPU where there is one, else the CPU.

    Raises:
        ModelError: an unknown, absent or full device.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"cannot put the {what} on {device}", seen=first_line(error)) from error


@contextmanager
def quiet(*logs: Any) -> Iterator[None]:
    """Keep libraries from showing bars and advice of their own; then as it was before.

    Args:
        logs: the `logging` modules of diffusers and transformers.
    """
    told = [log.get_verbosity() for log in logs]
    switches = [log for log in logs if log.is_progress_bar_enabled()]
    for log in logs:
        log.set_verbosity(log.CRITICAL)
    for log in switches:
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log, level in zip(logs, told, strict=True):
            log.set_verbosity(level)
        for log in switches:
            log.enable_progress_bar()
