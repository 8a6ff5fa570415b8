from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from headwater.errors import RecipeError, SetError
from headwater.findings import wanted_pairs
from headwater.recipe import Recipe, refuse_other_study
from headwater.recipe.file import builtin_folder, load_recipe, move
from headwater.steps.curation.settings import USUAL_RULES

SMALL = """\
format: 1
name: small
task: task.yaml
learner: {model: learner}
pool: {path: pool}
generator: generator
sources:
  real: {retrieve: {by: captions}}
  made: {synthesize: {n: 10}}
  shaken: {perturb: {source: real, gamma: 0.5}}
arms:
  real: {source: real}
  made: {source: made}
  both: {mix: {real: 3, made: 1}}
scales: [10, 20]
primary: {arm: real, against: made}
"""


def write(folder: Path, text: str = SMALL) -> Path:
    folder.mkdir(exist_ok=True)
    for name in ("task.yaml", "learner", "pool", "generator"):
        (folder / name).touch()
    (folder / "small.yaml").write_text(text)
    return folder / "small.yaml"


def test_a_recipe_is_read_with_its_defaults(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path / "a"))
    assert recipe.seeds == (0, 1, 2)
    assert recipe.arms["both"].shares == {"real": 0.75, "made": 0.25}
    assert recipe.pool is not None
    assert recipe.pool.path == str(tmp_path / "a" / "pool")


def test_a_source_may_be_curated_in_its_own_way(tmp_path: Path) -> None:
    text = SMALL.replace("{n: 10}}", "{n: 10}, curate: {rules: []}}") + "curate: {size: 64}\n"
    recipe = load_recipe(write(tmp_path / "a", text))
    (tmp_path / "again.yaml").write_text(recipe.dump())
    for told in (recipe, load_recipe(tmp_path / "again.yaml")):
        real, made = told.curation("real"), told.curation("made")
        assert (real.rules, made.rules) == (USUAL_RULES, ())
        assert (real.size, made.size) == (64, 64)


def test_files_of_a_curation_are_seen_from_the_study(tmp_path: Path) -> None:
    own = SMALL.replace("{n: 10}}", "{n: 10}, curate: {reject: bad.csv}}")
    curation = "{heads: {safety: nsfw.pth}, rules: [{score: mine.py:warmth, cap: 9}]}"
    path = write(tmp_path / "a", own + f"curate: {curation}\n")
    for name in ("nsfw.pth", "bad.csv", "mine.py"):
        (path.parent / name).touch()
    recipe = load_recipe(path)
    assert recipe.curation("made").reject == str(path.parent / "bad.csv")
    seen = move(recipe, Path(), relative_to=tmp_path / "study").curation("made")
    assert (seen.heads["safety"], seen.reject) == ("../a/nsfw.pth", "../a/bad.csv")
    assert seen.model_dump()["rules"][0]["score"] == "../a/mine.py:warmth"
    assert seen.arguments == recipe.curate.arguments  # what is done does not depend on places


def test_a_study_stays_with_the_descriptor_it_was_begun_with(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path / "a"))
    begun = recipe.settle_descriptor(None)
    assert begun.curate.descriptor == "builtin"  # no weights, and no network in tests
    other = load_recipe(tmp_path / "a" / "small.yaml", changes=("curate.descriptor=sscd",))
    assert recipe.settle_descriptor(other).curation("made").descriptor == "sscd"


def test_a_source_stays_with_a_descriptor_of_its_own_too(tmp_path: Path) -> None:
    changes = ("curate.descriptor=isc", "sources.made.curate.descriptor=auto")
    recipe = load_recipe(write(tmp_path / "a"), changes=changes)
    begun = recipe.settle_descriptor(None)
    assert begun.curate.descriptor == "isc"
    assert begun.curation("made").descriptor == "builtin"  # what can be had here
    other = (changes[0], "sources.made.curate.descriptor=sscd")
    before = load_recipe(tmp_path / "a" / "small.yaml", changes=other)
    assert recipe.settle_descriptor(before).curation("made").descriptor == "sscd"


HYBRID = SMALL.replace(
    "scales:",
    "  hybrid: {top_up: {source: real, fill: made, target: 5}, objective: contrastive}\nscales:",
)


def test_an_arm_that_is_topped_up_never_stands_alone(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path / "a", HYBRID))
    ways = {name: source.top_up.how for name, source in recipe.sources.items() if source.top_up}
    assert ways == {"hybrid": "top_up", "hybrid-spread": "spread", "hybrid-repeat": "repeat"}
    assert all(recipe.arms[name].source == name for name in ways)
    assert {recipe.arms[name].objective for name in ways} == {"contrastive"}
    assert recipe.source_order.index("hybrid") > recipe.source_order.index("made")
    (tmp_path / "again.yaml").write_text(recipe.dump())
    assert load_recipe(tmp_path / "again.yaml").dump() == recipe.dump()


