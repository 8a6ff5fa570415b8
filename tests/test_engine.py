"""The engine: order, errors and lost workers, with processes and with a toy crew."""

from __future__ import annotations

import os
import random
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.shard_work import (
    Stubborn,
    alive,
    always_killed,
    count_slowly,
    fail_backwards,
    fail_on_three,
    give_function,
    killed_at_first,
    never_answers,
    note,
    own_pid,
    own_slot,
    raise_stubborn,
    running,
    square,
    start_script,
    tries,
    wait_until,
)

from headwater import progress
from headwater.engine import run_shards
from headwater.engine.crew import Outcome, outcomes
from headwater.engine.local import Processes
from headwater.errors import InputError, RunError, SetError

WAITING = "run_shards(partial(note_and_wait, folder), [0, 1], workers=2)"


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


def test_a_killed_worker_costs_one_shard(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    work = partial(killed_at_first, tmp_path)
    assert run_shards(work, [1, 2, 3, 4], workers=2) == [10, 20, 30, 40]
    assert tries(tmp_path) == {1: 1, 2: 1, 3: 2, 4: 1}
    err = capfd.readouterr().err
    assert err.startswith("shard 3 lost its worker (SIGKILL, most often too little memory)")


def test_no_two_workers_have_the_same_place(tmp_path: Path) -> None:
    assert sorted(run_shards(partial(own_slot, tmp_path), [1, 2], workers=2)) == [0, 1]
    assert run_shards(partial(own_slot, tmp_path), [1, 2], workers=1) == [0, 0]


def test_who_takes_the_place_of_a_killed_worker_has_its_place(tmp_path: Path) -> None:
    assert {*run_shards(partial(own_slot, tmp_path), [0, 1], workers=2)} <= {0, 1}
    assert tries(tmp_path) == {0: 2, 1: 1}


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_may_count_what_a_shard_stands_for(
    workers: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0)
    asked = {"label": "painting", "unit": "images", "size": abs}
    assert run_shards(square, [3, -2], workers=workers, **asked) == [9, 4]
    assert capsys.readouterr().err.startswith("painting: 5 done in ")


def test_workers_tell_how_far_their_shards_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0)
    run_shards(count_slowly, [3, 4], workers=2, label="painting", unit="images", size=abs)
    done = [line.split()[1] for line in capsys.readouterr().err.splitlines()]
    assert {"1", "2"} & set(done[:3])  # before any shard was through
    assert done[-1] == "7"


def test_a_shard_that_kills_twice_is_named_and_the_others_are_done(tmp_path: Path) -> None:
    line = "shard 3 of 5 killed its worker twice: saw SIGKILL.* what is finished is kept"
    with pytest.raises(RunError, match=line):
        run_shards(partial(always_killed, tmp_path), [1, 2, 3, 4, 5], workers=2)
    assert tries(tmp_path) == {1: 1, 2: 1, 3: 2, 4: 1, 5: 1}


def test_where_every_worker_is_killed_it_is_known_soon(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="shard 1 of 40 killed its worker twice: saw exit code 9"):
        run_shards(partial(never_answers, tmp_path), list(range(40)), workers=2)
    assert sum(tries(tmp_path).values()) <= 6


def test_a_worker_killed_while_idle_is_replaced() -> None:
    with Processes(own_pid, 1) as crew:
        crew.start(0, None)
        ((number, outcome),) = crew.wait()
        os.kill(outcome.value, signal.SIGKILL)
        crew.start(1, None)
        ((number, outcome),) = crew.wait()
        assert (number, outcome.killed.split(",")[0]) == (1, "SIGKILL")
        crew.start(1, None)
        assert crew.wait()[0][1].value > 0


def test_the_first_error_in_order_is_raised(tmp_path: Path) -> None:
    with pytest.raises(SetError, match="saw 1"):
        run_shards(partial(fail_backwards, tmp_path), [1, 2, 3, 4, 5, 6], workers=2)
    assert tries(tmp_path) == {1: 1, 2: 1}


@pytest.mark.parametrize("workers", [1, 2])
def test_what_cannot_be_carried_home_is_an_error_too(workers: int) -> None:
    with pytest.raises((Stubborn, RunError), match="no such luck"):
        run_shards(raise_stubborn, [1, 2], workers=workers)


def test_a_result_that_cannot_be_pickled_is_an_error() -> None:
    with pytest.raises(Exception, match="pickle"):
        run_shards(give_function, [1, 2], workers=2)


class ToyCrew:
    """Works in this process; `deaths` says how often each shard kills its worker first."""

    def __init__(self, size: int, deaths: dict[int, int], seed: int) -> None:
        self.size = size
        self.deaths = deaths
        self.rng = random.Random(seed)
        self.flying: list[int] = []
        self.begun: list[int] = []

    def start(self, number: int, shard: object) -> None:
        assert len(self.flying) < self.size
        self.flying.append(number)
        self.begun.append(number)

    def wait(self) -> list[tuple[int, Outcome]]:
        number = self.flying.pop(self.rng.randrange(len(self.flying)))
        if self.begun.count(number) <= self.deaths.get(number, 0):
            return [(number, Outcome(killed="a toy"))]
        return [(number, Outcome(value=number))]


@given(
    size=st.integers(1, 5),
    shards=st.integers(0, 12),
    deaths=st.dictionaries(st.integers(0, 11), st.integers(0, 3)),
    seed=st.integers(0, 99),
)
def test_each_shard_has_two_lives(
    size: int, shards: int, deaths: dict[int, int], seed: int
) -> None:
    crew = ToyCrew(size, deaths, seed)
    told = dict(outcomes(crew, [None] * shards))
    doomed = {n for n in range(shards) if deaths.get(n, 0) >= 2}
    failed = {n for n, outcome in told.items() if outcome.error}
    assert failed <= doomed
    assert bool(failed) == bool(doomed)
    if doomed:
        assert min(failed) == min(doomed)
    else:
        assert set(told) == set(range(shards))
    for n in range(shards):
        assert crew.begun.count(n) <= min(deaths.get(n, 0), 1) + 1


def test_ctrl_c_ends_everything_at_once(tmp_path: Path) -> None:
    parent = start_script(tmp_path, WAITING)
    workers_ids = running(tmp_path, 2)
    os.killpg(parent.pid, signal.SIGINT)
    _, err = parent.communicate(timeout=30)
    assert parent.returncode != 0
    assert err.count("Traceback") == 1
    assert err.strip().endswith("KeyboardInterrupt")
    assert wait_until(lambda: not any(alive(pid) for pid in workers_ids), 10)


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    parent = start_script(tmp_path, WAITING)
    workers_ids = running(tmp_path, 2)
    parent.kill()
    parent.communicate()
    assert wait_until(lambda: not any(alive(pid) for pid in workers_ids), 10)


def test_no_shards_is_no_work() -> None:
    assert run_shards(square, []) == []


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(InputError, match="expected local or ray, saw abacus"):
        run_shards(square, [1], engine="abacus")


def test_ray_that_is_not_installed_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"Install it: pip install 'headwater\[ray\]'"):
        run_shards(square, [1], engine="ray")


def test_a_negative_number_of_workers_is_refused() -> None:
    with pytest.raises(InputError, match="expected 0 or more, saw -3"):
        run_shards(len, ["a"], workers=-3)
