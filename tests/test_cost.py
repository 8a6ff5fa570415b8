"""What images cost: counters that start over, cannot be read, or are not there."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.cost import (
    COST,
    SCHEMA,
    Cost,
    Counter,
    Meter,
    cost_table,
    nvml_counters,
    rapl_counters,
    read_costs,
    sum_costs,
    tell_cost,
)
from headwater.engine import run_shards
from headwater.store import NOT_CONTENT, step, write_table
from headwater.summary import costs


def test_seconds_are_those_of_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 107.5])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with Meter(counters=[]) as meter:
        pass
    assert meter.cost(images=3) == Cost(3, 7.5, 0.0, None, "cpu")


@given(st.lists(st.integers(0, 99), min_size=1, max_size=20), st.integers(0, 99))
def test_a_counter_that_starts_over_loses_nothing(used: list[int], start: int) -> None:
    value = start
    with Meter(counters=[Counter(lambda: float(value % 100), period=100.0)]) as meter:
        for joules in used:
            value += joules
            meter.look()
    assert meter.cost(images=1).joules == sum(used)


@pytest.mark.parametrize("readings", [[5.0, 3.0], [5.0, 3.0, 9.0], [5.0], []])
def test_a_counter_that_fails_or_was_reset_tells_nothing(readings: list[float]) -> None:
    told = iter(readings)  # at its end, reading raises StopIteration
    with Meter(counters=[Counter(lambda: next(told)), Counter(lambda: 0.0)]) as meter:
        meter.look()
    assert meter.cost(images=1).joules is None


def zone(powercap: Path, place: str, name: str, energy: int, period: int = 1000) -> Path:
    folder = powercap / place
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{energy * 1_000_000}\n")
    (folder / "max_energy_range_uj").write_text(f"{period * 1_000_000}\n")
    return folder


def test_the_packages_of_a_machine_are_counted_once(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0", 990)
    zone(tmp_path, "intel-rapl:0:0", "core", 500)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 10)
    zone(tmp_path, "intel-rapl:2", "psys", 7)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 990)
    with Meter(counters=rapl_counters(tmp_path)) as meter:
        (first / "energy_uj").write_text("5000000")
        (second / "energy_uj").write_text("14000000")
    assert meter.cost(images=1).joules == pytest.approx(15 + 4)


@pytest.mark.parametrize("hurt", ["unreadable", "gone", "garbage"])
def test_a_package_that_may_not_be_read_makes_all_of_them_unknown(
    tmp_path: Path, hurt: str
) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    energy = zone(tmp_path, "intel-rapl:1", "package-1", 1) / "energy_uj"
    energy.unlink()
    if hurt == "unreadable":
        energy.mkdir()  # root reads any file, but no folder
    elif hurt == "garbage":
        energy.write_text("none")
    assert rapl_counters(tmp_path) == []


def test_a_machine_without_counters_is_unknown(tmp_path: Path) -> None:
    assert rapl_counters(tmp_path / "nothing") == []


class Nvml(SimpleNamespace):
    """The few functions of `pynvml` that are asked."""

    def __init__(self, **millijoules: int) -> None:
        super().__init__(
            nvmlInit=lambda: None,
            nvmlDeviceGetHandleByUUID=lambda uuid: uuid.removeprefix("GPU-"),
            nvmlDeviceGetTotalEnergyConsumption=lambda handle: self.millijoules[handle],
        )
        self.millijoules = millijoules


def test_only_the_gpus_in_use_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml(one=5_000, other=70_000)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with Meter(counters=nvml_counters(["one"])) as meter:
        nvml.millijoules = {"one": 8_500, "other": 99_000}
    assert meter.cost(images=1).joules == 3.5


def test_a_gpu_that_does_not_tell_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(one=1))
    assert nvml_counters(["one", "too old"]) == []
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as if it were not installed
    assert nvml_counters(["one"]) == []


def joules_of_a_worker(_: int) -> float | None:
    with Meter() as meter:
        pass
    return meter.cost(images=0).joules


def test_the_machine_s_joules_are_nobody_s_of_several_workers() -> None:
    assert run_shards(joules_of_a_worker, [1, 2], workers=2) == [None, None]


def test_costs_are_read_summed_and_told(tmp_path: Path) -> None:
    assert "cost.parquet" in NOT_CONTENT
    known, unknown = Cost(8, 4.0, 4.0, 36_000.0, "A"), Cost(2, 1.0, 1.0, None, "B")
    write_table(tmp_path / COST, cost_table([(0, known), (2, unknown)]))
    told = read_costs(tmp_path)
    assert told["part"].to_list() == [0, 2]
    total = sum_costs(told)
    assert total == Cost(10, 5.0, 5.0, None, "A, B")
    assert tell_cost(total) == "10 images, 2 images/s, 5 GPU seconds (A, B)"
    first = sum_costs(told.head(1))
    assert first is not None
    assert tell_cost(first) == "8 images, 2 images/s, 4 GPU seconds, 0.01 kWh (A)"


def test_no_costs_are_no_costs(tmp_path: Path) -> None:
    assert sum_costs(read_costs(tmp_path)) is None
    write_table(tmp_path / COST, pl.DataFrame({"folder": ["a study's own"]}))
    assert read_costs(tmp_path).schema == SCHEMA
    (tmp_path / COST).write_bytes(b"half a file")
    assert read_costs(tmp_path).is_empty()


def test_a_study_tells_what_its_sets_cost(tmp_path: Path) -> None:
    for name in ("painted", "found"):
        with step(tmp_path / name, name, arguments={}):
            pass
    parts = [(0, Cost(8, 4.0, 4.0, 500.0, "A")), (1, Cost(2, 1.0, 1.0, 100.0, "B"))]
    write_table(tmp_path / "painted" / COST, cost_table(parts))
    table = costs(tmp_path)
    write_table(tmp_path / COST, table)  # where a study has its own
    assert costs(tmp_path).equals(table)
    told = table.select("folder", "images", "gpu_seconds", "joules").rows()
    assert told == [("found", None, None, None), ("painted", 10, 5.0, 600.0)]
