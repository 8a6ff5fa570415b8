"""Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere.

Everything goes to standard error, so that standard output stays clean for `--json`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from headwater.errors import plain

T = TypeVar("T")

PATIENCE = 2.0  # seconds of silence before work is worth a word
LINE_EVERY = 10.0  # seconds between plain lines where there is no terminal


def track(
    items: Iterable[T],
    *,
    label: str,
    total: int | None = None,
    unit: str = "",
    size: Callable[[T], int] | None = None,
) -> Iterator[T]:
    """Yield `items` unchanged while showing how far they are.

    Args:
        items: anything iterable.
        label: what is being done, in two or three words.
        total: what there is to do; taken from `len(items)` where that works, else no time left.
        unit: what is counted, in the plural.
        size: how many of them an item stands for; one if not given.

    Example:
        >>> list(track([1, 2, 3], label="counting"))
        [1, 2, 3]
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if _Shown.count:
        yield from items
        return
    show = _bar if sys.stderr.isatty() else _lines
    _Shown.count += 1
    try:
        yield from show(items, label, total, unit, size or _one)
    finally:
        _Shown.count -= 1


def be_quiet() -> None:
    """Show no progress from now on, as in a worker whose parent shows it."""
    _Shown.count += 1


class _Shown:
    """How many bars stand: inside of one, further work goes on silently."""

    count = 0


def say(text: str) -> None:
    """Write one plain line to standard error, whatever a file or a caption has put into it.

    Example:
        >>> say("hello")
    """
    print(plain(text), file=sys.stderr, flush=True)


def _one(_: object) -> int:
    return 1


def _bar(
    items: Iterable[T], label: str, total: int | None, unit: str, size: Callable[[T], int]
) -> Iterator[T]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(escape(label), total=total, rate="")
        done = 0
        for item in items:
            yield item
            done += size(item)
            rate = _rate(done, time.monotonic() - started, unit)
            progress.update(task, completed=done, rate=rate)


def _lines(
    items: Iterable[T], label: str, total: int | None, unit: str, size: Callable[[T], int]
) -> Iterator[T]:
    started = last = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += size(item)
        now = time.monotonic()
        if now - last >= LINE_EVERY:
            last = now
            say(_line(label, done, total, now - started, unit))
    seconds = time.monotonic() - started
    if seconds >= PATIENCE:
        say(f"{label}: {done:,} done in {seconds:.1f} s ({_rate(done, seconds, unit)})")


def _line(label: str, done: int, total: int | None, seconds: float, unit: str = "") -> str:
    rate = _rate(done, seconds, unit)
    if total is None:
        return f"{label}: {done:,} ({rate})"
    if not done:
        return f"{label}: 0 of {total:,}"
    left = (total - done) * seconds / done
    return f"{label}: {done:,} of {total:,} ({rate}, {left:.0f} s left)"


def _rate(done: int, seconds: float, unit: str) -> str:
    return f"{done / max(seconds, 1e-9):,.1f}{' ' * bool(unit)}{unit}/s"
