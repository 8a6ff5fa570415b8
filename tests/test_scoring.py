"""Scores by name: the built-in ones on pictures one can picture; a user's own, and its errors."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.tiny_clip import tiny_clip
from tests.tiny_garden import import_set, make_task, numbered

from headwater.curate import scoring
from headwater.curate.heads import LAYERS
from headwater.curate.scoring import BUILT_IN, SCORES, Candidates, open_score, score_pairs
from headwater.decode import encode_png
from headwater.errors import InputError, SetError
from headwater.pairs import read_funnel, read_pairs
from headwater.steps.curation.curate import curate
from headwater.steps.curation.settings import Curation
from headwater.steps.looking.audit import audit
from headwater.store import read_step

FLAT = np.full((8, 8, 3), 100, np.uint8)
EDGE = np.concatenate([np.zeros((8, 4, 3), np.uint8), np.full((8, 4, 3), 200, np.uint8)], axis=1)
RED = np.zeros((8, 8, 3), np.uint8) + np.array([200, 0, 0], np.uint8)


def encode_texts(texts: list[str]) -> np.ndarray:
    """`rose` points one way, anything else another."""
    return np.array([[2.0, 0.0] if "rose" in t else [0.0, 3.0] for t in texts], np.float32)


def candidates(**changes: object) -> Candidates:
    pairs = pl.DataFrame(
        {
            "id": ["w:1", "w:2", "w:3"],
            "label": ["rose", "oak", "rose"],
            "caption": ["a rose", None, "a tree"],
            "width": [640, 100, 100],
            "height": [480, 400, 100],
            "codec": ["JPEG", "PNG", "JPEG"],
        }
    )
    given = {
        "pairs": pairs,
        "encoded": [encode_png(image) for image in (FLAT, EDGE, RED)],
        "encode_images": lambda: np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], np.float32),
        "labels": ["rose", "oak"],
        "class_texts": np.array([[[3.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 2.0]]], np.float32),
        "encode_texts": encode_texts,
    }
    return Candidates(**(given | changes))  # type: ignore[arg-type]


def values(name: str, some: Candidates | None = None, **how: object) -> list[float]:
    score = open_score(name, **how)  # type: ignore[arg-type]
    return score_pairs(candidates() if some is None else some, [score])[score.name].tolist()


def test_every_built_in_score_of_three_pairs() -> None:
    names = ["clip_score", "caption_score", "short_side", "aspect", "sharpness"]
    scores = score_pairs(candidates(), [open_score(name) for name in names])
    assert list(scores) == names
    assert all(s.dtype == np.float32 and s.shape == (3,) for s in scores.values())
    assert scores["clip_score"] == pytest.approx([3 / 10**0.5, 0.8, 1 / 10**0.5])
    assert scores["caption_score"] == pytest.approx([1, np.nan, 1], nan_ok=True)
    assert scores["short_side"].tolist() == [480, 100, 100]
    assert scores["aspect"].tolist() == [0.75, 0.25, 1]
    assert scores["sharpness"] == pytest.approx([0, 200**2 / 3, 0], rel=1e-4)


def test_the_best_template_instead_of_the_mean() -> None:
    assert values("clip_score", aggregate="max") == pytest.approx([1, 0.8, 1])


@pytest.mark.parametrize(("label", "seen"), [(None, "a pair without a label"), ("elm", "'elm'")])
def test_clip_score_asks_for_a_label_of_the_task(label: str | None, seen: str) -> None:
    some = candidates()
    strange = pl.Series("label", ["rose", label, "rose"], dtype=pl.String)
    with pytest.raises(InputError, match=f"{seen}.*rules without clip_score"):
        values("clip_score", candidates(pairs=some.pairs.with_columns(strange)))


def test_images_are_decoded_once_and_only_when_asked_for() -> None:
    some = candidates(encoded=[b"broken"] * 3)
    assert values("aspect", some) == [0.75, 0.25, 1]
    whole = candidates()
    assert whole.images is whole.images
    np.testing.assert_array_equal(whole.images[1], EDGE)


def test_no_candidates_no_scores_and_nobody_is_asked(tmp_path: Path) -> None:
    path = write(tmp_path, "def fussy(candidates):\n    raise ValueError\n")
    empty = candidates(pairs=candidates().pairs.clear(), encoded=[])
    assert values(f"{path}:fussy", empty) == []
    assert values("clip_score", empty) == []


def test_an_unknown_size_has_no_score() -> None:
    unknown = candidates().pairs.with_columns(width=pl.lit(None, pl.Int64))
    assert np.isnan(values("short_side", candidates(pairs=unknown))).all()


def test_an_unknown_name_gets_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"one of clip_score, .*safety, or FILE.py:function"):
        open_score("beauty")


def test_a_head_without_weights_says_what_to_give() -> None:
    with pytest.raises(InputError, match=r"expected heads: \{aesthetic: FILE\}"):
        open_score("aesthetic")


def test_a_built_in_score_has_a_constant_digest_and_can_be_sent_to_a_worker() -> None:
    score = open_score("sharpness")
    assert score.digest == BUILT_IN
    assert pickle.loads(pickle.dumps(score)).name == "sharpness"


def test_images_are_decoded_a_block_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks change nothing, but for how much a score sees; features are made once for all."""
    names = ["clip_score", "caption_score", "short_side", "aspect", "sharpness"]
    scores = [open_score(name) for name in names]
    whole = score_pairs(candidates(), scores)
    monkeypatch.setattr(scoring, "BLOCK", 2)
    asked = []

    def encode() -> np.ndarray:
        asked.append(1)
        return candidates().features

    count = open_score(f"{write(tmp_path, 'def n(c): return [len(c.images)] * len(c)')}:n")
    parts = score_pairs(candidates(encode_images=encode), [*scores, count])
    assert parts.pop("n").tolist() == [2, 2, 1]
    assert len(asked) == 1
    for name, values in whole.items():
        np.testing.assert_array_equal(parts[name], values)


