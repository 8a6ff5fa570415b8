"""The documents are held to the code: commands, public names, columns, keys, files, links."""

from __future__ import annotations

import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl
import pytest
import yaml
from pydantic import BaseModel
from scripts.write_cli_reference import CLI_PAGE, commands, reference

import headwater
from headwater import compare, decode
from headwater.adapt import probe
from headwater.curate import safety
from headwater.descriptors import builtin
from headwater.evaluate import METRICS
from headwater.evaluate import SCHEMA as PREDICTION_SCHEMA
from headwater.findings import RESULT_SCHEMA
from headwater.miniature.world import PLANTED
from headwater.pairs import DECISION_SCHEMA, PAIR_SCHEMA
from headwater.pool import ALIASES, LAYOUTS
from headwater.recipe import Recipe
from headwater.retrieve.neighbors import NEIGHBORS
from headwater.steps.settings import Adaptation
from headwater.store import read_json, step
from headwater.synthesize import images
from headwater.synthesize.captions import KINDS
from headwater.task import Task

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "headwater"
PAGES = [ROOT / "README.md", ROOT / "LOG.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = commands()


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def part(text: str, heading: str) -> str:
    """The text under a heading, up to the next one of its level.

    >>> part("# a\\n## b\\nx\\n## c\\ny", "## b").strip()
    'x'
    """
    level = heading.split(" ")[0]
    _, found, rest = text.partition(f"\n{heading}\n")
    assert found, f"no heading {heading!r}"
    return re.split(rf"^{level} ", rest, flags=re.MULTILINE)[0]


def table_rows(text: str) -> list[list[str]]:
    """The cells of every row of every Markdown table in a text, code style taken off."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", x)[1:-1]] for x in lines]


def test_the_cli_reference_is_what_the_help_says() -> None:
    assert CLI_PAGE.read_bytes() == reference().encode(), "run `make docs`"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_explained(name: str) -> None:
    command = COMMANDS[name]
    assert f"\n## headwater {name}\n" in CLI_PAGE.read_text()
    assert all(param.help for param in command.params), f"an option of {name} says nothing"
    _, example, line = command.help.partition("Example: ")
    assert example, f"the help of {name} has no example"
    check_call(line)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_command_line_in_the_documents_can_be_typed(path: Path) -> None:
    for block in re.findall(r"^```(?:\w*)\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"headwater [a-z]", line) and "[OPTIONS]" not in line:
                check_call(line)


def check_call(line: str) -> None:
    """A command line names a command, options it has, and what it cannot do without."""
    words = shlex.split(line, comments=True)
    words = words[: words.index(">")] if ">" in words else words
    name = next(n for size in (2, 1) if (n := " ".join(words[1 : 1 + size])) in COMMANDS)
    given = words[1 + len(name.split()) :]
    params = {opt: param for param in COMMANDS[name].params for opt in param.opts}
    used, bare = set(), 0
    while given:
        word = given.pop(0)
        if not word.startswith("-"):
            bare += 1
            continue
        assert word in params, f"{word} is no option of headwater {name}: {line}"
        used.add(word)
        if params[word].default is not False:
            assert given and not given[0].startswith("--"), f"{word} needs a value: {line}"
            given.pop(0)
    arguments = [param for opt, param in params.items() if not opt.startswith("-")]
    many = any(param.nargs == -1 for param in arguments)
    assert bare == len(arguments) or (many and bare >= len(arguments)), f"arguments of: {line}"
    needed = {o for o, param in params.items() if param.required and o.startswith("-")}
    assert needed <= used, f"{needed - used} missing: {line}"


@pytest.mark.parametrize("name", headwater.PUBLIC)
def test_a_public_name_is_explained(name: str) -> None:
    thing = getattr(headwater, name)
    assert ">>>" in (inspect.getdoc(thing) or ""), f"{name} has no example"
    told = " ".join(page("docs/python.md").split())
    assert f"headwater.{name}" in told
    if inspect.isfunction(thing):
        assert call(thing) in told, f"docs/python.md should say {call(thing)}"


def call(function: Any) -> str:
    """`compare_arms(correct_a, correct_b, *, margin=0.01, seed=0)`: a signature without types."""
    parameters = inspect.signature(function).parameters.values()
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    return f"{function.__name__}{inspect.Signature(bare)}"


SCHEMAS = {
    "## A set": PAIR_SCHEMA | DECISION_SCHEMA,
    "## An evaluation": PREDICTION_SCHEMA,
    "## A study": RESULT_SCHEMA,
    "## The miniature world": PLANTED,
}


@pytest.mark.parametrize("heading", SCHEMAS)
def test_every_column_is_told_with_its_type(heading: str) -> None:
    rows = {(row[0], row[1]) for row in table_rows(part(page("docs/formats.md"), heading))}
    for name, dtype in SCHEMAS[heading].items():
        kind = "Struct" if isinstance(dtype, pl.Struct) else str(dtype)
        assert (name, kind) in rows, f"{name} ({kind}) is not in docs/formats.md"


def test_scores_layouts_and_aliases_are_told() -> None:
    told = page("docs/formats.md")
    scores = [name for name in NEIGHBORS if name.endswith("_score")]
    names = {name for names in ALIASES.values() for name in names}
    for word in (*scores, "clip_score", *ALIASES, *names, *LAYOUTS, *METRICS):
        assert f"`{word}`" in told, f"{word} is not in docs/formats.md"


def test_the_meaning_of_a_safety_tag_is_told() -> None:
    told = page("docs/formats.md")
    assert ", ".join(f"`{tag}`" for tag in safety.UNSAFE) in told
    assert f"a number above {safety.CUT}" in told


def test_every_key_of_a_step_is_told(tmp_path: Path) -> None:
    with step(tmp_path / "s", "toy", arguments={}):
        pass
    told = {row[0] for row in table_rows(part(page("docs/formats.md"), "## step.json"))}
    assert set(read_json(tmp_path / "s" / "step.json")) <= told


def test_every_key_of_a_verdict_is_told() -> None:
    right = {("zero_shot", 100, arm): np.ones((2, 5), np.bool_) for arm in "ab"}
    entry = compare.verdict_rows(right, pairs=[("a", "b")])[0]
    told = part(page("docs/formats.md"), "## A study")
    assert all(f"`{key}`" in told for key in entry)


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a model and of those inside it, dotted: ("adapt.epochs", its field)."""
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        yield key, field
        named = "NAME." if str(field.annotation).startswith("dict[") else ""
        for inner in models_in(field.annotation):
            yield from keys(inner, f"{key}.{named}")


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in models_in(inner)]


