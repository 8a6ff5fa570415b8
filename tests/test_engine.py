from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from headwater.engine import run_shards
from headwater.errors import InputError, RunError, SetError


def square(x: int) -> int:
    return x * x


def fail_on_three(x: int) -> int:
    if x == 3:
        raise SetError("three", expected="not three", seen="3")
    return x


def die_on_three(x: int) -> int:
    if x == 3:
        os._exit(9)
    return x


def note(folder: Path, x: int) -> int:
    (folder / f"{x}.txt").write_text(str(os.getpid()))
    return x


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_shards(workers: int) -> None:
    assert run_shards(square, [3, 1, 2], workers=workers) == [9, 1, 4]


def test_workers_are_other_processes(tmp_path: Path) -> None:
    run_shards(partial(note, tmp_path), [1, 2, 3, 4], workers=2)
    pids = {path.read_text() for path in tmp_path.iterdir()}
    assert str(os.getpid()) not in pids


def test_an_error_in_a_worker_is_the_error_here() -> None:
    with pytest.raises(SetError, match="expected not three, saw 3"):
        run_shards(fail_on_three, [1, 2, 3, 4], workers=2)


def test_a_killed_worker_is_one_clear_line() -> None:
    with pytest.raises(RunError, match="a worker process was killed"):
        run_shards(die_on_three, [1, 2, 3, 4], workers=2)


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    code = f"""if True:
        from functools import partial
        from pathlib import Path
        from headwater.engine import run_shards
        from tests.test_engine import note_and_wait
        if __name__ == "__main__":
            run_shards(partial(note_and_wait, Path({str(tmp_path)!r})), [1, 2], workers=2)
    """
    script = tmp_path / "script.py"
    script.write_text(code)
    root = str(Path(__file__).parents[1])
    parent = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": root})
    notes = [tmp_path / "1.txt", tmp_path / "2.txt"]
    assert wait_until(lambda: all(path.exists() and path.read_text() for path in notes), 60)
    parent.kill()
    parent.wait()
    workers = [int(path.read_text()) for path in notes]
    assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), 10)


def wait_until(happened: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not happened():
        time.sleep(0.02)
    return happened()


def note_and_wait(folder: Path, x: int) -> None:
    note(folder, x)
    time.sleep(120)


def test_no_shards_is_no_work() -> None:
    assert run_shards(square, []) == []


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(InputError, match="expected local, saw abacus"):
        run_shards(square, [1], engine="abacus")
