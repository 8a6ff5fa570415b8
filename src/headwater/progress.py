"""Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere.

Everything goes to standard error, so that standard output stays clean for `--json`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
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
        size: how many of them an item stands for; one if not given. Where it is, work inside of
            an item that counts the same unit moves the bar on meanwhile.

    Example:
        >>> list(track([1, 2, 3], label="counting"))
        [1, 2, 3]
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    size_of = size or _one
    if _Shown.count:
        for item in items:
            yield item
            count(size_of(item), unit)
        return
    show = _bar if sys.stderr.isatty() else _lines
    _Shown.count += 1
    try:
        with show(label, total, unit) as update:
            meter = _Meter(update, total, unit)
            _Shown.hear = meter.hear if size else None
            for item in items:
                yield item
                meter.add(size_of(item))
    finally:
        _Shown.count -= 1
        _Shown.hear = None


def count(done: int, unit: str) -> None:
    """Tell the bar that stands of work done inside one of its items.

    Example:
        >>> count(3, "images")  # no bar, nobody to tell
    """
    if _Shown.hear is not None and unit:
        _Shown.hear(done, unit)


def be_quiet(hear: Callable[[int, str], None] | None = None) -> None:
    """Show no progress from now on, as in a worker whose parent shows it.

    Args:
        hear: who is told instead of what is counted: how many, of what.
    """
    _Shown.count += 1
    _Shown.hear = hear


class _Shown:
    """How many bars stand: inside of one, further work goes on silently."""

    count = 0
    hear: Callable[[int, str], None] | None = None  # told of what is counted inside


class _Meter:
    """How far a bar is: the items that are done, and what was told of those that are not."""

    def __init__(self, update: Callable[[int], None], total: int | None, unit: str) -> None:
        self._update, self._total, self._unit = update, total, unit
        self._done = self._heard = 0

    def add(self, done: int) -> None:
        """An item is done, which stands for so many."""
        self._done += done
        self._show()

    def hear(self, done: int, unit: str) -> None:
        """So many are done inside of an item."""
        if unit == self._unit:
            self._heard += done
            self._show()

    def _show(self) -> None:
        # What was told of a shard that was begun twice is told twice.
        heard = self._heard if self._total is None else min(self._heard, self._total)
        self._update(max(self._done, heard))


def say(text: str) -> None:
    """Write one plain line to standard error, whatever a file or a caption has put into it.

    Example:
        >>> say("hello")
    """
    print(plain(text), file=sys.stderr, flush=True)


def _one(_: object) -> int:
    return 1


@contextmanager
def _bar(label: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
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

        def update(done: int) -> None:
            rate = _rate(done, time.monotonic() - started, unit)
            progress.update(task, completed=done, rate=rate)

        yield update


@contextmanager
def _lines(label: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    started = last = time.monotonic()
    shown = 0

    def update(done: int) -> None:
        nonlocal last, shown
        shown, now = done, time.monotonic()
        if now - last >= LINE_EVERY:
            last = now
            say(_line(label, done, total, now - started, unit))

    yield update
    seconds = time.monotonic() - started
    if seconds >= PATIENCE:
        say(f"{label}: {shown:,} done in {seconds:.1f} s ({_rate(shown, seconds, unit)})")


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
