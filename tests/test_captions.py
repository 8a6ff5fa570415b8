"""Prompts from class names: the grammar, the counts, and what a caption depends on."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import InputError, TaskError
from headwater.synthesize.captions import repeated_captions, write_captions
from headwater.synthesize.captions.backgrounds import GENERAL
from headwater.synthesize.captions.grammar import CLOSE_MANNERS, MANNERS, OBJECTS, Grammar
from headwater.synthesize.captions.plan import ALL_KINDS, RELATIONS, Deck, plan_captions
from headwater.synthesize.captions.wording import LONGEST, says, shorten, tidy

GARDEN = {"rose": "rose", "iris": "iris", "oak (2)": "oak"}
DIGITS = {str(n): word for n, word in enumerate(["zero", "one", "two"])}


def test_a_caption_table_carries_index_label_caption_kind() -> None:
    captions = write_captions(GARDEN, 50, seed=0)
    assert captions.schema == {
        "index": pl.Int64,
        "label": pl.String,
        "caption": pl.String,
        "kind": pl.String,
    }
    assert captions["index"].to_list() == list(range(50))
    for row in captions.iter_rows(named=True):
        assert GARDEN[row["label"]] in row["caption"]


def test_each_kind_says_what_it_is_called_after() -> None:
    captions = write_captions(GARDEN, 300, seed=1)
    by_kind = {kind: part["caption"].to_list() for (kind,), part in captions.group_by("kind")}
    assert by_kind.keys() == {"class", "background", "relation"}
    assert all(caption.endswith(GENERAL) for caption in by_kind["background"])
    endings = tuple(f" {relation} {thing}" for relation in RELATIONS for thing in OBJECTS)
    assert all(caption.endswith(endings) for caption in by_kind["relation"])
    assert not any(caption.endswith(GENERAL + endings) for caption in by_kind["class"])


def test_kinds_are_mixed_and_classes_drawn_as_asked() -> None:
    captions = write_captions(GARDEN, 6000, seed=2)
    share = dict(captions["kind"].value_counts(normalize=True).iter_rows())
    # three standard deviations of a share among 6,000 draws are at most 0.02
    assert share["class"] == pytest.approx(0.44, abs=0.02)
    assert share["background"] == pytest.approx(0.45, abs=0.02)
    assert share["relation"] == pytest.approx(0.11, abs=0.02)
    counts = captions["label"].value_counts()["count"]
    assert counts.min() > 1850 and counts.max() < 2150


@given(
    few=st.integers(0, 40),
    more=st.integers(0, 40),
    seed=st.integers(0, 2**40),
    per_class=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_fewer_captions_are_the_first_of_more(
    few: int, more: int, seed: int, per_class: bool
) -> None:
    few, more = sorted((few, more))
    asked = "per_class" if per_class else "n"
    first = write_captions(DIGITS, seed=seed, **{asked: few})
    longer = write_captions(DIGITS, seed=seed, **{asked: more})
    assert longer.head(first.height).equals(first)
    assert first.height == (few * len(DIGITS) if per_class else few)


def test_kinds_are_the_same_in_whatever_order_they_stand() -> None:
    kinds = {"relation": 1.0, "background": 2.0, "class": 3.0}
    turned = dict(reversed(kinds.items()))
    captions = [write_captions(GARDEN, 40, seed=0, kinds=told) for told in (kinds, turned)]
    assert captions[0].equals(captions[1])


def test_per_class_counts_are_exact() -> None:
    captions = write_captions(GARDEN, per_class=7, seed=3)
    assert dict(captions["label"].value_counts().iter_rows()) == dict.fromkeys(GARDEN, 7)


def test_another_seed_writes_other_captions() -> None:
    assert not write_captions(GARDEN, 20, seed=0).equals(write_captions(GARDEN, 20, seed=1))


def test_a_rich_grammar_never_repeats_itself() -> None:
    captions = write_captions(GARDEN, 600, seed=4)
    assert repeated_captions(captions) == 0


def test_a_poor_grammar_repeats_evenly_and_counts_it() -> None:
    captions = write_captions(
        DIGITS, per_class=9, seed=0, kinds={"class": 1}, templates=["the digit {}", "{}", "{}"]
    )
    assert repeated_captions(captions) == 27 - 6
    counts = captions.group_by("caption").len()["len"].to_list()
    assert sorted(counts) == [4, 4, 4, 5, 5, 5]


def test_two_labels_of_one_name_do_not_repeat_each_other() -> None:
    twins = {"missile (657)": "missile", "missile (744)": "missile"}
    captions = write_captions(twins, per_class=1, seed=0, kinds={"class": 1}, templates=["a {}"])
    assert captions["caption"].to_list() == ["a missile"] * 2
    assert repeated_captions(captions) == 0


def test_own_templates_are_all_a_class_caption_says() -> None:
    captions = write_captions(
        DIGITS, 20, seed=0, kinds={"class": 1}, templates=["a photo of the digit {}"]
    )
    assert set(captions["caption"]) <= {f"a photo of the digit {word}" for word in DIGITS.values()}


def test_own_backgrounds_follow_the_class_and_may_differ_by_class() -> None:
    captions = write_captions(
        {"p": "plane", "f": "fish"},
        20,
        seed=0,
        kinds={"background": 1},
        templates=["a photo of {a} {}."],
        backgrounds={"p": ["in the air"], "f": ["in the sea"]},
    )
    said = set(captions.select("label", "caption").iter_rows())
    assert said == {("p", "a photo of a plane in the air"), ("f", "a photo of a fish in the sea")}


def test_names_are_text_and_nothing_else() -> None:
    name = "wild\x1b[31m\n{a} rose"
    captions = write_captions({"r": name}, 1, seed=0, kinds={"class": 1}, templates=["one {}"])
    assert captions["caption"].item() == "one wild[31m {a} rose"


def test_a_texture_is_said_to_be_one() -> None:
    captions = write_captions({"d": "dotted"}, 40, seed=0, kinds={"texture": 1})["caption"]
    nouns = ("dotted texture", "dotted pattern", "dotted surface", "dotted thing", "dotted object")
    assert all(any(noun in caption for noun in nouns) for caption in captions)
    assert all(caption.endswith(CLOSE_MANNERS) for caption in captions)


def test_classes_that_are_textures_are_textures_in_every_kind() -> None:
    captions = write_captions({"d": "dotted"}, 60, seed=0, textures=True)
    assert not captions["caption"].str.contains("dotted (seen|in|on|at|lit|from|taken|with)").any()


def test_an_attribute_stands_where_it_reads_well() -> None:
    said = {
        attribute: write_captions(
            {"r": "rose"}, 20, seed=0, kinds={"attribute": 1}, attributes=[attribute]
        )["caption"]
        for attribute in ("old", "dark red", "covered in snow", "wearing a hat")
    }
    assert all("an old rose " in caption or "one old rose " in caption for caption in said["old"])
    assert all("dark red rose " in caption for caption in said["dark red"])
    assert all("rose covered in snow " in caption for caption in said["covered in snow"])
    assert all("rose wearing a hat " in caption for caption in said["wearing a hat"])


def test_attributes_are_spoken_of_evenly() -> None:
    captions = write_captions(
        GARDEN, per_class=8, seed=0, kinds={"attribute": 1}, attributes=["red", "with dew"]
    )
    for label in GARDEN:
        of_it = captions.filter(label=label)["caption"]
        assert of_it.str.contains("with dew").sum() == of_it.str.contains("red").sum() == 4


def test_a_class_is_not_next_to_itself() -> None:
    captions = write_captions({"d": "dog"}, 200, seed=0, kinds={"relation": 1})["caption"]
    assert not captions.str.contains("dog .*dog").any()


@given(seed=st.integers(0, 2**40), kind=st.sampled_from(ALL_KINDS))
@settings(max_examples=20, deadline=None)
def test_a_class_says_everything_before_it_repeats_itself(seed: int, kind: str) -> None:
    """Two subjects, two settings or none, and what else a kind has."""
    ask = plan_captions(
        {"a": "iris"}, 1, seed=seed, kinds={kind: 1}, backgrounds=["in a vase"], attributes=["red"]
        if kind == "attribute" else [],
    )[0]  # fmt: skip
    grammar = Grammar(templates=["one {}", "some {}"])
    asks = [ask._replace(turn=turn) for turn in range(600)]
    said = grammar.write(asks, seed=seed)
    first_repeat = next(i for i, caption in enumerate(said) if caption in said[:i])
    assert first_repeat == len(set(said))


def test_the_grammar_answers_each_ask_by_itself() -> None:
    asks = plan_captions(GARDEN, 40, seed=5)
    together = Grammar().write(asks, seed=5)
    assert [Grammar().write([ask], seed=5)[0] for ask in asks] == together
    assert Grammar().write(asks[::-1], seed=5) == together[::-1]


def test_the_grammar_has_something_else_to_say() -> None:
    [ask] = plan_captions(GARDEN, 1, seed=0)
    said = Grammar().write([ask._replace(attempt=attempt) for attempt in range(4)], seed=0)
    assert len(set(said)) == 4


def test_the_digest_of_the_grammar_tells_its_words() -> None:
    assert Grammar().digest == Grammar().digest
    assert len({Grammar(templates=["a {}"]).digest, Grammar().digest,
                Grammar(textures=True).digest}) == 3  # fmt: skip


def test_no_manner_is_a_background() -> None:
    assert not set(MANNERS) & set(GENERAL)


@pytest.mark.parametrize(
    ("caption", "name", "whether"),
    [
        ("A red ROSE", "rose", True),
        ("two roses", "rose", False),
        ("a primrose", "rose", False),
        ("an F-16A/B in flight", "F-16A/B", True),
        ("an f 16a_b", "F-16A/B", True),
        ("a fern that is a tree", "tree fern", False),
        ("the tree fern", "tree_fern", True),
        ("Cafe\u0301 au lait", "café", True),
        ("nothing but +", "+", True),
        ("nothing", "+", False),
        ("", "rose", False),
    ],
)
def test_a_caption_says_a_name_word_by_word(caption: str, name: str, whether: bool) -> None:
    assert says(caption, name) is whether


def test_a_caption_is_one_line_of_a_sane_length() -> None:
    assert tidy(" \n\ta\x1b[0m rose\r\nmore") == "a[0m rose"
    assert tidy("\n \x00") == ""
    long = shorten("a photo of a rose, " * 100)
    assert LONGEST - 10 < len(long) <= LONGEST
    assert long.split()[-1].strip(",") in {"a", "photo", "of", "rose"} and long[-1] != ","
    assert shorten("x" * 5000) == "x" * LONGEST


@given(size=st.integers(1, 30), turns=st.integers(1, 3), seed=st.integers())
@settings(max_examples=50, deadline=None)
def test_a_deck_deals_every_number_once_a_turn(size: int, turns: int, seed: int) -> None:
    deck = Deck(size, seed)
    for _ in range(turns):
        assert sorted(deck.deal()[1] for _ in range(size)) == list(range(size))


def test_a_deck_deals_like_a_plain_shuffle() -> None:
    from headwater.store import stable_seed

    cards = list(range(12))
    for place in range(12):
        chosen = place + stable_seed("key", 0, place) % (12 - place)
        cards[place], cards[chosen] = cards[chosen], cards[place]
    deck = Deck(12, "key")
    assert [deck.deal()[1] for _ in range(12)] == cards


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"n": None}, "in all or per class"),
        ({"per_class": 2}, "in all or per class"),
        ({"n": -1}, "negative number"),
        ({"kinds": {"mood": 1}}, "saw mood"),
        ({"kinds": {}}, "need weights"),
        ({"kinds": {"class": -1}}, "need weights"),
        ({"kinds": {"class": float("nan")}}, "need weights"),
        ({"kinds": {"attribute": 1}}, "nothing to speak of"),
        ({"attributes": ["red"]}, "no caption speaks of"),
        ({"kinds": {"attribute": 1}, "attributes": "red"}, "a list like"),
        ({"kinds": {"attribute": 1}, "attributes": [" "]}, "a list like"),
        ({"templates": ["a photo"]}, "without its class"),
        ({"templates": []}, "a list of them"),
        ({"templates": "a {}"}, "a list of them"),
        ({"backgrounds": []}, "no backgrounds"),
        ({"backgrounds": {"rose": ["in a vase"]}}, "class 'iris' has no backgrounds"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        write_captions(GARDEN, **{"n": 3, "seed": 0} | wrong)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("classes", [{}, {"a": " \n"}])
def test_classes_without_names_are_refused(classes: dict[str, str]) -> None:
    with pytest.raises(TaskError):
        write_captions(classes, 3, seed=0)
