"""Precision: exact float32, or bfloat16 where the hardware has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from headwater.errors import InputError
from headwater.float32 import full_float32

PRECISIONS = ("auto", "float32", "bf16")


def choose_precision(asked: str, device: torch.device) -> str:
    """float32 or bf16; `auto` is bf16 on a GPU that has it and float32 elsewhere.

    Raises:
        InputError: another word.

    Example:
        >>> choose_precision("auto", torch.device("cpu"))
        'float32'
    """
    if asked not in PRECISIONS:
        raise InputError("unknown precision", expected=" or ".join(PRECISIONS), seen=asked)
    if asked != "auto":
        return asked
    able = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if able else "float32"


@contextmanager
def computing(precision: str, device: torch.device) -> Iterator[None]:
    """Compute in one precision, without gradients: float32 means no TF32, bf16 is autocast.

    Example:
        >>> with computing("bf16", torch.device("cpu")):
        ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        torch.bfloat16
    """
    with torch.no_grad(), full_float32():
        if precision == "float32":
            yield
            return
        with torch.autocast(device.type, dtype=torch.bfloat16):
            yield
