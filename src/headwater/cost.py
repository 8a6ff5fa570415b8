"""What making images costs: seconds, GPU seconds, and joules where the hardware tells.

A GPU's joules are those of its own counter, which NVML reads (with `pynvml`, if it is there); a
CPU's are those of its packages, which Linux shows as RAPL to those it lets. Nothing here fails
because nothing tells: unknown is null. Costs differ from run to run, so `cost.parquet` is no
content of a set (store.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self

import polars as pl

from headwater.engine import in_worker

COST = "cost.parquet"
SCHEMA = {
    "part": pl.Int64,
    "images": pl.Int64,
    "seconds": pl.Float64,
    "gpu_seconds": pl.Float64,
    "joules": pl.Float64,
    "device": pl.String,
}
"""The columns of a set's `cost.parquet`, one row a part."""

POWERCAP = Path("/sys/class/powercap")
JOULES_A_KWH = 3_600_000


class Cost(NamedTuple):
    """What something took."""

    images: int
    seconds: float
    gpu_seconds: float
    joules: float | None
    """None where nothing tells."""
    device: str
    """The GPU's name, or "cpu"."""


class Counter(NamedTuple):
    """Energy since some beginning: ever more, until a counter of `period` starts over."""

    read: Callable[[], float]
    period: float | None = None
    unit: float = 1.0  # joules


class Meter:
    """Measures what a block of code takes on one device.

    Args:
        device: as torch names it.
        counters: of its joules; None: those of the device.

    Example:
        >>> steps = iter([100.0, 250.0, 30.0])
        >>> with Meter(counters=[Counter(lambda: next(steps), period=300)]) as meter:
        ...     meter.look()  # at least once a period
        >>> meter.cost(images=2).joules
        230.0
    """

    def __init__(self, device: str = "cpu", *, counters: Sequence[Counter] | None = None) -> None:
        self.device = device
        self._counters = counters_of(device) if counters is None else counters
        self._before: list[float] = []
        self._joules: float | None = 0.0 if self._counters else None
        self._began = self._seconds = 0.0

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._before = self._read()
        return self

    def __exit__(self, *_: object) -> None:
        self.look()
        self._seconds = time.monotonic() - self._began

    def look(self) -> None:
        """Read the counters; often enough, so that none starts over twice in between."""
        now = self._read()
        for counter, before, after in zip(self._counters, self._before, now, strict=False):
            used = after - before
            used += counter.period if used < 0 and counter.period else 0
            # A counter that goes back without a period was reset: nobody knows what was used.
            lost = used < 0 or self._joules is None
            self._joules = None if lost else (self._joules or 0) + used * counter.unit
        self._before = now

    def cost(self, *, images: int) -> Cost:
        """What the block took, once it has ended."""
        on_gpu = self.device.startswith("cuda")
        gpu_seconds = self._seconds if on_gpu else 0.0
        return Cost(images, self._seconds, gpu_seconds, self._joules, device_name(self.device))

    def _read(self) -> list[float]:
        if self._joules is None:
            return []
        try:
            return [counter.read() for counter in self._counters]
        except Exception:  # a driver that went away raises errors of its own
            self._joules = None
            return []


def counters_of(device: str) -> list[Counter]:
    """What tells the joules of a device; nothing where that cannot be told apart.

    The counters of a CPU are of the whole machine, so of a worker beside others they tell nothing.
    """
    if device.startswith("cuda"):
        return nvml_counters([_uuid(device)])
    return [] if in_worker() else rapl_counters()


def nvml_counters(uuids: Sequence[str]) -> list[Counter]:
    """The energy counters of GPUs by UUID; none without `pynvml`, or if one of them has none."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}") for uuid in uuids]
        tell = pynvml.nvmlDeviceGetTotalEnergyConsumption
        counters = [Counter(partial(tell, handle), unit=1e-3) for handle in handles]
        for counter in counters:
            counter.read()
    except Exception:  # no such module, no driver, a GPU too old or divided
        return []
    return counters


def rapl_counters(powercap: Path = POWERCAP) -> list[Counter]:
    """The energy counters of all CPU packages; none if one of them may not be read.

    Zones inside a package, and `psys`, which is around it, would count the same joules twice.
    """
    try:
        zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if _is_package(zone)]
        counters = [
            Counter(
                partial(_number, zone / "energy_uj"),
                period=_number(zone / "max_energy_range_uj"),
                unit=1e-6,
            )
            for zone in zones
        ]
        for counter in counters:
            counter.read()
    except (OSError, ValueError):  # only root may read it, on most systems
        return []
    return counters


def device_name(device: str) -> str:
    """What a device is called; "cpu" says nothing of which.

    Example:
        >>> device_name("cpu")
        'cpu'
    """
    if not device.startswith("cuda"):
        return device
    import torch

    return torch.cuda.get_device_name(device)


def cost_table(costs: Sequence[tuple[int, Cost]]) -> pl.DataFrame:
    """Costs by part, as `cost.parquet` has them.

    Example:
        >>> cost_table([(0, Cost(8, 4.0, 4.0, None, "NVIDIA H100"))]).row(0)
        (0, 8, 4.0, 4.0, None, 'NVIDIA H100')
    """
    return pl.DataFrame([(part, *cost) for part, cost in costs], schema=SCHEMA, orient="row")


def read_costs(folder: Path) -> pl.DataFrame:
    """The costs of a set by part; no rows where it has none, or none that can be read."""
    try:
        costs = pl.read_parquet(folder / COST)
    except (OSError, pl.exceptions.PolarsError):
        return pl.DataFrame(schema=SCHEMA)
    return costs if costs.schema == SCHEMA else pl.DataFrame(schema=SCHEMA)


def sum_costs(costs: pl.DataFrame) -> Cost | None:
    """All parts together; None without parts, and joules unknown where one of them is unknown.

    Example:
        >>> one, other = Cost(8, 4.0, 4.0, 900.0, "gpu"), Cost(2, 1.0, 1.0, 250.0, "gpu")
        >>> sum_costs(cost_table([(0, one), (1, other)])).joules
        1150.0
    """
    if costs.is_empty():
        return None
    joules = None if costs["joules"].null_count() else float(costs["joules"].sum())
    devices = ", ".join(costs["device"].unique().sort())
    images, seconds, gpu = (costs[name].sum() for name in ("images", "seconds", "gpu_seconds"))
    return Cost(int(images), float(seconds), float(gpu), joules, devices)


def tell_cost(cost: Cost) -> str:
    """A cost in one line; the rate is that of one device.

    Example:
        >>> tell_cost(Cost(1000, 500.0, 500.0, 180_000.0, "NVIDIA H100"))
        '1,000 images, 2 images/s, 500 GPU seconds, 0.05 kWh (NVIDIA H100)'
        >>> tell_cost(Cost(10, 40.0, 0.0, None, "cpu"))
        '10 images, 0.25 images/s (cpu)'
    """
    told = [f"{cost.images:,} images", f"{cost.images / max(cost.seconds, 1e-9):.3g} images/s"]
    if cost.gpu_seconds:
        told.append(f"{cost.gpu_seconds:,.0f} GPU seconds")
    if cost.joules is not None:
        told.append(f"{cost.joules / JOULES_A_KWH:.2g} kWh")
    return f"{', '.join(told)} ({cost.device})"


def _uuid(device: str) -> str:
    import torch

    return str(getattr(torch.cuda.get_device_properties(device), "uuid", "unknown"))


def _is_package(zone: Path) -> bool:
    return (zone / "name").read_text().startswith("package")


def _number(path: Path) -> float:
    return float(path.read_text())
