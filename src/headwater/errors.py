"""The errors Headwater raises: one small tree, each with its exit code and one clear line.

    HeadwaterError          anything Headwater itself says no to
    ├── InputError          wrong usage or bad input                     exit code 2
    │   ├── TaskError       a task file or its images
    │   ├── PoolError       a pool: missing, empty, or out of step
    │   ├── SetError        a set folder: unfinished, or made with other arguments
    │   ├── ModelError      a model or generator that cannot be loaded
    │   ├── RecipeError     a recipe file
    │   └── QueryError      a class name or query that cannot be searched for
    └── RunError            the run itself failed, the input was fine     exit code 1

`DecodeError` stands aside: it never reaches a user, it becomes a decision in a set.
"""

from __future__ import annotations

import unicodedata


class HeadwaterError(Exception):
    """Says in one line what was expected, what was seen, and what to do.

    Example:
        >>> str(HeadwaterError("empty pool", expected="*.parquet", seen="no file", do="Check it."))
        'empty pool: expected *.parquet, saw no file. Check it.'
    """

    exit_code = 1

    def __init__(self, what: str, *, expected: str = "", seen: str = "", do: str = "") -> None:
        facts = [f"expected {expected}" if expected else "", f"saw {seen}" if seen else ""]
        line = ": ".join(part for part in (what, ", ".join(f for f in facts if f)) if part)
        super().__init__(plain(f"{line}. {do}" if do else line))


class InputError(HeadwaterError):
    """Wrong usage or bad input; the user can mend it."""

    exit_code = 2


class TaskError(InputError):
    """A task file, its class names, or its evaluation images."""


class PoolError(InputError):
    """A pool that is missing, empty, of an unknown layout, or out of step with itself."""


class SetError(InputError):
    """A set folder that is unfinished, foreign, or was made with other arguments."""


class ModelError(InputError):
    """A learner or generator that cannot be loaded."""


class RecipeError(InputError):
    """A recipe file that says something it may not."""


class QueryError(InputError):
    """A class name or query that cannot be searched for."""


class RunError(HeadwaterError):
    """The run failed although the input was fine: a full disk, a killed worker, a NaN loss."""


class DecodeError(Exception):
    """An image that cannot be used; its text is the reason written to the decisions."""


def plain(text: str) -> str:
    r"""Text on one line without control characters, safe to print on a terminal.

    Example:
        >>> plain("red\x1b[31m\nrose")
        'red[31m rose'
    """
    spaced = " ".join(text.split())
    return "".join(c for c in spaced if unicodedata.category(c) not in ("Cc", "Cf", "Cs"))


def first_line(error: BaseException) -> str:
    r"""The first line of a foreign error's text, or its name where it has none.

    Example:
        >>> first_line(ValueError("a shape mismatch\nwith a long story"))
        'a shape mismatch'
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