@pytest.mark.parametrize("what", ["features", "class_texts", "images[0]"])
def test_a_score_cannot_change_what_others_are_given(tmp_path: Path, what: str) -> None:
    path = write(tmp_path, f"def f(c):\n    c.{what}[:] = 0\n    return [0] * len(c)\n")
    with pytest.raises(InputError, match=r"read-only \(mine.py, line 2\)"):
        score_pairs(candidates(), [open_score(f"{path}:f")])


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.py"
    path.write_text(text)
    return path


def test_a_function_of_the_users_is_a_column(tmp_path: Path) -> None:
    path = write(
        tmp_path, "def red(candidates):\n    return [i[..., 0].mean() for i in candidates.images]\n"
    )
    score = open_score(f"{path}:red")
    assert (score.name, len(score.digest)) == ("red", 64)
    assert score_pairs(candidates(), [score])["red"].tolist() == [100, 100, 200]


def test_a_changed_file_is_read_anew_and_has_another_digest(tmp_path: Path) -> None:
    first = open_score(f"{write(tmp_path, 'def one(c): return [1] * len(c)')}:one")
    second = open_score(f"{write(tmp_path, 'def one(c): return [2] * len(c)')}:one")
    assert first.digest != second.digest
    assert score_pairs(candidates(), [second])["one"].tolist() == [2, 2, 2]


def test_a_file_opened_twice_runs_once(tmp_path: Path) -> None:
    text = "from pathlib import Path\nPath({!r}).open('a').write('run ')\ndef f(c): return [0]\n"
    path = write(tmp_path, text.format(str(tmp_path / "runs")))
    assert open_score(f"{path}:f").function is open_score(f"{path}:f").function
    assert (tmp_path / "runs").read_text() == "run "


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("\n\n    return 1 / 0", r"ZeroDivisionError: division by zero \(mine.py, line 3\)"),
        ("\n    return len(c.nothing)", r"AttributeError: .*nothing.* \(mine.py, line 2\)"),
        (" return [1, 2]", r"expected 3 numbers, .* saw int64 of shape \(2,\)"),
        (" return 1.0", r"saw float64 of shape \(\)"),
        (" return ['a'] * 3", r"saw <U1 of shape \(3,\)"),
        (" return [None] * 3", r"saw object of shape \(3,\)"),
        (" return [[1]] * 3", r"saw int64 of shape \(3, 1\)"),
        (" return [1, float('inf'), 2]", "saw an infinite number"),
        (" return [1, 1e300, 2]", "saw an infinite number"),
        (" return [[1], [1, 2], 3]", r"mine.py:f failed: .*ValueError"),
        (" raise SystemExit", r"SystemExit \(mine.py, line 1\)"),
        (
            "\n class Mute(Exception): __str__ = None\n raise Mute",
            r"saw Mute \(mine.py, line 3\)",
        ),
    ],
)  # fmt: skip
def test_what_a_users_function_does_wrong_is_one_line(tmp_path: Path, body: str, why: str) -> None:
    path = write(tmp_path, f"def f(c):{body}\n")
    with pytest.raises(InputError, match=why) as caught:
        score_pairs(candidates(), [open_score(f"{path}:f")])
    assert "\n" not in str(caught.value) and "mine.py:f" in str(caught.value)