def shown(field: Any) -> str:
    """A default as the tables write it."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value == {}:
        return "none"
    if isinstance(value, BaseModel) or (
        value and isinstance(value, tuple) and isinstance(value[0], BaseModel)
    ):
        return "see below"
    value = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()


def test_every_key_of_a_recipe_is_told_with_its_default() -> None:
    told = {row[0]: row[1] for row in table_rows(page("docs/recipes.md"))}
    wanted = {key: shown(field) for key, field in keys(Recipe)}
    repeated = [key for key in wanted if key.startswith("sources.NAME.curate.")]
    assert all(key.removeprefix("sources.NAME.") in wanted for key in repeated)
    own = {key: default for key, default in wanted.items() if key not in repeated}
    assert {key: told.get(key) for key in own} == own


def test_every_key_of_a_task_is_told() -> None:
    told = {row[0] for row in table_rows(part(page("docs/formats.md"), "## The task file"))}
    assert {key for key, _ in keys(Task)} <= told


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_task_and_recipe_in_the_documents_is_valid(path: Path) -> None:
    for block in re.findall(r"^```yaml\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE):
        value = yaml.safe_load(block)
        (Recipe if "sources" in value else Task).model_validate(value)


def test_the_method_names_the_constants_of_the_code() -> None:
    told = " ".join(page("docs/method.md").split())
    rate = Adaptation.model_fields["batch_size"]
    facts = [
        f"{compare.DRAWS:,} draws",
        f"one of {', '.join(f'{s:g}' for s in probe.STRENGTHS)}",
        f"{probe.FOLDS} folds",
        f"{decode.MAX_BYTES >> 20} MB",
        f"{decode.MAX_PIXELS // 10**6} megapixels",
        f"shares {', '.join(f'{share:g}' for share in KINDS.values())}",
        f"{images.STEPS} steps, guidance {images.GUIDANCE}",
        f"batch | {rate.default}",
        f"{sum(n * n for n in builtin.WINDOWS.values())} windows",
        f"H: {builtin.COPY_THRESHOLD:g}, or the recipe's",
    ]
    assert [fact for fact in facts if fact not in told] == []


def tree(text: str) -> set[str]:
    """The files a drawn tree names, relative to its root; a folder stands for its __init__.py."""
    found, folders = set(), [""]
    for line in text.splitlines()[1:]:
        depth = (len(line) - len(line.lstrip())) // 2 - 1
        name = line.split()[0]
        folders[depth + 1 :] = [f"{folders[depth]}{name}"]
        found.add(f"{folders[depth]}{name}" + ("__init__.py" if name.endswith("/") else ""))
    return found


def test_a_drawn_tree_is_read_as_meant() -> None:
    drawn = "src/\n  a.py   one\n  b/     two\n    c.py three\n  d.py   four"
    assert tree(drawn) == {"a.py", "b/__init__.py", "b/c.py", "d.py"}


def test_the_tree_in_the_readme_is_the_tree() -> None:
    block = re.search(r"^```\n(src/headwater/\n.*?)^```", page("README.md"), re.DOTALL | re.M)
    assert block, "README.md has no tree of src/headwater/"
    drawn = tree(block[1])
    files = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files - drawn == set(), "not in the README's tree"
    assert drawn - files - {"tasks/__init__.py"} == set(), "in the README's tree only"


def test_every_dependency_is_explained_and_pinned() -> None:
    project = tomllib.loads(page("pyproject.toml"))["project"]
    extras = [name for names in project["optional-dependencies"].values() for name in names]
    names = {re.split(r"[^\w-]", line)[0] for line in [*project["dependencies"], *extras]}
    why = part(page("README.md"), "## Why each dependency is there")
    pinned = {line.split("==")[0].lower() for line in page("constraints.txt").splitlines()}
    for name in names - {"headwater"}:
        assert f"`{name}`" in why, f"README.md does not say why {name} is there"
        assert name.lower() in pinned, f"constraints.txt does not pin {name}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{path.name} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{path.name} links to {link}"


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text).strip().lower().replace(" ", "-") for text in headings}
