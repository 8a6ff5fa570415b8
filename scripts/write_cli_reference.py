"""Writes docs/cli.md from the commands' own help: `python scripts/write_cli_reference.py`.

tests/test_docs.py holds the file to what `reference` gives here.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from headwater.cli import app

CLI_PAGE = Path(__file__).parents[1] / "docs" / "cli.md"

HEAD = """\
# The command line

Made by `scripts/write_cli_reference.py` from the commands' help: change the help, then run
`make docs`.

Results go to standard output, progress and errors to standard error. With `--json` the result is
one JSON value. Exit code 0: done; 1: the run failed, what is finished is kept; 2: wrong usage or
bad input, told in one line; 130: stopped by Ctrl-C. The same command run again does only what is
missing.
"""

KINDS = {str: "TEXT", int: "NUMBER", float: "NUMBER", Path: "PATH", bool: ""}


def commands() -> dict[str, Any]:
    """Every command by what a user types after `headwater`: {"retrieve": .., "task list": ..}."""
    return dict(_walk(typer.main.get_command(app), ""))


def reference() -> str:
    """The whole of docs/cli.md."""
    found = commands()
    index = [
        f"| [`{name}`](#headwater-{name.replace(' ', '-')}) | {_cell(_split(command)[0])} |"
        for name, command in found.items()
    ]
    sections = [section(name, command) for name, command in found.items()]
    return "\n".join([HEAD, "| command | what it does |", "|---|---|", *index, "", *sections])


def section(name: str, command: Any) -> str:
    """One command: what it does, how it is called, its options, an example."""
    kinds = typing.get_type_hints(command.callback)
    told, example = _split(command)
    return "\n".join(
        [
            f"## headwater {name}",
            "",
            told,
            "",
            "```",
            usage(name, command, kinds),
            "```",
            "",
            "| option | meaning | default |",
            "|---|---|---|",
            *(_row(param, kinds) for param in command.params),
            "",
            "Example:",
            "",
            "```",
            example,
            "```",
            "",
        ]
    )


def usage(name: str, command: Any, kinds: dict[str, Any]) -> str:
    """How a command is called: its arguments, the options it cannot do without, the others."""
    arguments = [_shown(param, kinds) for param in command.params if _is_argument(param)]
    needed = [
        _shown(param, kinds)
        for param in command.params
        if param.required and not _is_argument(param)
    ]
    return " ".join(["headwater", name, *arguments, *needed, "[OPTIONS]"])


def _walk(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _walk(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


def _split(command: Any) -> tuple[str, str]:
    """What a command does, and the example of it."""
    told, _, example = command.help.partition("Example:")
    return " ".join(told.split()), " ".join(example.split())


def _row(param: Any, kinds: dict[str, Any]) -> str:
    many = " May be given several times." if param.multiple else ""
    return f"| `{_shown(param, kinds)}` | {_cell(param.help)}{many} | {_default(param)} |"


def _shown(param: Any, kinds: dict[str, Any]) -> str:
    """`SET`, `--size NUMBER`, `--json`."""
    if _is_argument(param):
        return str(param.metavar or param.name.upper())
    return f"{param.opts[0]} {_kind(kinds[param.name])}".strip()


def _default(param: Any) -> str:
    if param.required:
        return "required"
    unset = param.default is None or param.default is False
    return "" if unset else f"`{param.default}`"


def _kind(hint: Any) -> str:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        hint = next(part for part in typing.get_args(hint) if part is not types.NoneType)
    if typing.get_origin(hint) is list:
        hint = typing.get_args(hint)[0]
    return KINDS[hint]


def _is_argument(param: Any) -> bool:
    return not param.opts[0].startswith("-")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    CLI_PAGE.write_text(reference(), encoding="utf-8")
