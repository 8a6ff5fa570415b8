"""Lines that a model makes for many rows at once: what is asked for, or images.

Where memory ends fewer are made at once; where the rows beside it might have decided a row's line,
it is made again alone. Both models work so: `language_model.py` and `captioner.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from headwater.errors import RunError
from headwater.synthesize.memory import free_memory, is_out_of_memory

T = TypeVar("T")

Make = Callable[[Sequence[T]], tuple[list[str], list[bool]]]
"""The lines of some rows, and whether each is certain, whatever stands beside it."""


def lines_in_blocks(rows: Sequence[T], make: Make[T], *, block: int, name: str) -> list[str]:
    """One line for each row, in order.

    Args:
        rows: any number.
        make: is called with at most `block` of them.
        block: halved where memory ends.
        name: of the model, for the error.

    Raises:
        RunError: memory does not suffice for one row.

    Example:
        >>> def upper(words):
        ...     return [word.upper() for word in words], [True] * len(words)
        >>> lines_in_blocks(["a rose", "an iris", "an oak"], upper, block=2, name="tiny")
        ['A ROSE', 'AN IRIS', 'AN OAK']
    """
    blocks = (rows[at : at + block] for at in range(0, len(rows), block))
    return [line for some in blocks for line in _lines(some, make, name)]


def _lines(rows: Sequence[T], make: Make[T], name: str) -> list[str]:
    made = _made(rows, make, name)
    if made is None:
        free_memory()
        half = (len(rows) + 1) // 2
        return _lines(rows[:half], make, name) + _lines(rows[half:], make, name)
    lines, sure = made
    if len(rows) == 1:
        return lines
    pairs = zip(rows, lines, sure, strict=True)
    return [line if is_sure else _lines([row], make, name)[0] for row, line, is_sure in pairs]


def _made(rows: Sequence[T], make: Make[T], name: str) -> tuple[list[str], list[bool]] | None:
    # None where memory did not suffice: the error itself would keep what fills it alive.
    try:
        return make(rows)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    if len(rows) == 1:
        raise RunError(
            f"the model {name} does not fit into memory",
            expected="room for one caption at a time",
            do="Take a smaller model, or a larger device.",
        )
    return None