def test_what_a_users_file_prints_is_no_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, "print('read')\ndef f(c): print('run'); return [1, 2, 3]")
    assert values(f"{path}:f") == [1, 2, 3]
    assert capsys.readouterr() == ("", "read\nrun\n")


def test_no_score_is_said_by_nan(tmp_path: Path) -> None:
    path = write(tmp_path, "def f(c): return [1, float('nan'), True]")
    assert values(f"{path}:f") == pytest.approx([1, np.nan, 1], nan_ok=True)


@pytest.mark.parametrize(
    ("text", "asked", "why"),
    [
        ("def warmth(c): return 0", "cold", "no score 'cold' in mine.py: .* saw warmth"),
        ("cold = 3", "cold", "saw no function at all"),
        ("def cold(a, b): return 0", "cold", "a function of one argument"),
        ("def cold(c)", "cold", r"SyntaxError: .*\(mine.py, line 1\)"),
        ("\nimport nowhere_at_all", "cold", r"ModuleNotFoundError: .*\(mine.py, line 2\)"),
        ("raise SystemExit(3)", "cold", r"SystemExit: 3 \(mine.py, line 1\)"),
        ("def caption(c): return 0", "caption", "cannot be called caption"),
        ("def sharpness(c): return 0", "sharpness", "cannot be called sharpness"),
        ("def gate(c): return 0", "gate", "cannot be called gate"),
    ],
)
def test_a_file_that_holds_no_such_score(tmp_path: Path, text: str, asked: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        open_score(f"{write(tmp_path, text)}:{asked}")


def test_two_files_may_not_give_one_column(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    files = [write(folder, "def f(c): return [0] * 3") for folder in (tmp_path, tmp_path / "a")]
    with pytest.raises(InputError, match="two scores of one name"):
        score_pairs(candidates(), [open_score(f"{path}:f") for path in files])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the score"):
        open_score(f"{tmp_path}/nowhere.py:f")


def test_features_are_made_only_for_scores_that_look_at_them() -> None:
    def never() -> np.ndarray:
        raise AssertionError("nobody asked")

    bare = candidates(encode_images=never)
    plain = [open_score(name) for name in ("sharpness", "short_side", "aspect")]
    assert len(score_pairs(bare, plain)) == 3
    mute = bare.pairs.with_columns(caption=pl.lit(None, pl.String))
    assert np.isnan(values("caption_score", candidates(encode_images=never, pairs=mute))).all()


PAGE = Path(__file__).parents[1] / "docs" / "scores.md"


def test_the_example_in_the_documents_is_a_score(tmp_path: Path) -> None:
    example = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    assert len(example.split("def ")[1].splitlines()) <= 10
    path = write(tmp_path, example)
    black = candidates(encoded=[encode_png(image) for image in (FLAT, RED, 0 * RED)])
    assert values(f"{path}:warmth", black) == pytest.approx([0, 200, np.nan], nan_ok=True)


def test_every_score_and_layout_is_told_in_the_documents() -> None:
    told = PAGE.read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in told for name in SCORES)
    for first, *others in LAYERS:
        assert ", ".join([f"`layers.{first}`", *(f"`{place}`" for place in others)]) in told
    given = Candidates.__dataclass_fields__.keys() - {"encode_images"}
    for name in (*given, "images", "features"):
        assert f"`candidates.{name}" in told


def test_the_example_selects_pairs_and_is_audited(tmp_path: Path) -> None:
    """From the page to a set: `mine.py:warmth` as a rule, a column, a gate, and a line of audit."""
    example = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    name = f"{write(tmp_path, example)}:warmth"
    task = make_task(tmp_path)
    found, out = import_set(tmp_path / "found", task, numbered(400, 6)), tmp_path / "kept"
    told = {"size": 32, "scores": ["sharpness"], "rules": [{"score": name, "fraction": 0.5}]}
    how = Curation.model_validate(told)
    curate(found, task, out, clip=tiny_clip(), how=how, workers=1)
    every = pl.read_parquet(out / "candidates.parquet").sort("label", "warmth", descending=True)
    warmest = [rows["id"][:3] for rows in every.partition_by("label")]
    assert set(read_pairs(out)["id"]) == {pair_id for ids in warmest for pair_id in ids}
    assert read_funnel(out)["steps"][-1] == "warmth"
    assert read_step(out)["inputs"]["scores"]["warmth"] == open_score(name).digest
    lines = audit(out, tmp_path / "audit.html", source=found, fraction=0.5)["scores"]
    assert [line["score"] for line in lines] == ["warmth", "sharpness", "none"]
    write(tmp_path, example.replace("red - blue", "blue - red"))
    with pytest.raises(SetError, match=r"made differently.*warmth"):
        curate(found, task, out, clip=tiny_clip(), how=how, workers=1)
