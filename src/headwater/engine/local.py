"""A crew of processes on this machine; a killed one costs its shard, and is replaced."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from headwater.engine.crew import Outcome, answer, take_slot
from headwater.errors import InputError
from headwater.progress import be_quiet, count

PRELOAD = ("torch", "open_clip")  # slow to import
GRACE = 5.0  # seconds for a worker to end by itself
TELL_EVERY = 0.5  # seconds from one word of a worker on its progress to the next


def worker_count(workers: int | None) -> int:
    """The number of processes meant by `workers`; None is one per core this process may use.

    Raises:
        InputError: a negative number.

    Example:
        >>> worker_count(3), worker_count(0)
        (3, 1)
    """
    if workers is not None and workers < 0:
        raise InputError("a negative number of workers", expected="0 or more", seen=str(workers))
    if workers is not None:
        return max(workers, 1)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Processes:
    """Up to `size` processes, started when first needed; on leaving, none is left."""

    def __init__(self, work: Callable[[Any], Any], size: int) -> None:
        self.size = size
        self._work = pickle.dumps(work)
        # What this process did without, its workers will hardly need: captions match without.
        self._context = process_context([name for name in PRELOAD if name in sys.modules])
        self._idle: list[_Worker] = []
        self._busy: dict[int, _Worker] = {}
        self._slots = list(reversed(range(size)))  # places that no worker has

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        # Busy ones are left only when this run is interrupted: what they write is whole or not
        # there at all, so they need not be waited for.
        for worker in self._busy.values():
            worker.kill()
        for worker in self._idle:
            worker.dismiss()

    def start(self, number: int, shard: object) -> None:
        """Give a shard to an idle worker, or to a new one."""
        data = pickle.dumps(shard)
        worker = self._idle.pop() if self._idle else self._new()
        self._busy[number] = worker
        worker.give(data)

    def wait(self) -> list[tuple[int, Outcome]]:
        """The outcomes of the shards that ended; waits for at least one."""
        told: list[tuple[int, Outcome]] = []
        while not told:
            ready = set(wait([sign for worker in self._busy.values() for sign in worker.signs]))
            spoke = [number for number, worker in self._busy.items() if ready & set(worker.signs)]
            taken = [(number, self._take(number)) for number in spoke]
            told = [(number, outcome) for number, outcome in taken if outcome]
        return told

    def _take(self, number: int) -> Outcome | None:
        """What became of a shard; None where its worker only told how far it is."""
        worker = self._busy[number]
        outcome = worker.take()
        if isinstance(outcome, _Counted):
            for unit, done in outcome.items():
                count(done, unit)
            return None
        if outcome is None:
            outcome = Outcome(killed=worker.dismiss())
            self._slots.append(worker.slot)
        else:
            self._idle.append(worker)
        del self._busy[number]
        return outcome

    def _new(self) -> _Worker:
        return _Worker(self._context, self._work, self._slots.pop())


class _Worker:
    """One process, and this end of the pipe to it."""

    def __init__(self, context: Any, work: bytes, slot: int) -> None:
        self.slot = slot
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, work, slot))
        self._process.start()
        theirs.close()
        # Either is ready when the worker has answered or has ended.
        self.signs = (self._pipe, self._process.sentinel)

    def give(self, shard: bytes) -> None:
        with suppress(OSError):  # killed while idle: `take` will tell
            self._pipe.send_bytes(shard)

    def take(self) -> Outcome | _Counted | None:
        """Its answer or a word on its progress; None if it ended without."""
        try:
            return pickle.loads(self._pipe.recv_bytes()) if self._pipe.poll() else None
        except (EOFError, OSError):
            return None

    def dismiss(self) -> str:
        """Let it end, if it has not; how it ended."""
        self._pipe.close()
        self._process.join(GRACE)
        self._process.kill()
        self._process.join()
        return _how(self._process.exitcode)

    def kill(self) -> None:
        """End it in the middle of a shard."""
        self._process.kill()
        self.dismiss()


class _Counted(dict[str, int]):
    """How many of which unit a worker has done since its last word."""


class _Teller:
    """In a worker, tells its parent now and then what is counted in it."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._counted = _Counted()
        self._last = time.monotonic()

    def __call__(self, done: int, unit: str) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # two threads that send at once would garble both
        self._counted[unit] = self._counted.get(unit, 0) + done
        if time.monotonic() - self._last >= TELL_EVERY:
            with suppress(OSError):
                self._pipe.send_bytes(pickle.dumps(self._counted))
            self._counted, self._last = _Counted(), time.monotonic()


def _how(code: int) -> str:
    """How a process ended, in a few words.

    Example:
        >>> _how(-9)
        'SIGKILL, most often too little memory'
    """
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"{name}, most often too little memory" if name == "SIGKILL" else name


def process_context(preload: Sequence[str]) -> Any:
    """What starts worker processes: a fork server that holds some modules, where there is one.

    It imports them once, before any thread exists, and every worker is a fork of it: cheaper than
    spawning, safer than forking a process with threads.
    """
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if hasattr(context, "set_forkserver_preload"):
        context.set_forkserver_preload(list(preload))
    return context


def _serve(pipe: Connection, work: bytes, slot: int) -> None:
    # Ctrl-C reaches every process of a terminal; the parent alone decides what follows.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    be_quiet(_Teller(pipe))
    take_slot(slot)
    end_with_parent()
    with suppress(EOFError, OSError):  # the parent has no more shards, or is gone
        while True:
            pipe.send_bytes(answer(work, pipe.recv_bytes()))


def end_with_parent() -> None:
    """Have this worker process end as soon as its parent does, however that ends.

    A worker whose parent was killed would go on writing where the next run already writes.
    """
    threading.Thread(
        target=_end_after, args=(multiprocessing.parent_process(),), daemon=True
    ).start()


def _end_after(parent: BaseProcess | None) -> None:
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
