"""The command line: one command a verb. Each opens, calls and prints; the work is in `steps/`.

Results go to standard output (`--json` for machines), progress and errors to standard error.

    studies.py    demo, run, status, compare, report     sourcing.py   doctor, retrieve, ...
    curation.py   curate                                 pools.py      pool describe, pool embed
    looking.py    why, task list, task show              labelling.py  task label
    novelty.py    novelty, subset                        hybrid.py     composition, top-up
    learning.py   adapt, evaluate, predict               synthesis.py  synthesize, perturb
    options.py    what they share
"""

from __future__ import annotations

import os
import sys
from typing import Any

import typer

from headwater.cli import (  # noqa: F401, add commands
    curation,
    hybrid,
    labelling,
    learning,
    looking,
    novelty,
    pools,
    sourcing,
    studies,
    synthesis,
)
from headwater.cli.apps import app
from headwater.errors import HeadwaterError, RunError, plain

__all__ = ["app", "run"]

STOPPED = 130  # the exit code of Ctrl-C

# Typer brings its own copy of click, so its errors are reached through a name it makes public.
UsageError: Any = typer.BadParameter.__bases__[0]


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; every error becomes one line."""
    try:
        code = app(arguments, standalone_mode=False)
        if code == STOPPED:  # typer takes Ctrl-C for itself, and says nothing
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except UsageError as error:
        message = plain(error.format_message())
        return _fail(f"{message} See `headwater --help`." if message else "", 2)
    except HeadwaterError as error:
        return _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("stopped; the same command goes on where it was.", STOPPED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(str(RunError(str(error), do="Run the same command again once mended.")), 1)
    except MemoryError:
        return _fail("out of memory; finished work is kept. Try smaller --workers or scales.", 1)


def _fail(message: str, code: int) -> int:
    if message:
        print(f"headwater: {message}", file=sys.stderr)
    return code
