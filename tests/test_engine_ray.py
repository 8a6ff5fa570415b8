"""The engine on a real Ray cluster of two nodes with one CPU each, started on this machine."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from tests.shard_work import (
    ROOT,
    alive,
    always_killed,
    at_once,
    fail_backwards,
    give_function,
    gpu_of,
    killed_at_first,
    lose_node,
    node_of,
    raise_stubborn,
    running,
    square,
    start_script,
    threads,
    tries,
    wait_until,
)
from tests.test_retrieve import files, make_pool

from headwater.engine import run_shards, worker_count
from headwater.errors import InputError, RunError, SetError
from headwater.steps.retrieve import retrieve
from headwater.steps.settings import Retrieval
from headwater.task import load_task

ray = pytest.importorskip("ray")

QUIET = {"include_dashboard": False, "object_store_memory": 80_000_000}

on_ray = partial(run_shards, engine="ray")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", ROOT)  # so that workers find this module
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **QUIET})
        nodes.add_node(num_cpus=1, **QUIET)
        patch.setenv("RAY_ADDRESS", nodes.address)
        yield nodes
        nodes.shutdown()


def beside_progress(err: str) -> list[str]:
    """What was said but how far it is, which only a slow machine has time to say."""
    return [line for line in err.splitlines() if not line.startswith("shards: ")]


def test_the_same_results_wherever_it_runs() -> None:
    shards = list(range(20))
    here = run_shards(square, shards, workers=1)
    assert here == run_shards(square, shards, workers=2) == on_ray(square, shards)
    assert on_ray(square, []) == []


def test_both_nodes_work(tmp_path: Path) -> None:
    assert len(set(on_ray(partial(node_of, tmp_path), [1, 2]))) == 2


def test_a_shard_may_have_a_gpu_of_its_own(cluster: Any) -> None:
    assert on_ray(square, [1, 2], gpu=True) == [1, 4]  # where there are none, it goes without
    node = cluster.add_node(num_cpus=2, num_gpus=2, **QUIET)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        assert wait_until(lambda: ray.cluster_resources().get("GPU") == 2, 30)
        assert {*on_ray(gpu_of, [1, 2, 3, 4], gpu=True)} <= {"0", "1"}
    finally:
        cluster.remove_node(node)
        gone = wait_until(lambda: "GPU" not in ray.cluster_resources(), 30)
        ray.shutdown()
    assert gone


def test_no_more_at_once_than_asked_for(tmp_path: Path) -> None:
    assert on_ray(partial(at_once, tmp_path), [1, 2, 3, 4], workers=1) == [1, 1, 1, 1]


def test_a_set_is_the_same_to_the_byte(tmp_path: Path) -> None:
    told = {"format": 1, "name": "garden", "classes": ["rose", "fern", "yew"]}
    (tmp_path / "garden.yaml").write_text(yaml.safe_dump(told))
    task, pool = load_task(tmp_path / "garden.yaml"), make_pool(tmp_path / "pool", shards=3)
    how = Retrieval(by="captions")
    retrieve(pool, task, tmp_path / "here", how=how, workers=1)
    retrieve(pool, task, tmp_path / "there", how=how, engine="ray")
    here, there = files(tmp_path / "here"), files(tmp_path / "there")
    assert len([name for name in here if name.endswith(".parquet")]) >= 4
    assert here == there


def test_a_killed_worker_costs_one_shard(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert on_ray(partial(killed_at_first, tmp_path), [1, 2, 3, 4]) == [10, 20, 30, 40]
    assert tries(tmp_path) == {1: 1, 2: 1, 3: 2, 4: 1}
    out, err = capfd.readouterr()
    assert out == ""
    told = beside_progress(err)
    assert len(told) == 1
    assert told[0].startswith("shard 3 lost its worker (its process died, most often of too little")


def test_a_lost_node_costs_one_shard(tmp_path: Path, cluster: Any) -> None:
    work = partial(lose_node, tmp_path, cluster.head_node.node_id)
    try:
        assert on_ray(work, [1, 2]) == [10, 20]
        assert sorted(tries(tmp_path).values()) == [1, 2]
    finally:
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        cluster.add_node(num_cpus=1, **QUIET)


def test_a_shard_that_kills_twice_is_named_and_the_others_are_done(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="shard 3 of 5 killed its worker twice"):
        on_ray(partial(always_killed, tmp_path), [1, 2, 3, 4, 5])
    assert tries(tmp_path) == {1: 1, 2: 1, 3: 2, 4: 1, 5: 1}


def test_the_first_error_in_order_arrives_as_itself(tmp_path: Path) -> None:
    with pytest.raises(SetError) as caught:
        on_ray(partial(fail_backwards, tmp_path), list(range(1, 20)))
    assert type(caught.value) is SetError
    assert str(caught.value) == "failed: saw 1"
    assert len(tries(tmp_path)) < 19


def test_what_cannot_be_carried_home_is_an_error_too() -> None:
    with pytest.raises(RunError, match="Stubborn: no such luck"):
        on_ray(raise_stubborn, [1, 2])


def test_functions_of_a_script_are_carried() -> None:
    # Ray's own pickle takes what plain pickle refuses; nothing breaks on the way back.
    assert on_ray(give_function, [1])[0]() is None


@pytest.mark.parametrize("told", ["3", None])
def test_threads_are_those_of_a_local_worker(
    monkeypatch: pytest.MonkeyPatch, told: str | None
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if told:
        monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert on_ray(threads, [1]) == [told or str(worker_count(None))]


def test_a_connection_is_left_as_it_was_found(cluster: Any) -> None:
    on_ray(square, [1])
    assert not ray.is_initialized()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        assert on_ray(square, [1, 2]) == [1, 4]
        assert ray.is_initialized()
    finally:
        ray.shutdown()


def test_ctrl_c_ends_the_tasks(tmp_path: Path) -> None:
    parent = start_script(
        tmp_path, "run_shards(partial(note_and_wait, folder), [0, 1], engine='ray')"
    )
    pids = running(tmp_path, 2)
    os.killpg(parent.pid, signal.SIGINT)
    _, err = parent.communicate(timeout=30)
    assert parent.returncode != 0
    assert err.strip().endswith("KeyboardInterrupt")
    assert wait_until(lambda: not any(alive(pid) for pid in pids), 20)


def test_without_a_cluster_there_is_one_for_the_call(tmp_path: Path) -> None:
    with TemporaryDirectory(prefix="ray-", dir="/tmp") as short:  # sockets have short names
        call = "run_shards(square, [1, 2], engine='ray', workers=1)"
        where = {"RAY_ADDRESS": "", "RAY_TMPDIR": short, "HOME": str(tmp_path)}
        out, err = start_script(tmp_path, call, **where).communicate(timeout=60)
    assert not beside_progress(err)
    assert out == "[1, 4]\n"
    assert {path.name for path in tmp_path.iterdir()} == {"script.py", ".ray"}


def test_a_cluster_that_is_gone_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(InputError, match=f"no Ray cluster answers: expected one at {address}"):
            on_ray(square, [1])


@pytest.mark.parametrize("address", ["nonsense", "nonsense:port"])
def test_an_address_that_is_none_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InputError, match="cannot connect to Ray: saw"):
        on_ray(square, [1])