@pytest.mark.parametrize("place", ["  hybrid: ", "  real: "])
def test_no_other_arm_takes_the_place_of_a_control(tmp_path: Path, place: str) -> None:
    head, arms = HYBRID.split("\narms:")
    mine = arms.replace(place, f"  hybrid-spread: {{source: real}}\n{place}", 1)
    with pytest.raises(RecipeError, match=r"needs the name hybrid-spread for its control"):
        load_recipe(write(tmp_path / "a", f"{head}\narms:{mine}"))


def test_an_arm_that_is_topped_up_is_compared_with_its_controls(tmp_path: Path) -> None:
    pairs = wanted_pairs(load_recipe(write(tmp_path / "a", HYBRID)))
    for other in ("hybrid-spread", "hybrid-repeat", "real", "off-the-shelf"):
        assert ("hybrid", other) in pairs
    assert ("hybrid-spread", "hybrid-repeat") not in pairs


def test_sources_come_after_those_they_are_made_from(tmp_path: Path) -> None:
    told = "  new: {subset: {source: made, novelty: [new]}}\narms:"
    recipe = load_recipe(write(tmp_path / "a", SMALL.replace("arms:", told)))
    order = recipe.source_order
    assert order.index("made") < order.index("new")
    assert order.index("real") < order.index("shaken")
    assert not recipe.sources["new"].is_curated


@pytest.mark.parametrize(("by", "moved"), [("model", True), ("endpoint", False)])
def test_a_writer_on_this_machine_is_a_path_and_a_served_one_a_name(
    tmp_path: Path, by: str, moved: bool
) -> None:
    url = ", url: http://localhost/v1" if by == "endpoint" else ""
    told = f"{{n: 10, captions: {{by: {by}, model: writer{url}}}}}"
    file = write(tmp_path / "a", SMALL.replace("{n: 10}", told))
    (file.parent / "writer").mkdir()
    made = load_recipe(file).sources["made"].synthesize
    assert made is not None
    assert made.captions.model == (str(file.parent / "writer") if moved else "writer")


def test_changes_replace_what_the_file_says(tmp_path: Path) -> None:
    changes = ("adapt.epochs=3", "seeds=[4, 5]", "sources.made.synthesize.steps=7", "scales.1=30")
    recipe = load_recipe(write(tmp_path / "a"), changes=changes)
    assert recipe.scales == (10, 30)
    assert (recipe.adapt.epochs, recipe.seeds) == (3, (4, 5))
    assert recipe.sources["made"].synthesize is not None
    assert recipe.sources["made"].synthesize.steps == 7


