"""The novelty page: the pairs to look at, what is said of them, and that it is safe."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from tests.tiny_clip import tiny_clip
from tests.tiny_garden import import_set, make_task
from tests.tiny_pool import planted_set, pool_images, write_pool

from headwater.cli import run
from headwater.descriptors import open_descriptor
from headwater.errors import SetError
from headwater.pairs import shard_paths
from headwater.steps.embed import embed
from headwater.steps.novelty.novelty import find_novelty
from headwater.steps.novelty.page import choose_pairs, write_page
from headwater.store import write_table
from headwater.task import load_task

HOSTILE = 'a <b>rose</b> & "fern" \x1b[2J<script>alert(1)</script>'


@pytest.fixture(scope="module")
def garden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`set`, whose captions are hostile, `novelty`, how new it is to `pool`, and `clip`."""
    folder = tmp_path_factory.mktemp("garden")
    write_pool(folder / "pool", pool_images())
    source = planted_set(folder / "set", make_task(folder))
    path = shard_paths(source)[0]
    write_table(path, pl.read_parquet(path).with_columns(caption=pl.lit(HOSTILE)))
    tiny_clip().save(folder / "clip")
    find_novelty(
        source, folder / "pool", folder / "novelty", descriptor=open_descriptor("builtin"),
        clip=tiny_clip(),
    )  # fmt: skip
    return folder


def test_every_band_with_its_pairs(garden: Path, tmp_path: Path) -> None:
    told = write_page(garden / "novelty", garden / "set", garden / "pool", tmp_path / "n.html")
    text = (tmp_path / "n.html").read_text()
    assert "Of 12 images, 5 are memorized, 3 are near a pool image, and 4 are new." in text
    assert [len(band["pairs"]) for band in told["bands"]] == [5, 3, 4]
    assert text.count("<img") == 2 * 12
    assert "picture 0000" in text and "pool:0000" in text
    assert (told["copied"], told["most"]) == (5, 1)
    low, high = told["interval"]
    assert 0 < low < 5 / 12 < high < 1
    first = told["bands"][0]["pairs"][0]
    assert first["other"] == "pool:0000" and first["similarity"] == pytest.approx(1)


def test_what_comes_from_outside_is_escaped(garden: Path, tmp_path: Path) -> None:
    write_page(garden / "novelty", garden / "set", garden / "pool", tmp_path / "n.html")
    text = (tmp_path / "n.html").read_text()
    assert "a &lt;b&gt;rose&lt;/b&gt; &amp; &#34;fern&#34;" in text
    assert "<script" not in text and "\x1b" not in text and "<b>rose" not in text
    assert "default-src 'none'" in text and " style=" not in text


def test_the_same_findings_give_the_same_page(garden: Path, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_page(garden / "novelty", garden / "set", garden / "pool", tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_few_of_each_class_and_the_most_similar_first() -> None:
    table = pl.DataFrame(
        {
            "id": [f"{i:02d}" for i in range(40)],
            "label": ["rose"] * 30 + [f"class {i}" for i in range(10)],
            "novelty": "near",
            "similarity": 0.1,
            "clip_similarity": [1 - i / 100 for i in range(40)],
        }
    )
    chosen = choose_pairs(table, "near", shown=20)
    assert chosen["id"].to_list() == ["00", "01", *(str(i) for i in range(30, 40))]
    assert choose_pairs(table, "new", shown=20).height == 0


def test_a_pool_without_images_is_told(garden: Path, tmp_path: Path) -> None:
    embed(garden / "pool", tmp_path / "v", clip=tiny_clip(), workers=0)
    find_novelty(
        garden / "set", tmp_path / "v", tmp_path / "n", descriptor=open_descriptor("builtin"),
        clip=tiny_clip(),
    )  # fmt: skip
    told = write_page(tmp_path / "n", garden / "set", tmp_path / "v", tmp_path / "n.html")
    text = (tmp_path / "n.html").read_text()
    assert "Copies were not looked for" in text and "no images to show" in text
    assert told["histograms"]["similarity"] == []


def test_another_set_or_pool_is_refused(garden: Path, tmp_path: Path) -> None:
    write_pool(tmp_path / "pool", pool_images()[:5])
    with pytest.raises(SetError, match="another pool"):
        write_page(garden / "novelty", garden / "set", tmp_path / "pool", tmp_path / "n.html")
    other = import_set(tmp_path / "o", load_task(garden / "garden.yaml"), {"rose/1.png": 1})
    with pytest.raises(SetError, match="made of another"):
        write_page(garden / "novelty", other, garden / "pool", tmp_path / "n.html")
    assert not (tmp_path / "n.html").exists()


def test_the_commands(garden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("set", "pool", "clip")
    source, pool, clip = (str(garden / name) for name in names)
    page = tmp_path / "n.html"
    asked = ["novelty", source, "--pool", pool, "--model", clip, "--out", str(tmp_path / "n")]
    assert run([*asked, "--descriptor", "builtin", "--html", str(page)]) == 0
    assert capsys.readouterr().out == "12 images: 5 memorized, 3 near, 4 new\n"
    assert page.read_bytes().startswith(b"<!doctype html")
    part = ["subset", source, "--novelty", str(tmp_path / "n"), "--out", str(tmp_path / "s")]
    assert run([*part, "--keep", "new", "--keep", "near"]) == 0
    assert capsys.readouterr().out == "12 given -> 7 novelty\n"
    assert run([*part, "--keep", "newest"]) == 2
