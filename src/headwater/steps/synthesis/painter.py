"""The painter of a process: one open pipeline, and the device it works on.

Parts of a set are painted side by side by processes (`engine/`), a GPU each where there are any.
A process opens a pipeline once and keeps it for all its parts, and for the steps after.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import DiffusionPipeline

from headwater.engine import worker_slot
from headwater.synthesize.generator import find_generator, load_generator
from headwater.synthesize.memory import free_memory

PARTS = 32  # so many, that every worker has some and a kill costs little
LEAST, MOST = 32, 256  # images a part


class _Key(NamedTuple):
    """What makes two pipelines the same; a folder that was written to is another one."""

    files: tuple[tuple[str, int, int], ...]
    scheduler: str
    precision: str
    device: str


_open: dict[_Key, DiffusionPipeline] = {}  # one at most: another one may not fit beside it


def open_painter(
    generator: str | Path, *, scheduler: str, precision: str, device: str | None = None
) -> DiffusionPipeline:
    """The pipeline of a generator, opened by the first call and the same one after.

    Args:
        generator: a diffusers pipeline: a folder, or a name on the Hub.
        scheduler, precision: as `load_generator` takes them.
        device: as torch names it; None: `own_device()`.

    Raises:
        ModelError: the generator cannot be opened.
    """
    device = device or own_device()
    if device.startswith("cuda"):
        torch.cuda.set_device(device)  # else every worker would take some of the first GPU, too
    folder = find_generator(generator)
    key = _Key(_files(folder), scheduler, precision, device)
    if key not in _open:
        close_painter()
        _open[key] = load_generator(folder, device=device, scheduler=scheduler, precision=precision)
    return _open[key]


def close_painter() -> None:
    """Give back the memory of the open pipeline, as before a training."""
    _open.clear()
    free_memory()


def own_device() -> str:
    """The GPU of this worker, by its place in the crew; "cpu" where there is none.

    Example:
        >>> own_device() in ("cpu", "cuda:0")
        True
    """
    count = gpu_count()
    return f"cuda:{worker_slot() % count}" if count else "cpu"


def gpu_count() -> int:
    """How many GPUs this process may use."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def painting_workers(workers: int | None, *, gpus: int, engine: str = "local") -> int | None:
    """How many processes paint side by side: one a GPU, one on a CPU unless told otherwise.

    A pipeline fills a GPU, so more workers than GPUs would only wait for each other; and on a
    CPU it uses all cores by itself. With Ray the cluster counts its own.

    Example:
        >>> painting_workers(None, gpus=4), painting_workers(9, gpus=4)
        (4, 4)
        >>> painting_workers(None, gpus=0), painting_workers(2, gpus=0)
        (1, 2)
    """
    if engine != "local":
        return workers
    if workers is None:
        return max(gpus, 1)
    return min(workers, gpus) if gpus else workers


def part_size(images: int, *, block: int) -> int:
    """How many images a part of a set has: whole blocks, not too few nor too many.

    Example:
        >>> part_size(100, block=10), part_size(100_000, block=8)
        (40, 256)
    """
    wanted = min(max(images // PARTS, LEAST), MOST)
    return -(-wanted // block) * block


def _files(folder: Path) -> tuple[tuple[str, int, int], ...]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    told = ((path, path.stat()) for path in files)
    return tuple((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in told)
