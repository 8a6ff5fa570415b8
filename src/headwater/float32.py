"""Float32 in earnest: what torch may be told to compute with fewer bits is computed with all.

Results would else depend on switches that a caller set for training: TF32 on a GPU, bfloat16 on a
CPU. `topk.py` needs it for its bounds, `clip/precision.py` for features.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def full_float32() -> Iterator[None]:
    """Have torch multiply and convolve in float32 proper; its switches are then as they were.

    Example:
        >>> import torch
        >>> with full_float32():
        ...     (torch.ones(1, 1) @ torch.full((1, 1), 0.1)).item()
        0.10000000149011612
    """
    import torch

    backends: Any = torch.backends
    if not hasattr(backends.cuda.matmul, "fp32_precision"):  # torch before 2.9
        with _by_older_switches():
            yield
        return
    products = (backends.cuda.matmul, backends.mkldnn.matmul)
    others = (backends.mkldnn.conv, backends.cudnn.conv, backends.cudnn.rnn)
    with _switched("fp32_precision", "ieee", *products, *others):
        yield


@contextmanager
def _by_older_switches() -> Iterator[None]:
    import torch

    whole = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with _switched("allow_tf32", False, torch.backends.cudnn):
            yield
    finally:
        torch.set_float32_matmul_precision(whole)


@contextmanager
def _switched(name: str, value: object, *places: Any) -> Iterator[None]:
    before = [getattr(place, name) for place in places]
    try:
        for place in places:
            setattr(place, name, value)
        yield
    finally:
        for place, was in zip(places, before, strict=True):
            setattr(place, name, was)
