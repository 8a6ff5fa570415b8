"""One engine for everything that runs side by side: shards of a pool, trials of a study.

A shard is any picklable value; `work` is a module-level function (or a `functools.partial`
of one) that must write its own result whole or not at all, so a killed run repeats only what
is missing.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from threading import Thread
from typing import TypeVar

from headwater.errors import InputError, RunError
from headwater.progress import be_quiet, track

Shard = TypeVar("Shard")
Result = TypeVar("Result")

ENGINES = ("local",)
PRELOAD = ["torch", "open_clip"]  # slow to import, harmless where missing


def run_shards(
    work: Callable[[Shard], Result],
    shards: Sequence[Shard],
    *,
    engine: str = "local",
    workers: int | None = None,
    label: str = "shards",
) -> list[Result]:
    """Apply `work` to every shard and return the results in the order of the shards.

    Args:
        work: what to do with one shard.
        shards: picklable values.
        engine: "local": processes on this machine.
        workers: number of processes; None takes one per core, 1 or 0 stays in this process.
        label: what the progress bar says.

    Raises:
        InputError: an engine this version does not have.
        RunError: a worker was killed (out of memory, most often).
        Whatever `work` raises, from the first shard in order that raises.

    Example:
        >>> run_shards(len, ["a", "bcd"], workers=1)
        [1, 3]
    """
    if engine not in ENGINES:
        raise InputError("unknown engine", expected=" or ".join(ENGINES), seen=engine)
    count = min(worker_count(workers), len(shards))
    if count <= 1:
        return [work(shard) for shard in track(shards, label=label)]
    with _processes(count) as pool:
        futures = [pool.submit(work, shard) for shard in shards]
        try:
            return [_result(future) for future in track(futures, label=label)]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def worker_count(workers: int | None) -> int:
    """The number of processes meant by `workers`; None is one per core this process may use.

    Example:
        >>> worker_count(3)
        3
    """
    if workers is not None:
        return max(workers, 1)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _processes(count: int) -> Iterator[ProcessPoolExecutor]:
    # A fork server imports the heavy libraries once, before any thread exists, and every
    # worker is a fork of it: cheaper than spawning, safer than forking a process with threads.
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if hasattr(context, "set_forkserver_preload"):
        context.set_forkserver_preload(PRELOAD)
    with ProcessPoolExecutor(count, mp_context=context, initializer=_begin_worker) as pool:
        yield pool


def _begin_worker() -> None:
    be_quiet()
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A worker whose parent was killed would go on writing where the next run already writes.
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _result(future: Future[Result]) -> Result:
    try:
        return future.result()
    except BrokenProcessPool:
        raise RunError(
            "a worker process was killed", seen="most often too little memory",
            do="Run the same command again, with fewer --workers; what is finished is kept.",
        ) from None  # fmt: skip
