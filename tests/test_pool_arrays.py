"""Arrays in files: the same rows however the file holds them, and no header is believed."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headwater.errors import PoolError
from headwater.pool.arrays import FileArray, member_names
from headwater.topk import top_k

ROWS = np.random.default_rng(0).normal(size=(500, 7)).astype(np.float16)


def npy(folder: Path, array: Any = ROWS) -> FileArray:
    np.save(folder / "a.npy", array)
    return FileArray(str(folder / "a.npy"))


def stored(folder: Path, array: Any = ROWS) -> FileArray:
    np.savez(folder / "a.npz", first=np.zeros(3), b32_img=array)
    return FileArray(str(folder / "a.npz"), member="b32_img")


def deflated(folder: Path, array: Any = ROWS) -> FileArray:
    np.savez_compressed(folder / "a.npz", first=np.zeros(3), b32_img=array)
    return FileArray(str(folder / "a.npz"), member="b32_img")


KINDS = [npy, stored, deflated]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_those_of_the_array(kind: Any, tmp_path: Path) -> None:
    array = kind(tmp_path)
    assert (array.shape, array.dtype, array.ndim, len(array)) == ((500, 7), np.float16, 2, 500)
    for part in (slice(0, 100), slice(100, 500), slice(3, 4), slice(None), slice(490, 999)):
        assert np.array_equal(array[part], ROWS[part])
    assert np.array_equal(array[7:2], ROWS[7:2])
    assert np.array_equal(array[::5], ROWS[::5])
    some = np.array([499, 3, 3, 0, -0])
    assert np.array_equal(array[some], ROWS[some])
    assert array[np.empty(0, np.int64)].shape == (0, 7)
    assert np.array_equal(np.asarray(array), ROWS)
    with pytest.raises(IndexError):
        array[np.array([500])]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8"])
def test_floats_of_any_width_and_order(kind: Any, dtype: str, tmp_path: Path) -> None:
    array = kind(tmp_path, ROWS.astype(dtype))
    assert array.dtype == np.dtype(dtype)
    assert np.array_equal(array[5:8], ROWS[5:8].astype(dtype))


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_at_all(kind: Any, tmp_path: Path) -> None:
    assert kind(tmp_path, np.empty((0, 7), np.float32))[:].shape == (0, 7)


@pytest.mark.parametrize("kind", KINDS)
def test_the_search_takes_them_as_it_takes_arrays(kind: Any, tmp_path: Path) -> None:
    queries = np.random.default_rng(1).normal(size=(3, 7)).astype(np.float32)
    found = top_k(queries, [kind(tmp_path), ROWS[:100]], 20, block_rows=64)
    wanted = top_k(queries, [ROWS, ROWS[:100]], 20)
    assert np.array_equal(found[1], wanted[1])
    assert np.array_equal(found[0], wanted[0])


def test_members_are_named(tmp_path: Path) -> None:
    stored(tmp_path)
    assert member_names(str(tmp_path / "a.npz")) == ["b32_img", "first"]


def test_many_streams_take_turns(tmp_path: Path) -> None:
    """More open than are kept open: each still goes on where it was."""
    arrays = []
    for number in range(9):
        folder = tmp_path / str(number)
        folder.mkdir()
        arrays.append(deflated(folder, ROWS + np.float16(number)))
    for at in range(0, 500, 100):
        for number, array in enumerate(arrays):
            assert np.array_equal(array[at : at + 100], ROWS[at : at + 100] + np.float16(number))


def objects(folder: Path) -> None:
    npy(folder, np.array([[{}, 1]], dtype=object))


def objects_in_npz(folder: Path) -> None:
    deflated(folder, np.array([[{}, 1]], dtype=object))


def whole_numbers(folder: Path) -> None:
    npy(folder, np.ones((2, 2), np.int8))


def a_list(folder: Path) -> None:
    npy(folder, np.ones(4, np.float16))


def columns_first(folder: Path) -> None:
    npy(folder, np.asfortranarray(ROWS))


def npy_cut_short(folder: Path) -> None:
    npy(folder)
    cut(folder / "a.npy")
    FileArray(str(folder / "a.npy"))


def npz_cut_short(folder: Path) -> None:
    stored(folder)
    cut(folder / "a.npz")
    FileArray(str(folder / "a.npz"), member="b32_img")


def stored_without_its_bytes(folder: Path) -> None:
    """The list of members is whole, but tells sizes the file does not have."""
    stored(folder)
    path = folder / "a.npz"
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 20 : at + 28] = struct.pack("<II", 2**30, 2**30)
    path.write_bytes(data)
    FileArray(str(path), member="b32_img")


def a_header_that_promises_much(folder: Path) -> None:
    head = io.BytesIO()
    facts = {"descr": "<f2", "fortran_order": False, "shape": (10**12, 512)}
    np.lib.format.write_array_header_1_0(head, facts)  # type: ignore[arg-type]
    with zipfile.ZipFile(folder / "a.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("b32_img.npy", head.getvalue() + bytes(1000))
    FileArray(str(folder / "a.npz"), member="b32_img")


def rows_below_zero(folder: Path) -> None:
    head = io.BytesIO()
    facts = {"descr": "<f2", "fortran_order": False, "shape": (-1, -512)}
    np.lib.format.write_array_header_1_0(head, facts)  # type: ignore[arg-type]
    (folder / "a.npy").write_bytes(head.getvalue() + bytes(1024))
    FileArray(str(folder / "a.npy"))


def broken_inside(folder: Path) -> None:
    array = deflated(folder)
    path = folder / "a.npz"
    data = bytearray(path.read_bytes())
    middle = data.index(b"b32_img.npy") + 4000
    data[middle : middle + 500] = bytes(500)
    path.write_bytes(data)
    array[:]


def no_such_member(folder: Path) -> None:
    stored(folder)
    FileArray(str(folder / "a.npz"), member="l14_img")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


@pytest.mark.parametrize(
    "trouble",
    [
        objects, objects_in_npz, whole_numbers, a_list, columns_first, npy_cut_short,
        npz_cut_short, stored_without_its_bytes, a_header_that_promises_much, rows_below_zero,
        broken_inside, no_such_member,
    ],
)  # fmt: skip
def test_trouble_is_one_clear_line(tmp_path: Path, trouble: Any) -> None:
    with pytest.raises(PoolError, match=r"cannot read a.np[yz]") as caught:
        trouble(tmp_path)
    assert "\n" not in str(caught.value)
