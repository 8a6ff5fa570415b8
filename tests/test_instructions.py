"""What a model is told, and what is kept of what it says."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import InputError
from headwater.synthesize.captions import ALL_KINDS
from headwater.synthesize.captions.examples import EXAMPLES
from headwater.synthesize.captions.instructions import TASKS, clean, conversation, drawn, prompt
from headwater.synthesize.captions.plan import RELATIONS
from headwater.synthesize.captions.wording import says
from headwater.synthesize.captions.writer import Ask

IRIS = Ask(4, "iris", "iris", "background", "in a vase", turn=0, attempt=0)
PLACE = IRIS._replace(kind="place", setting="")


def test_every_kind_has_ten_examples_or_more_that_keep_their_word() -> None:
    assert set(EXAMPLES) == set(TASKS) == {*ALL_KINDS, "place"}
    for kind, examples in EXAMPLES.items():
        assert len(examples) >= 10
        assert len(set(examples)) == len(examples)
        for name, setting, caption in examples:
            assert says(caption, name) or kind in ("attribute", "place")
            assert (
                all(says(caption, word) for word in f"{name} {setting}".split()) or kind == "place"
            )
            assert clean(caption, IRIS._replace(name=name, kind=kind)) == caption
    assert {example.setting for example in EXAMPLES["relation"]} == set(RELATIONS)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_three_examples_are_drawn_by_ask_and_seed(kind: str) -> None:
    asks = [IRIS._replace(index=i, kind=kind) for i in range(300)]
    three = [drawn(ask, seed=0) for ask in asks]
    assert all(len(set(examples)) == 3 for examples in three)
    assert {e for examples in three for e in examples} == set(EXAMPLES[kind])
    assert three == [drawn(ask, seed=0) for ask in asks]
    assert three != [drawn(ask, seed=1) for ask in asks]
    assert three != [drawn(ask._replace(attempt=1), seed=0) for ask in asks]


def test_no_class_is_shown_its_own_example() -> None:
    fish = IRIS._replace(name="Fish")
    shown = [e.name for i in range(300) for e in drawn(fish._replace(index=i), seed=0)]
    assert "fish" not in shown
    assert "owl" in shown


def test_a_base_model_reads_the_task_three_lines_and_its_own() -> None:
    task, empty, *lines = prompt(IRIS, seed=0).split("\n")
    assert task == TASKS["background"]
    assert not empty
    assert lines[:3] == [f"{e.name}, {e.setting} => {e.caption}" for e in drawn(IRIS, seed=0)]
    assert lines[3:] == ["iris, in a vase =>"]


def test_a_chat_model_hears_the_same_in_turns() -> None:
    said = conversation(IRIS, seed=0)
    assert [one["role"] for one in said] == ["user", "assistant"] * 3 + ["user"]
    first = drawn(IRIS, seed=0)[0]
    opening = f"{TASKS['background']}\n\n{first.name}, {first.setting}"
    assert [said[0]["content"], said[1]["content"]] == [opening, first.caption]
    assert said[-1]["content"] == "iris, in a vase"


def test_a_place_is_asked_for_by_name_alone() -> None:
    assert prompt(PLACE._replace(setting="in a vase"), seed=0).endswith("\niris =>")
    assert clean(" In a quiet garden. ", PLACE) == "In a quiet garden"


def test_a_name_cannot_begin_a_line_of_its_own() -> None:
    tricky = IRIS._replace(name="iris\nfish => said\x1b[31m")
    assert len(prompt(tricky, seed=0).split("\n")) == 6
    assert "\n" not in conversation(tricky, seed=0)[-1]["content"]


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected class, background, .* saw 'poem'"):
        prompt(IRIS._replace(kind="poem"), seed=0)


CLEANED = {
    "An iris in a vase": "An iris in a vase",
    " An iris in a vase \nrose, at dawn => A rose": "An iris in a vase",
    "\n\n  An iris\tin a vase": "An iris in a vase",
    '"An iris in a vase."': "An iris in a vase.",
    "“An iris in a vase”": "An iris in a vase",
    "'An iris in a vase'": "An iris in a vase",
    '"An iris in a vase': "An iris in a vase",
    '"Iris" and "rose"': '"Iris" and "rose"',
    "The gardener's iris": "The gardener's iris",
    "'Tis an iris": "'Tis an iris",
    "- An iris": "An iris",
    "• An iris": "An iris",
    "1. An iris": "An iris",
    "12) An iris": "An iris",
    "(3) An iris": "An iris",
    "3 irises and an iris": "3 irises and an iris",
    "## An iris": "An iris",
    "> An iris": "An iris",
    "**An iris** in a *vase*": "An iris in a vase",
    "`An iris`": "An iris",
    "```\nAn iris\n```": "An iris",
    "```text\nAn iris\n```": "An iris",
    "Caption: An iris": "An iris",
    '**Caption 1:** "An iris"': "An iris",
    "<b>An iris</b><br/>": "An iris",
    "An iris<|im_end|>": "An iris",
    "[INST] An iris [/INST]": "An iris",
    "<think>\nThe user wants a line.\n</think>\n\nAn iris": "An iris",
    "<think>\nThe user wants a line": "",
    "iris, in a vase => An iris": "An iris",
    "=> An iris": "An iris",
    "An iris. rose, at dawn => A rose": "",
    "An \x1b[31mred\x07 iris\u202e": "An [31mred iris",
    "": "",
    " \n\t ": "",
}


@pytest.mark.parametrize("answer", CLEANED)
def test_an_answer_is_cleaned(answer: str) -> None:
    assert clean(answer, IRIS) == CLEANED[answer]


def test_marks_that_belong_to_a_name_stay() -> None:
    tent = IRIS._replace(name="M*A*S*H tent")
    assert clean("1. **The M*A*S*H tent**", tent) == "The M*A*S*H tent"


@given(st.text() | st.text(alphabet="\"'*-1. =>`<b\n#()“”"))
def test_what_is_kept_is_one_short_line_and_cleaning_it_again_changes_nothing(answer: str) -> None:
    kept = clean(answer, IRIS)
    assert len(kept) <= 400
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs") for c in kept)
    assert kept == kept.strip()
    assert clean(kept, IRIS) == kept


def test_an_answer_without_end_is_cut() -> None:
    assert 0 < len(clean("An iris " * 10**6, IRIS)) <= 400
    assert clean("<" * 10**6, IRIS)
