"""A crew: workers that take one shard at a time, and what to do when one of them is killed.

Here is what all crews share, both ends of it: `outcomes` where shards are handed out, `answer`
where they are worked on. `local.py` and `ray.py` carry bytes between the two.
"""

from __future__ import annotations

import pickle
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from headwater.errors import RunError
from headwater.progress import say


@dataclass(frozen=True)
class Outcome:
    """What became of a shard: a value, an error that `work` raised, or a killed worker."""

    value: Any = None
    error: BaseException | None = None
    killed: str = ""  # how, in a few words


class Crew(Protocol):
    """Workers that take one shard at a time."""

    size: int  # how many shards it takes at once

    def start(self, number: int, shard: object) -> None:
        """Have a shard worked on; `number` is its place in the list."""

    def wait(self) -> list[tuple[int, Outcome]]:
        """What became of the shards that ended since; waits for at least one."""


def outcomes(crew: Crew, shards: Sequence[object]) -> Iterator[tuple[int, Outcome]]:
    """Have every shard worked on; yield the place and outcome of each as it ends.

    After a failure only shards before it are begun: one of them might fail too, and the first
    in order is the one to raise.
    """
    fresh, again = deque(range(len(shards))), deque[int]()
    struck: set[int] = set()
    flying, end = 0, len(shards)
    while True:
        while flying < crew.size and (queue := _next_queue(fresh, again, crew.size)):
            number = queue.popleft()
            if number < end:
                crew.start(number, shards[number])
                flying += 1
        if not flying:
            return
        for number, outcome in crew.wait():
            flying -= 1
            if outcome.killed and number not in struck:
                say(f"shard {number + 1:,} lost its worker ({outcome.killed}); it is tried again")
                struck.add(number)
                again.append(number)
                continue
            if outcome.killed:
                outcome = Outcome(error=_killed_twice(number, len(shards), outcome.killed))
            if outcome.error:
                end = min(end, number)
            yield number, outcome


def _next_queue(fresh: deque[int], again: deque[int], size: int) -> deque[int]:
    # A shard that lost its worker waits for the others: they are safe then, and there may be
    # more memory. But where whole crews are lost, it is better to know soon.
    return again if again and (not fresh or len(again) >= size) else fresh


def _killed_twice(number: int, shards: int, how: str) -> RunError:
    return RunError(
        f"shard {number + 1:,} of {shards:,} killed its worker twice",
        seen=how,
        do="Run the same command again, with fewer --workers if memory ran out; what is finished "
        "is kept.",
    )


class _Here:
    """What this process is."""

    worker = False
    slot = 0


def in_worker() -> bool:
    """Whether this process works on shards for another one, beside others of its kind."""
    return _Here.worker


def worker_slot() -> int:
    """Which of its crew's places this local worker has: from 0 on, no two of them the same.

    Whatever the machine has several of, such as GPUs, is shared out by it. 0 elsewhere.

    Example:
        >>> worker_slot()
        0
    """
    return _Here.slot


def take_slot(slot: int) -> None:
    """Tell this process which place it has."""
    _Here.slot = slot


def answer(work: bytes, shard: bytes, *, dumps: Callable[[object], bytes] = pickle.dumps) -> bytes:
    """The outcome of `work` on `shard`, pickled; never raises. Both come from `dumps`, too."""
    _Here.worker = True
    try:
        return dumps(Outcome(value=_load(work)(pickle.loads(shard))))
    except BaseException as error:
        error.add_note(f"In a worker:\n{traceback.format_exc()}")
        return _dump_error(error, dumps)


@lru_cache(maxsize=1)
def _load(work: bytes) -> Callable[[Any], Any]:
    # Once a worker, not once a shard: `work` may carry the phrases of a thousand classes.
    loaded: Callable[[Any], Any] = pickle.loads(work)
    return loaded


def _dump_error(error: BaseException, dumps: Callable[[object], bytes]) -> bytes:
    try:
        data = dumps(Outcome(error=error))
        pickle.loads(data)  # some exceptions can be pickled, but not unpickled
        return data
    except Exception:
        return dumps(Outcome(error=RunError(f"{type(error).__name__}: {error}")))
