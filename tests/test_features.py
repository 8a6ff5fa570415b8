"""Features are computed once per image and model, and what is kept is never half there."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from headwater import features as module
from headwater.errors import InputError
from headwater.features import FAN, SUFFIX, KeptFeatures, cache_folder

MODEL = "a-model"


def digest_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def vector_of(number: int) -> NDArray[np.float32]:
    return np.random.default_rng(number).normal(size=4).astype(np.float32)


class Model:
    """Gives each number its vector, and remembers what it was asked."""

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = numbers
        self.asked: list[list[int]] = []

    def __call__(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        self.asked.append([self.numbers[row] for row in rows])
        return np.array([vector_of(self.numbers[row]) for row in rows]).reshape(-1, 4)


def ask(numbers: list[int], folder: Path, block: int = 512) -> tuple[list[list[int]], bool]:
    """What the model was asked, and whether the answer is right."""
    model = Model(numbers)
    kept = KeptFeatures(MODEL, folder=folder)
    found = kept.of([digest_of(n) for n in numbers], model, block=block)
    right = np.array([vector_of(n) for n in numbers], np.float32).reshape(-1, 4)
    return model.asked, found.dtype == np.float32 and np.array_equal(found, right)


def files(folder: Path) -> list[Path]:
    return sorted((folder / "features" / MODEL).glob(f"*{SUFFIX}"))


def test_each_image_is_encoded_once(tmp_path: Path) -> None:
    assert ask([3, 1, 3, 2], tmp_path) == ([[3, 1, 2]], True)
    assert ask([2, 5, 3, 5, 4], tmp_path) == ([[5, 4]], True)
    assert ask([4, 5, 1], tmp_path) == ([], True)


def test_blocks_come_in_order(tmp_path: Path) -> None:
    assert ask([5, 4, 3, 2, 1], tmp_path, block=2) == ([[5, 4], [3, 2], [1]], True)
    assert len(files(tmp_path)) == 3


def test_no_images(tmp_path: Path) -> None:
    assert KeptFeatures(MODEL, folder=tmp_path).of([], Model([])).shape == (0, 4)
    assert not files(tmp_path)


@given(st.lists(st.lists(st.integers(0, 30), max_size=12), max_size=8), st.integers(1, 5))
def test_any_calls_give_what_the_model_gives(
    tmp_path_factory: pytest.TempPathFactory, calls: list[list[int]], block: int
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    seen: set[int] = set()
    for numbers in calls:
        asked, right = ask(numbers, folder, block)
        assert right
        assert {n for part in asked for n in part} == set(numbers) - seen
        seen |= set(numbers)


def test_models_do_not_share(tmp_path: Path) -> None:
    ask([1], tmp_path)
    model = Model([1])
    KeptFeatures("another", folder=tmp_path).of([digest_of(1)], model)
    assert model.asked == [[1]]


def test_a_file_of_another_model_is_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask([1, 2], tmp_path)
    (tmp_path / "features" / MODEL).rename(tmp_path / "features" / "another")
    model = Model([1])
    KeptFeatures("another", folder=tmp_path).of([digest_of(1)], model)
    assert model.asked == [[1]]
    assert "is not used" in capsys.readouterr().err


def test_a_model_that_is_not_on_disk_keeps_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        model = Model([1, 2])
        KeptFeatures(None, folder=tmp_path).of([digest_of(1), digest_of(2)], model)
        assert model.asked == [[1, 2]]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["cut", "longer", "flipped", "text", "empty", "index"])
def test_a_broken_file_is_said_once_and_its_rows_are_made_again(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask([1, 2, 3], tmp_path)
    (path,) = files(tmp_path)
    data = bytearray(path.read_bytes())
    flipped = bytearray(data)
    flipped[-2] ^= 1
    index = bytearray(data)
    index[128] ^= 1
    path.write_bytes(
        {"cut": data[:-5], "longer": data + b"x", "flipped": flipped, "text": b"hello",
         "empty": b"", "index": index}[damage]
    )  # fmt: skip
    asked, right = ask([1, 2, 3], tmp_path)
    assert right
    assert asked
    assert capsys.readouterr().err.count("is not used") == (damage != "index")
    assert ask([3, 2, 1], tmp_path) == ([], True)


@given(st.data())
def test_whatever_stands_in_a_file_the_answer_is_right(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    ask([1, 2, 3], folder)
    (path,) = files(folder)
    content = bytearray(path.read_bytes())
    header = st.integers(0, 127)  # most of what can go wrong is read there
    for place in data.draw(st.lists(header | st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    assert ask([1, 2, 3, 4], folder)[1]
    assert ask([4, 3, 2, 1], folder) == ([], True)


SHAPES = ["(-3, 32)", "(3, -32)", "(0, 32)", "(3, 0)", "(3,)", "(3, 32, 1)", f"({10**18}, 32)"]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_file_that_lies_about_its_shape_is_not_used(
    shape: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask([1, 2, 3], tmp_path)
    (path,) = files(tmp_path)
    data = path.read_bytes()
    shorter = data[:128].replace(b"(3, 32)", shape.encode())[: 127 if len(shape) > 7 else None]
    lied = shorter[:-1].ljust(127)[:127] + b"\n"
    path.write_bytes(lied + data[128:])
    assert ask([1, 2, 3], tmp_path) == ([[1, 2, 3]], True)
    assert capsys.readouterr().err.count("is not used") == 1


def test_a_pipe_in_the_folder_is_not_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask([1], tmp_path)
    os.mkfifo(tmp_path / "features" / MODEL / f"9-pipe{SUFFIX}")
    assert ask([1, 2], tmp_path) == ([[2]], True)
    assert f"9-pipe{SUFFIX} is not used: not a file" in capsys.readouterr().err


def test_many_small_files_become_few(tmp_path: Path) -> None:
    for number in range(FAN * FAN + 3):
        assert ask([number, number + 1], tmp_path, block=1)[1]
    assert len(files(tmp_path)) < 2 * FAN
    everything = list(range(FAN * FAN + 4))
    assert ask(everything, tmp_path) == ([], True)


def test_a_broken_file_does_not_stop_the_joining(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask([1000], tmp_path)
    path = files(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:-1])
    for number in range(FAN):
        ask([number], tmp_path)
    assert len(files(tmp_path)) == 2
    assert "is not used" in capsys.readouterr().err


def test_a_question_maps_files_and_does_not_read_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(list(range(300)), tmp_path)
    taken = []
    sums = module.checksums

    def spy(keys: NDArray[np.bytes_], vectors: NDArray[np.float32], seed: int) -> object:
        taken.append(vectors.shape)
        return sums(keys, vectors, seed)

    monkeypatch.setattr(module, "checksums", spy)
    assert ask([7, 8], tmp_path) == ([], True)
    assert taken == [(2, 4)]
    mapped = KeptFeatures(MODEL, folder=tmp_path)._open(files(tmp_path)[0])
    assert mapped is not None
    assert isinstance(mapped.vectors.base, np.memmap)


def test_a_folder_that_cannot_be_written_to_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "cache"
    place.write_text("a file stands where the folder would be")
    asked, right = ask([1, 2, 3], place, block=1)
    assert right
    assert asked == [[1], [2], [3]]
    assert capsys.readouterr().err.count("not kept") == 1


def test_features_that_are_no_numbers_are_not_kept(tmp_path: Path) -> None:
    kept = KeptFeatures(MODEL, folder=tmp_path)
    nan = kept.of([digest_of(1)], lambda rows: np.full((len(rows), 4), np.nan, np.float32))
    assert np.isnan(nan).all()
    assert ask([1], tmp_path) == ([[1]], True)


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sha256"):
        KeptFeatures(MODEL, folder=tmp_path).of(["abc"], Model([1]))
    with pytest.raises(InputError, match="model digest"):
        KeptFeatures("../elsewhere", folder=tmp_path)
    ask([1], tmp_path)
    with pytest.raises(InputError, match="another length"):
        KeptFeatures(MODEL, folder=tmp_path).of(
            [digest_of(1), digest_of(2)], lambda rows: np.zeros((len(rows), 5), np.float32)
        )


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADWATER_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    assert KeptFeatures(MODEL).folder == tmp_path / "own" / "features" / MODEL
    monkeypatch.delenv("HEADWATER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "headwater"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "headwater"


def _slow_pass(folder: str, marks: str) -> None:
    numbers = list(range(40))
    model = Model(numbers)

    def encode(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        (Path(marks) / f"{rows[0]:03d}").touch()
        time.sleep(0.02)
        return model(rows)

    KeptFeatures(MODEL, folder=Path(folder)).of([digest_of(n) for n in numbers], encode, block=2)


def test_a_killed_pass_goes_on_where_it_stopped(tmp_path: Path) -> None:
    cache, marks = tmp_path / "cache", tmp_path / "marks"
    marks.mkdir()
    passing = multiprocessing.get_context("spawn").Process(
        target=_slow_pass, args=(str(cache), str(marks))
    )
    passing.start()
    while len(list(marks.iterdir())) < 5 and passing.is_alive():
        time.sleep(0.005)
    assert passing.pid is not None
    os.kill(passing.pid, signal.SIGKILL)
    passing.join()
    assert passing.exitcode == -signal.SIGKILL
    numbers = list(range(40))
    asked, right = ask(numbers, cache, block=2)
    assert right
    began = sorted(int(path.name) for path in marks.iterdir())[-1]
    assert asked[0][0] in (began, began + 2)  # the block at work, if it was not kept any more
    assert ask(numbers, cache) == ([], True)


def _many(folder: str, numbers: list[int]) -> bool:
    return all(ask([n, n + 1], Path(folder), block=1)[1] for n in numbers)


def test_many_processes_at_once(tmp_path: Path) -> None:
    jobs = [(str(tmp_path), list(range(start, 60, 2))) for start in (0, 1, 0)]
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.starmap(_many, jobs) == [True, True, True]
    assert ask(list(range(60)), tmp_path) == ([], True)
    assert not list(tmp_path.rglob("*.part"))
