from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from headwater.errors import TaskError
from headwater.expression import parse_query
from headwater.retrieve.words import match_captions
from headwater.task import Task, builtin_tasks, load_task

GARDEN = """\
format: 1
name: garden
classes:
- rose
- {label: fern, name: tree fern, queries: [tree fern, Cyatheales]}
- 7
images: {test: images/test}
"""


def write_garden(folder: Path, text: str = GARDEN) -> Path:
    (folder / "garden.yaml").write_text(text)
    return folder / "garden.yaml"


def test_a_name_alone_is_a_class(tmp_path: Path) -> None:
    task = load_task(write_garden(tmp_path))
    assert task.labels == ["rose", "fern", "7"]
    assert task.names == ["rose", "tree fern", "7"]
    assert task.queries["rose"] == ["rose"]
    assert task.queries["fern"] == ["tree fern", "Cyatheales"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GARDEN.replace("classes", "clases"), "line 3: unknown key clases. Did you mean classes"),
        (
            GARDEN.replace("- 7", "- rose"),
            r"the file: .*share the label 'rose'; give one another label$",
        ),
        (GARDEN.replace("format: 1", "format: 2"), "line 1: format"),
        (GARDEN + "prompts: {filter: [a photo]}\n", r"has no \{\} for the class"),
        ("format: 1\nname: [", "line 2"),
        ("- just\n- a list\n", "not a mapping"),
        ("format: 1\nname: x\nclasses: []\n", "line 3: classes: it may not be empty"),
        ("format: 1\nname: x\nclasses: ['']\n", "line 3: classes.0.label: it may not be empty"),
    ],
)
def test_mistakes_are_shown_by_their_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(TaskError, match=words) as caught:
        load_task(write_garden(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_an_unknown_task_lists_the_known_ones() -> None:
    with pytest.raises(TaskError, match=r"one of .*" + builtin_tasks()[0]):
        load_task("gardn")


PROMPTS = """\
prompts: {evaluation: ["a {}, seen from above"], synthesis: ["{a} {} in the rain"]}
"""

QUERIES = """\
format: 1
name: pond
classes:
- label: lotus
  caption_query: '"lotus" AND "flower"'
- label: frog
  queries: [tree frog]
  caption_query:
  - '"frog" NOT "hop"'
  - {last}
"""


def test_a_caption_query_is_read_with_the_task(tmp_path: Path) -> None:
    task = load_task(write_garden(tmp_path, QUERIES.format(last="frog pond")))
    assert task.queries["lotus"] == [parse_query('"lotus" AND "flower"')]
    assert list(map(str, task.queries["frog"])) == ["tree frog", '"frog" NOT "hop"', "frog pond"]
    assert pickle.loads(pickle.dumps(task)) == task
    assert hash(task) == hash(load_task(tmp_path / "garden.yaml"))
    found = match_captions(["a lotus", "lotus flower", "a frog"], task.queries)
    assert found["label"].to_list() == ["lotus", "frog"]


@pytest.mark.parametrize(
    ("last", "says"),
    [
        ("frog AND", "line 10: .* cannot be read at character 9: expected a phrase"),
        ("'\"frog'", "line 10: .* cannot be read at character 6: expected the closing quote"),
        ("''", "line 10: .* cannot be read at character 1"),
    ],
)
def test_a_caption_query_that_cannot_be_read_has_its_line(
    tmp_path: Path, last: str, says: str
) -> None:
    with pytest.raises(TaskError, match=says):
        load_task(write_garden(tmp_path, QUERIES.format(last=last)))


def test_a_class_without_any_query_is_said(tmp_path: Path) -> None:
    text = "format: 1\nname: pond\nclasses:\n- {label: frog, queries: []}\n"
    with pytest.raises(TaskError, match=r"line 4: .*nothing to search captions for"):
        load_task(write_garden(tmp_path, text))


@pytest.mark.parametrize("text", [GARDEN, QUERIES.format(last="frog pond"), GARDEN + PROMPTS])
def test_a_task_written_out_is_the_same_task(tmp_path: Path, text: str) -> None:
    task = load_task(write_garden(tmp_path, text))
    (tmp_path / "other").mkdir()
    (tmp_path / "other/task.yaml").write_text(task.to_yaml(tmp_path / "other"), encoding="utf-8")
    again = load_task(tmp_path / "other/task.yaml")
    assert again.digest == task.digest
    assert {k: p.resolve() for k, p in again.images.items()} == {
        k: p.resolve() for k, p in task.images.items()
    }


@given(st.text(min_size=1), st.text(min_size=1), st.text(min_size=1))
@example("rose", "r\u00f6se", "\x85\u2028")
def test_any_text_survives_a_task_file(label: str, name: str, query: str) -> None:
    told = {"label": label, "name": name, "queries": [query]}
    task = Task.model_validate({"format": 1, "name": "x", "classes": [told, "rose" + label]})
    again = Task.model_validate(yaml.safe_load(task.to_yaml(Path())))
    assert again.digest == task.digest
