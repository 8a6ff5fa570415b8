"""Imports go down, never up: the road of DESIGN.md, held by walking every import."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "headwater"

GROUND = [
    "clip", "features", "descriptors", "pairs", "card", "store", "topk", "decode", "engine",
    "progress", "yamlfile", "prompts", "candidates", "rows", "float32", "expression", "errors",
    "cost",
]  # fmt: skip
STAGES = ["retrieve", "synthesize", "curate", "adapt", "evaluate", "compare", "report"]
PLACES = ["task", "pool"]
CLASSES = ["classes"]
SPLITS = ["splits"]

FLOORS = [
    ["__main__"],
    ["cli"],
    ["miniature", "terminal"],
    ["study"],
    ["summary"],
    ["topped_up"],
    ["findings"],
    ["choices", "gate", "sourcing"],
    ["trials"],
    ["recipe"],
    ["steps"],
    STAGES,
    SPLITS,
    CLASSES,
    PLACES,
    GROUND,
]


def room_of(name: str) -> str:
    """`headwater.curate.score` -> `curate`."""
    return name.removeprefix("headwater.").split(".")[0]


def floor_of(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("headwater"):
            names = (
                [f"headwater.{alias.name}" for alias in node.names]
                if node.module == "headwater"
                else [node.module]
            )
            found.update(names)
        if isinstance(node, ast.Import):
            found.update(a.name for a in node.names if a.name.startswith("headwater."))
    return found


def modules() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def test_every_room_is_on_one_floor() -> None:
    rooms = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in modules()}
    listed = [room for floor in FLOORS for room in floor]
    assert sorted(listed) == sorted(set(listed))
    assert rooms <= set(listed), f"not on the plan: {rooms - set(listed)}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_imports_go_down(path: Path) -> None:
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    for name in imports(path):
        other = room_of(name)
        if other == room:
            continue
        assert floor_of(other) >= floor_of(room), f"{path.name} reaches up to {name}"
        if room not in GROUND:
            assert floor_of(other) > floor_of(room), f"{path.name} reaches across to {name}"


def rooms_below(room: str) -> set[str]:
    """What a module, or any module of a package, imports from other rooms."""
    paths = [SOURCE / f"{room}.py", *(SOURCE / room).rglob("*.py")]
    names = {name for path in paths if path.exists() for name in imports(path)}
    return {room_of(name) for name in names} - {room}


def test_the_ground_has_no_cycles() -> None:
    files = [(path.relative_to(SOURCE).parts[0].removesuffix(".py"), path) for path in modules()]
    below = {
        room: {room_of(n) for owner, path in files if owner == room for n in imports(path)} - {room}
        for room in GROUND
    }
    done: set[str] = set()
    while len(done) < len(GROUND):
        free = {room for room in GROUND if room not in done and below[room] <= done}
        assert free, f"a cycle among {set(GROUND) - done}"
        done |= free
