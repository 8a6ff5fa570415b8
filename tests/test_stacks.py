"""Any stack of rules on one small set: counts add up, rules work in their order, and only on what
is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.tiny_clip import tiny_clip
from tests.tiny_curated import picture, tiny_sets, tiny_task

from headwater.curate.rules import best_first
from headwater.curate.scoring import open_score
from headwater.curate.select import keep_top
from headwater.decode import encode_png
from headwater.descriptors import open_descriptor
from headwater.errors import InputError, SetError
from headwater.pairs import CANDIDATES, read_decisions, read_funnel, read_pairs, total
from headwater.steps.curation.curate import curate
from headwater.steps.curation.rejections import REASON
from headwater.steps.curation.settings import Curation
from headwater.steps.leaks import find_leaks
from headwater.store import read_json, write_table
from headwater.task import Task

CLIP = tiny_clip()
OWN = """
import numpy as np

def none(candidates):
    return np.full(len(candidates), np.nan)

def flat(candidates):
    return np.zeros(len(candidates))

def some(candidates):
    long = np.array([len(caption or "") for caption in candidates.pairs["caption"]], float)
    return np.where(long % 3 == 0, np.nan, long / 10)
"""

SCORES = st.sampled_from(
    ["clip_score", "caption_score", "sharpness", "short_side", "mine.py:none", "mine.py:flat",
     "mine.py:some"]
)  # fmt: skip
CUTS = st.fixed_dictionaries(
    {},
    optional={
        "fraction": st.sampled_from([0.01, 0.3, 0.5, 1.0]),
        "cap": st.sampled_from([1, 2, 10_000]),
        "threshold": st.sampled_from([-1.0, 0.0, 0.1, 0.7, 24.0, 25.0]),
    },
).filter(bool)
LIMITS = st.sampled_from([None, -1.0, 0.2, 0.5, 1.0])
RULES = st.one_of(
    st.builds(lambda score, cuts: {"score": score, **cuts}, SCORES, CUTS),
    st.builds(lambda limit: {"copies": ["test", "val"], "threshold": limit}, LIMITS),
    st.builds(
        lambda within, limit: {"duplicates": within, "threshold": limit},
        st.sampled_from(["set", "class"]), LIMITS,
    ),
)  # fmt: skip
STACKS = st.lists(RULES, max_size=5)


@pytest.fixture(scope="module")
def garden() -> Iterator[tuple[Path, Task, Path]]:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "mine.py").write_text(OWN)
        task, (source, _) = tiny_task(root), tiny_sets(root)
        yield root, task, source


def placed(stack: list[dict[str, Any]], root: Path) -> list[dict[str, Any]]:
    """The stack with the user's file where it is."""
    return [
        rule | {"score": rule["score"].replace("mine.py", str(root / "mine.py"))}
        if "score" in rule
        else rule
        for rule in stack
    ]


@given(stack=STACKS, rejected=st.sampled_from(["", "w:r0,rose\n", "w:r0,\nw:r1,\n"]))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_counts_add_up_in_every_stack(
    garden: tuple[Path, Task, Path], stack: list[dict[str, Any]], rejected: str
) -> None:
    root, task, source = garden
    told = {"size": 32, "descriptor": "builtin", "scores": [], "rules": placed(stack, root)}
    if rejected:
        (root / "bad.csv").write_text(f"id,label\n{rejected}")
        told["reject"] = str(root / "bad.csv")
    with TemporaryDirectory() as place:
        out = Path(place) / "kept"
        curate(source, task, out, clip=CLIP, how=Curation.model_validate(told), workers=1)
        decisions, counts = read_decisions(out), read_funnel(out)
        candidates, pairs = pl.read_parquet(out / CANDIDATES), read_pairs(out)
        made, looks = read_json(out / "step.json")["counts"], read_json(out / "pixels.json")
    before = read_decisions(source)
    assert decisions.select("id", "label").equals(before.select("id", "label"))
    for label, row in counts["classes"].items():
        own = decisions.filter(pl.col("label") == label)
        for at, gate in enumerate(counts["steps"]):
            fell = own.filter(~pl.col("kept") & pl.col("step").is_in(counts["steps"][: at + 1]))
            assert row[gate] == len(own) - len(fell)
    kept = decisions.filter("kept")
    key = ["id", "label"]
    assert kept.select(key).equals(pairs.select(key).sort(key))
    assert kept["step"].unique().to_list() in ([], counts["steps"][-1:])
    assert made == {gate: total(counts, gate) for gate in counts["steps"]}
    assert looks["images"] == len(pairs)
    assert len(candidates) == total(counts, "pixels")
    check_score_rules(stack, candidates, decisions, counts["steps"])
    assert (REASON in decisions["reason"]) <= bool(rejected)


