"""Backgrounds: the lists of domains, and those written into a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from headwater.errors import InputError, RunError
from headwater.steps.synthesis import backgrounds as backgrounds_step
from headwater.steps.synthesis.backgrounds import write_backgrounds
from headwater.steps.synthesis.settings import Writing
from headwater.store import stable_seed
from headwater.synthesize.captions.backgrounds import (
    DOMAINS,
    FLOWERS,
    MOST_WORDS,
    domain_backgrounds,
    is_background,
)
from headwater.synthesize.captions.grammar import CLOSE_MANNERS, MANNERS
from headwater.synthesize.captions.writer import Ask
from headwater.task import Task, load_task

POND = Task.model_validate(
    {
        "format": 1,
        "name": "pond",
        "classes": ["iris", {"label": "lotus", "backgrounds": ["on a pond"]}],
    }
)


class Guide:
    """Names places, as a function of what it is asked."""

    name = digest = "guide"

    def __init__(self, answer: Callable[[Ask], str]) -> None:
        self.answer = answer

    def write(self, asks: Sequence[Ask], *, seed: int) -> list[str]:
        return [self.answer(ask) for ask in asks]


def ask_guide(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[Ask], str], *, count: int = 5
) -> Task:
    monkeypatch.setattr(backgrounds_step, "writer_of", lambda how: Guide(answer))
    return write_backgrounds(POND, how=Writing(by="model", model="some"), count=count)


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_domain_has_backgrounds_enough(domain: str) -> None:
    phrases = domain_backgrounds(domain)
    assert len(phrases) >= 30
    assert len({phrase.casefold() for phrase in phrases}) == len(phrases)
    assert not set(phrases) & {*MANNERS, *CLOSE_MANNERS}
    assert all(phrase == phrase.strip() and len(phrase.split()) <= MOST_WORDS for phrase in phrases)


def test_an_aircraft_is_in_no_kitchen() -> None:
    rooms = ("kitchen", "living room", "bedroom", "table", "shelf", "plate")
    for domain in ("aircraft", "vehicles", "buildings", "fish"):
        assert not any(room in phrase for phrase in DOMAINS[domain] for room in rooms)


def test_an_unknown_domain_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"general.*saw plane. Did you mean plants"):
        domain_backgrounds("plane")
    assert domain_backgrounds(None) == DOMAINS["general"]


@pytest.mark.parametrize(
    ("text", "whether"),
    [
        ("in a vase", True),
        ("Beside a pond, at dawn", True),
        ("vase", False),
        ("a glass vase", False),
        ("in", False),
        ("", False),
        ("next to another Iris", False),
        ("in " + "a very " * 12 + "large vase", False),
    ],
)
def test_a_background_is_a_few_words_that_begin_a_place(text: str, whether: bool) -> None:
    assert is_background(text, "iris") is whether


def test_a_domain_gives_a_class_without_backgrounds_some() -> None:
    told = write_backgrounds(POND, how=Writing(domain="flowers"), count=6, seed=1)
    iris, lotus = told.classes
    assert len(set(iris.backgrounds)) == 6 and set(iris.backgrounds) <= set(FLOWERS)
    assert lotus.backgrounds == ("on a pond",)
    assert told == write_backgrounds(POND, how=Writing(domain="flowers"), count=6, seed=1)
    other = write_backgrounds(POND, how=Writing(domain="flowers"), count=6, seed=2)
    assert other.classes[0] != iris
    more = write_backgrounds(POND, how=Writing(domain="flowers"), count=9, seed=1)
    assert more.classes[0].backgrounds[:6] == iris.backgrounds


def test_the_domain_of_the_task_is_the_default() -> None:
    task = POND.model_copy(update={"domain": "aircraft"})
    told = write_backgrounds(task, how=Writing(), count=30)
    assert set(told.classes[0].backgrounds) == set(DOMAINS["aircraft"])


def test_backgrounds_stay_in_the_task_file_and_out_of_its_digest(tmp_path: Path) -> None:
    told = write_backgrounds(POND, how=Writing(domain="flowers"), count=3)
    told = told.model_copy(update={"domain": "flowers"})
    (tmp_path / "pond.yaml").write_text(told.to_yaml(tmp_path))
    again = load_task(tmp_path / "pond.yaml")
    assert again == told
    assert again.digest == POND.digest
    bare = Task.model_validate({"format": 1, "name": "pond", "classes": ["iris", "lotus"]})
    assert bare.digest == POND.digest
    assert "backgrounds" not in bare.to_yaml(tmp_path) and "domain" not in bare.to_yaml(tmp_path)


def test_a_writer_names_different_places(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(ask: Ask) -> str:
        assert (ask.kind, ask.setting, ask.label) == ("place", "", "iris")
        place = stable_seed(ask.turn, ask.attempt) % 8
        return ["A vase", "in an iris bed", *(f"In pot {n}" for n in range(6))][place]

    told = ask_guide(monkeypatch, answer)
    places = told.classes[0].backgrounds
    assert len(set(places)) == 5
    assert all(place.startswith("in pot ") for place in places)
    assert told.classes[1].backgrounds == ("on a pond",)


def test_a_writer_that_repeats_itself_gives_fewer_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ask_guide(monkeypatch, lambda ask: "In a vase" if ask.turn % 2 else "in a vase")
    assert told.classes[0].backgrounds == ("in a vase",)
    assert "backgrounds: 1 of class iris, not 5" in capsys.readouterr().err


def test_a_writer_that_names_no_place_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match=r"class iris.*a short place.*saw 'an iris'"):
        ask_guide(monkeypatch, lambda ask: "an iris")


@pytest.mark.parametrize(
    ("how", "count", "says"),
    [
        (Writing(by="file", path="a.csv"), 5, "grammar, model, endpoint, saw file"),
        (Writing(), 0, "1 or more"),
        (Writing(domain="flowers"), 500, "the domain flowers has 32"),
        (Writing(domain="flwers"), 5, "Did you mean flowers"),
    ],
)
def test_what_cannot_be_written_is_refused(how: Writing, count: int, says: str) -> None:
    with pytest.raises(InputError, match=says):
        write_backgrounds(POND, how=how, count=count)