def test_what_is_written_down_reads_back_the_same_from_the_study(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path / "a"))
    study = tmp_path / "b" / "study"
    study.mkdir(parents=True)
    text = move(recipe, Path(), relative_to=study).dump()
    assert str(tmp_path) not in text
    (study / "recipe.yaml").write_text(text)
    again = load_recipe(study / "recipe.yaml")
    assert Path(again.task).resolve() == (tmp_path / "a" / "task.yaml").resolve()
    assert again.model_dump(exclude={"task", "pool", "learner", "generator"}) == recipe.model_dump(
        exclude={"task", "pool", "learner", "generator"}
    )


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("scales:", "scale:", "line 15: unknown key scale. Did you mean scales"),
        ("gamma: 0.5", "gamma: 1.5", "line 10: sources.shaken.perturb.gamma: .* saw 1.5"),
        ("gamma: 0.5", "gama: 0.5", "line 10: unknown key sources.shaken.perturb.gama"),
        ("source: real, gamma", "source: reel, gamma", "unknown source 'reel'; known: real"),
        ("against: made", "against: maid", "unknown arm 'maid'"),
        ("{by: captions}", "{by: magic}", "line 8: sources.real.retrieve.by"),
        (
            "{source: made}",
            "{source: made, mix: {real: 1}}",
            "line 13: .*one of source, mix, choose",
        ),
        ("real: {source: real}", "off-the-shelf: {source: real}", "is always there"),
        ("pool: {path: pool}\n", "", "source real needs a pool"),
        ("generator: generator\n", "", "needs a generator"),
        ("  both:", "  ../both:", "may hold only letters"),
        ("scales: [10, 20]", "scales: []", "line 15: scales"),
        ("format: 1", "format: 9", "line 1: format"),
        ("scales: [10, 20]", "scales: [10, 10]", "line 15: scales: a value stands there twice"),
        ("scales: [10, 20]", "scales: [0]", "line 15: scales.0"),
        ("scales: [10, 20]", "scales: [9]\nlr: [-1]", "line 16: lr.0"),
        ("scales: [10, 20]", "scales: [9]\nseeds: [-1]", "line 16: seeds.0"),
        ("scales: [10, 20]", "scales: [9]\nseed: -1", "line 16: seed"),
        ("against: made", "against: real", "of an arm with itself"),
        ("real: 3, made: 1", "real: .nan, made: 1", "shares must be numbers above 0"),
        ("source: real, gamma", "source: shaken, gamma", "source shaken is perturbed itself"),
        (
            "{n: 10}}",
            "{n: 10}, curate: {sze: 64}}",
            "line 9: unknown key sources.made.curate.sze. Did you mean size",
        ),
        (
            "{n: 10}}",
            "{n: 10}, curate: {rules: [{copies: [test]}, {score: clip_score, frction: 0.9}]}}",
            "line 9: unknown key sources.made.curate.rules.1.frction. Did you mean fraction",
        ),
        (
            "{n: 10}}",
            "{n: 10}, curate: {rules: [{scor: clip_score}]}}",
            "line 9: sources.made.curate.rules.0: a rule says one of score, copies, duplicates",
        ),
        ("{n: 10}}", "{n: 10}, curate: {rules: paper}}", "curate.rules: .*'reference'"),
        ("{n: 10}}", "{n: 10}, curate: {heads: {taste: a.pth}}}", "taste is no head"),
        ("scales: [10, 20]", "scales: [9]\ncurate: {reject: x.csv}", "belongs to one source"),
        ("{n: 10}}", "{n: 10, per_class: 3}}", "say one of n and per_class"),
        ("{n: 10}}", "{n: 10, captions: {by: model}}}", "captions by model need model"),
        ("{n: 10}}", "{n: 10, captions: {url: a}}}", "url says nothing to captions by grammar"),
        (
            "{n: 10}}",
            "{n: 10, captions: {by: alt_text, source: made}}}",
            "sources made from each other: made from made",
        ),
        ("{n: 10}}", "{n: 10, captions: {by: alt_text, source: x}}}", "unknown source 'x'"),
        ("{by: captions}", "{by: random}, subset: {source: made, novelty: [new]}", "say one of"),
        ("both: {mix: {real: 3, made: 1}}", "both: {top_up: {source: real}}", "fill: Field req"),
        (
            "both: {mix: {real: 3, made: 1}}",
            "shaken: {top_up: {source: real, fill: made, target: 3}}",
            "arm shaken needs the name shaken for a source of its own",
        ),
    ],
)
def test_mistakes_are_shown_by_their_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in SMALL
    with pytest.raises(RecipeError, match=words) as caught:
        load_recipe(write(tmp_path / "a", SMALL.replace(old, new, 1)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "grows"),
    [
        (("seeds=[0, 1, 2, 3]", "scales=[10, 20, 40]", "lr=[1e-5, 1e-4]"), True),
        (("arms.more={source: made}",), True),
        (("primary.arm=both",), False),
        (("margin=0.2",), False),
        (("sources.made.synthesize.n=11",), False),
        (("adapt.epochs=3",), False),
    ],
)
def test_a_study_grows_but_does_not_change(
    tmp_path: Path, changes: tuple[str, ...], grows: bool
) -> None:
    path = write(tmp_path / "a")
    before, now = load_recipe(path), load_recipe(path, changes=changes)
    if grows:
        refuse_other_study(before, now, tmp_path)
        return
    with pytest.raises(SetError, match=changes[0].split("=")[0].split(".")[-1]):
        refuse_other_study(before, now, tmp_path)


@pytest.mark.parametrize(
    "change", ["", "seeds", "=1", "name.deeper=1", "seeds=[1", "scales.7=1", "scales.x=1"]
)
def test_a_broken_change_is_refused(tmp_path: Path, change: str) -> None:
    with pytest.raises(RecipeError):
        load_recipe(write(tmp_path / "a"), changes=(change,))


def test_an_unknown_recipe_lists_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"one of .*miniature"):
        load_recipe("miniatur")


@pytest.mark.parametrize("path", sorted(builtin_folder().glob("*.yaml")), ids=lambda p: p.stem)
def test_recipes_that_come_along_are_sound_and_tell_their_story(path: Path) -> None:
    recipe = Recipe.model_validate(yaml.safe_load(path.read_text()))
    assert recipe.name == path.stem
    head = path.read_text().split("format:")[0]
    for word in ("command", "hardware", "time", "expect"):
        assert f"# {word}" in head
