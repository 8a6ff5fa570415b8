"""A score of the user's own: `FILE.py:function`, imported from its path and kept at arm's length.

Naming a file runs it, with all rights of whoever runs Headwater. Whatever goes wrong inside is told
in one line, with the place in the user's file. scoring.py says what such a function is given.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import lru_cache
from hashlib import sha256
from importlib.abc import SourceLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from traceback import walk_tb
from types import ModuleType
from typing import Any

from headwater.errors import InputError, first_line

SUFFIX = ".py"


def is_own(name: str) -> bool:
    """Whether a score's name says where a function of the user's is.

    Example:
        >>> is_own("mine.py:warmth"), is_own("sharpness")
        (True, False)
    """
    return name.rpartition(":")[0].endswith(SUFFIX)


def open_own(name: str) -> tuple[Callable[..., Any], str]:
    """The function that `FILE.py:function` names, and the sha256 of the file.

    The same file opened twice runs once in a process; a changed file is read anew.

    Raises:
        InputError: no such file or function, one that does not take one argument, or a file that
            fails when it is run.
    """
    file, _, function = name.rpartition(":")
    path = Path(file)
    try:
        source = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read the score {name}", expected="FILE.py:function", seen=str(error)
        ) from None
    module = _run(path.resolve(), source)
    found = getattr(module, function, None)
    if not callable(found) or not _takes_one(found):
        raise InputError(
            f"no score {function!r} in {path.name}",
            expected="a function of one argument, the candidates",
            seen=", ".join(_functions(module)) or "no function at all",
        )
    return found, sha256(source).hexdigest()


def told(error: BaseException, name: str) -> InputError:
    """What went wrong in a user's score, or file, on one line, with the line in the user's file."""
    path = Path(name.rpartition(":")[0] if is_own(name) else name)
    line = _line_in(error, path.resolve())
    place = f" ({path.name}, line {line})" if line else ""
    said = _said(error)
    words = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return InputError(
        f"the score {name} failed", seen=f"{words}{place}",
        do="Mend the function, or leave the score out.",
    )  # fmt: skip


def _said(error: BaseException) -> str:
    """The first line of an error's text; an error class of the user's may fail at that too."""
    if isinstance(error, SyntaxError):
        return error.msg  # without the place, which is told apart
    try:
        return first_line(error) if str(error) else ""
    except Exception:
        return ""


class _Source(SourceLoader):
    """Runs the very bytes that were read, so that no stale compiled file can stand in for them."""

    def __init__(self, path: Path, source: bytes) -> None:
        self._path, self._source = path, source

    def get_filename(self, fullname: str) -> str:
        return str(self._path)

    def get_data(self, path: str | bytes) -> bytes:
        return self._source


@lru_cache(maxsize=64)
def _run(path: Path, source: bytes) -> ModuleType:
    name = f"headwater_own_{sha256(bytes(path) + source).hexdigest()[:16]}"
    spec = spec_from_loader(name, _Source(path, source), origin=str(path))
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)  # dataclasses look their module up there
    try:
        with redirect_stdout(sys.stderr):  # standard output is for results
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise told(error, str(path)) from error
    return module


def _takes_one(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:  # built in elsewhere: nobody can tell
        return True
    return True


def _functions(module: ModuleType) -> list[str]:
    """Functions that the file itself defines."""
    return [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__
    ]


def _line_in(error: BaseException, path: Path) -> int | None:
    """The last line of the user's file on the way to the error."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    frames = walk_tb(error.__traceback__)
    lines = [line for frame, line in frames if frame.f_code.co_filename == str(path)]
    return lines[-1] if lines else None
