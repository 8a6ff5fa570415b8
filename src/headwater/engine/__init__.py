"""One engine for everything that runs side by side: shards of a pool, trials of a study.

A shard is any picklable value; `work` is a module-level function (or a `functools.partial`
of one) that must write its own result whole or not at all, so a killed run repeats only what
is missing. `crew.py` hands shards to workers and bears the loss of one; the workers are
processes (`local.py`) or Ray tasks (`ray.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

from headwater.engine.crew import Crew, in_worker, outcomes, worker_slot
from headwater.engine.local import Processes, worker_count
from headwater.errors import InputError
from headwater.progress import track

Shard = TypeVar("Shard")
Result = TypeVar("Result")

ENGINES = ("local", "ray")

__all__ = ["ENGINES", "in_worker", "run_shards", "worker_count", "worker_slot"]


def run_shards(
    work: Callable[[Shard], Result],
    shards: Sequence[Shard],
    *,
    engine: str = "local",
    workers: int | None = None,
    label: str = "shards",
    unit: str = "",
    size: Callable[[Shard], int] | None = None,
    gpu: bool = False,
) -> list[Result]:
    """Apply `work` to every shard and return the results in the order of the shards.

    A shard whose worker is killed is tried once more, after the others. Nothing more is begun
    once a shard has failed, but what was begun is finished.

    Args:
        work: what to do with one shard.
        shards: picklable values.
        engine: "local": this process, or processes on this machine. "ray": tasks on the Ray
            cluster at RAY_ADDRESS, else on the one that `ray start` left running here, else on
            one that lives as long as this call.
        workers: how many shards at once. Local: None takes one process per core, 1 or 0 stays
            in this process. Ray: None keeps every CPU of the cluster busy.
        label: what the progress bar says.
        unit: what it counts, in the plural.
        size: how many of them a shard stands for; one if not given.
        gpu: whether a shard wants a GPU of its own where there are any. Ray gives it one; local
            workers take that of their `worker_slot`, and are as many as the caller says.

    Raises:
        InputError: an engine there is not, or whose package or cluster is missing.
        RunError: a shard killed its worker twice (out of memory, most often).
        Whatever `work` raises, from the first shard in order that raises.

    Example:
        >>> run_shards(len, ["a", "bcd"], workers=1)
        [1, 3]
    """
    if engine not in ENGINES:
        raise InputError("unknown engine", expected=" or ".join(ENGINES), seen=engine)
    sizes = [size(shard) if size else 1 for shard in shards]
    if engine == "local" and min(worker_count(workers), len(shards)) <= 1:
        shown = track(shards, label=label, total=sum(sizes), unit=unit, size=size)
        return [work(shard) for shard in shown]
    with _crew(work, engine, workers, len(shards), gpu) as crew:
        done = outcomes(crew, shards)
        told = dict(
            track(done, label=label, total=sum(sizes), unit=unit, size=lambda one: sizes[one[0]])
        )
    errors = {number: outcome.error for number, outcome in told.items() if outcome.error}
    if errors:
        raise errors[min(errors)]
    return [told[number].value for number in range(len(shards))]


def _crew(
    work: Callable[[Shard], Result], engine: str, workers: int | None, shards: int, gpu: bool
) -> AbstractContextManager[Crew]:
    if engine == "ray":
        from headwater.engine.ray import RayTasks

        return RayTasks(work, workers, gpu=gpu)
    return Processes(work, min(worker_count(workers), shards))