def check_score_rules(
    stack: list[dict[str, Any]], candidates: pl.DataFrame, decisions: pl.DataFrame, steps: list[str]
) -> None:
    """Each rule by a score is `keep_top` on what the rules before it left."""
    table = candidates.join(decisions, on=["id", "label"], nulls_equal=True)
    for rule, gate in zip(stack, steps[steps.index("pixels") + 1 :], strict=False):
        falls = (pl.col("step") == gate) & ~pl.col("kept")
        if "score" in rule:
            cuts = {"fraction": None} | {k: v for k, v in rule.items() if k != "score"}
            column = rule["score"].rpartition(":")[2]
            values = table[column].fill_null(float("nan")).to_numpy()
            stays = keep_top(values, table["label"].to_list(), **cuts)
            assert stays.tolist() == table.select(~falls).to_series().to_list()
        table = table.filter(~falls)


@pytest.mark.parametrize("name", ["came", "row", "at", "falls", "no_copy", "no_duplicate"])
def test_no_score_is_called_like_a_column_in_the_making_or_a_gate(
    tmp_path: Path, name: str
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(f"def {name}(candidates): return [1.0] * len(candidates)\n")
    with pytest.raises(InputError, match=f"a score cannot be called {name}"):
        open_score(f"{mine}:{name}")


def test_the_closest_reference_of_all_rules_is_told(garden: tuple[Path, Task, Path]) -> None:
    """A second rule on copies does not hide what the first one found."""
    root, task, source = garden
    told = {}
    with TemporaryDirectory() as place:
        for name, rules in {
            "one": [["test", "val"]], "two": [["test"], ["val"]], "back": [["val"], ["test"]],
        }.items():  # fmt: skip
            stack = [{"copies": splits, "threshold": 1.0} for splits in rules]
            how = {"size": 32, "descriptor": "builtin", "scores": [], "rules": stack}
            out = Path(place) / name
            both = task.model_copy(update={"images": {**task.images, "val": val_images(root)}})
            curate(source, both, out, clip=CLIP, how=Curation.model_validate(how), workers=1)
            told[name] = pl.read_parquet(out / CANDIDATES)["id", "copy_of", "copy_similarity"]
    assert told["one"].equals(told["two"]) and told["one"].equals(told["back"])
    assert told["one"]["copy_of"].str.head(4).n_unique() == 2


def val_images(root: Path) -> Path:
    for number in range(4):
        path = root / "val" / "rose" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(picture(700 + number)))
    return root / "val"


@pytest.mark.parametrize("written", range(4))
def test_a_set_that_begins_anew_keeps_no_old_shard(
    garden: tuple[Path, Task, Path], monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """Killed between the files of its parts, and run again."""
    root, task, source = garden
    (root / "bad.csv").write_text("id,label\nw:r1,rose\n")
    told = {"size": 32, "descriptor": "builtin", "scores": [], "rules": []}
    how = Curation.model_validate(told)
    strict = Curation.model_validate(told | {"reject": str(root / "bad.csv")})
    left = [written]

    def write(path: Path, table: pl.DataFrame) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write_table(path, table)

    with TemporaryDirectory() as place:
        out = Path(place) / "kept"
        curate(source, task, out, clip=CLIP, how=how, workers=1)
        assert "w:r1" in read_pairs(out, ["id"])["id"]
        with monkeypatch.context() as patch:
            patch.setattr("headwater.steps.sets.write_table", write)
            with pytest.raises(KeyboardInterrupt):
                curate(source, task, out, clip=CLIP, how=strict, workers=1)
        curate(source, task, out, clip=CLIP, how=strict, workers=1)
        assert "w:r1" not in read_pairs(out, ["id"])["id"]


def test_a_folder_that_holds_leaks_is_refused(garden: tuple[Path, Task, Path]) -> None:
    """Its descriptor is told in another way than that of a set."""
    _, task, source = garden
    with TemporaryDirectory() as place:
        out = Path(place) / "leaks"
        kept = out.with_name("kept")
        curate(source, task, kept, clip=CLIP, how=Curation(size=32), workers=1)
        find_leaks(kept, task, out, splits=["test"], descriptor=open_descriptor("builtin"))
        with pytest.raises(SetError, match="made differently"):
            curate(source, task, out, clip=CLIP, how=Curation(size=32), workers=1)


def test_a_pair_of_two_labels_keeps_its_place_among_equals() -> None:
    ids = [f"w:{number % 50:02d}" for number in range(4000)]
    pairs = pl.DataFrame(
        {"id": ids, "sharpness": [None] * 4000}, schema_overrides={"sharpness": pl.Float32}
    )
    expected = np.argsort(np.array(ids), kind="stable")
    assert best_first(pairs, "sharpness").tolist() == expected.tolist()
    assert best_first(pairs, None).tolist() == expected.tolist()
