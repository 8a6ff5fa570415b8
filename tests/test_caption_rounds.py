"""Answers of writers: checked, asked for again, and the same however they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import RunError
from headwater.store import stable_seed
from headwater.synthesize.captions.plan import plan_captions
from headwater.synthesize.captions.rounds import (
    ATTEMPTS,
    SETTLED,
    count_refusals,
    settle_captions,
)
from headwater.synthesize.captions.wording import says, tidy
from headwater.synthesize.captions.writer import Ask

GARDEN = {"rose": "rose", "fern": "tree fern"}


class Parrot:
    """Says what a function makes of an ask, and notes what it was asked."""

    name = digest = "parrot"

    def __init__(self, answer: Callable[[Ask], str]) -> None:
        self.answer = answer
        self.heard: list[list[Ask]] = []

    def write(self, asks: Sequence[Ask], *, seed: int) -> list[str]:
        self.heard.append(list(asks))
        return [self.answer(ask) for ask in asks]


def moody(ask: Ask) -> str:
    """Few different captions; some empty, some without the class, some of many lines."""
    mood = stable_seed(*ask) % 10
    if mood < 2:
        return ["", "something else"][mood]
    return f"\n{ask.name} number {mood}\nand more" if mood < 7 else f"a {ask.name}, {ask.index}"


def asks(n: int, seed: int = 0) -> list[Ask]:
    return plan_captions(GARDEN, n, seed=seed)


def settle(n: int, answer: Callable[[Ask], str], **how: object) -> pl.DataFrame:
    return pl.concat(settle_captions(asks(n), Parrot(answer), seed=0, **how))  # type: ignore[arg-type]


def one_by_one(wanted: list[Ask], answer: Callable[[Ask], str]) -> list[str]:
    """The same by hand: each caption after the other."""
    said: dict[str, set[str]] = {label: set() for label in GARDEN}
    captions = []
    for ask in wanted:
        answers = [tidy(answer(ask._replace(attempt=a))) for a in range(ATTEMPTS)]
        usable = [text for text in answers if says(text, ask.name)]
        fresh = [text for text in usable if text not in said[ask.label]]
        captions.append((fresh or usable)[0])
        said[ask.label].add(captions[-1])
    return captions


def test_each_ask_gets_one_caption_of_its_own() -> None:
    table = settle(30, lambda ask: f"{ask.name} {ask.index}")
    assert table.schema == SETTLED
    assert [tuple(row) for row in table.select("index", "label", "kind").iter_rows()] == [
        (ask.index, ask.label, ask.kind) for ask in asks(30)
    ]
    assert table["caption"].to_list() == [f"{ask.name} {ask.index}" for ask in asks(30)]
    assert count_refusals(table) == {"empty": 0, "lost": 0, "unfit": 0, "repeated": 0}


@given(n=st.integers(0, 60), block=st.integers(1, 70), cut=st.integers(0, 60))
@settings(max_examples=40, deadline=None)
def test_captions_do_not_depend_on_blocks_or_kills(n: int, block: int, cut: int) -> None:
    expected = one_by_one(asks(n), moody)
    whole = pl.concat([pl.DataFrame(schema=SETTLED), *settle_captions(
        asks(n), Parrot(moody), seed=0, block=block
    )])  # fmt: skip
    assert whole["caption"].to_list() == expected
    before = whole.head(cut)
    rest = settle_captions(asks(n), Parrot(moody), seed=0, block=7, before=before)
    assert pl.concat([before, *rest]).equals(whole)


def test_what_cannot_be_used_is_counted_and_asked_for_again() -> None:
    answers = {0: "", 1: "a tulip", 2: "rose"}
    parrot = Parrot(
        lambda ask: f"{answers.get(ask.attempt, 'rose')} {'' if ask.attempt < 3 else ask.index}"
    )
    wanted = [ask for ask in asks(20) if ask.label == "rose"][:2]
    table = pl.concat(settle_captions(wanted, parrot, seed=0))
    assert table["caption"].to_list() == ["rose", f"rose {wanted[1].index}"]
    assert count_refusals(table) == {"empty": 2, "lost": 2, "unfit": 0, "repeated": 1}
    assert [[ask.attempt for ask in round] for round in parrot.heard] == [
        [0, 0],
        [1, 1],
        [2, 2],
        [3],
    ]


def test_a_repeat_is_taken_when_nothing_new_comes() -> None:
    table = settle(10, lambda ask: f"the {ask.name}")
    assert table["caption"].n_unique() == 2
    assert count_refusals(table)["repeated"] == 0  # the one taken is the first answer
    assert len(table) == 10


def test_the_same_caption_of_another_label_is_no_repeat() -> None:
    twins = plan_captions({"a": "missile", "b": "missile"}, per_class=1, seed=0)
    parrot = Parrot(lambda ask: "a missile")
    assert [len(t) for t in settle_captions(twins, parrot, seed=0)] == [2]
    assert len(parrot.heard) == 1


def test_a_class_that_is_never_named_ends_the_run_in_one_line() -> None:
    parrot = Parrot(lambda ask: "a\x1b[31m fish" if ask.label == "fern" else f"rose {ask.index}")
    lost = sum(ask.label == "fern" for ask in asks(12))
    with pytest.raises(RunError) as caught:
        list(settle_captions(asks(12), parrot, seed=0))
    line = str(caught.value)
    assert f"{lost} captions of class fern" in line and "name of the class" in line
    assert "fish" in line and "\n" not in line and "\x1b" not in line


def test_blocks_before_a_failure_are_there() -> None:
    wanted = asks(40)
    hopeless = wanted[25].index
    parrot = Parrot(lambda ask: "" if ask.index == hopeless else f"{ask.name} {ask.index}")
    blocks = settle_captions(wanted, parrot, seed=0, block=10)
    assert [len(next(blocks)), len(next(blocks))] == [10, 10]
    with pytest.raises(RunError, match="1 caption of class"):
        next(blocks)


def test_a_writer_may_be_asked_for_other_things() -> None:
    def is_short(line: str, ask: Ask) -> str | None:
        return None if len(line) < 8 else "unfit"

    [table] = settle_captions(
        asks(3), Parrot(lambda ask: "a place" if ask.attempt else "too long a line"), seed=0,
        check=is_short,
    )  # fmt: skip
    assert table["caption"].to_list() == ["a place"] * 3
    assert count_refusals(table)["unfit"] == 3
