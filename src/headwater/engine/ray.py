"""A crew of Ray tasks: the same shards on as many machines as the cluster has.

Ray moves bytes only; work, shards and outcomes are pickled as for local workers, so errors
arrive as themselves. Files that a shard reads and writes must be where all nodes see them.
"""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from tempfile import gettempdir
from typing import Any
from urllib.parse import urlsplit

from headwater.engine.crew import Outcome, answer
from headwater.engine.local import worker_count
from headwater.errors import InputError, RunError
from headwater.progress import be_quiet

PATIENCE = 10.0  # seconds until a cluster that should be there has answered
IN_FLIGHT = 2  # tasks a CPU or GPU: one runs, one is on its way
DEATHS = {
    "OutOfMemoryError": "too little memory",
    "WorkerCrashedError": "its process died, most often of too little memory",
    "NodeDiedError": "its node died",
    "ObjectLostError": "its node died",
}


class RayTasks:
    """Up to `workers` tasks of one CPU each; by default enough for every CPU of the cluster.

    With `gpu`, tasks of one GPU each, the only one they see, where the cluster has any.
    """

    def __init__(
        self, work: Callable[[Any], Any], workers: int | None, *, gpu: bool = False
    ) -> None:
        self._ray = _import_ray()
        self._work = work
        self._workers = workers
        self._gpu = gpu
        self._flying: dict[Any, int] = {}
        self._open = ExitStack()

    def __enter__(self) -> RayTasks:
        ray = self._ray
        with ExitStack() as stack:
            if not ray.is_initialized():
                # That a worker died, Ray prints on standard output, whatever it is told.
                stack.enter_context(redirect_stdout(io.StringIO()))
                stack.callback(ray.shutdown)
                _connect(ray, self._workers)
            stack.callback(self._cancel)
            gpu = self._gpu and ray.cluster_resources().get("GPU", 0) >= 1
            self.size = _tasks_at_once(ray, self._workers, per="GPU" if gpu else "CPU")
            self._data = ray.put(ray.cloudpickle.dumps(self._work))
            self._task = ray.remote(
                num_cpus=1,
                num_gpus=int(gpu),
                max_retries=0,
                runtime_env={"env_vars": _threads()},
            )(_answer)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def start(self, number: int, shard: object) -> None:
        """Send a shard to the cluster."""
        reference = self._task.remote(self._data, self._ray.cloudpickle.dumps(shard))
        self._flying[reference] = number

    def wait(self) -> list[tuple[int, Outcome]]:
        """The outcomes of the shards that ended; waits for at least one."""
        ready, _ = self._ray.wait(list(self._flying), num_returns=1)
        return [(self._flying.pop(reference), self._take(reference)) for reference in ready]

    def _take(self, reference: Any) -> Outcome:
        try:
            outcome: Outcome = self._ray.cloudpickle.loads(self._ray.get(reference))
        except self._ray.exceptions.RayError as error:
            killed = _how(self._ray.exceptions, error)
            return Outcome(killed=killed) if killed else Outcome(error=_task_failed(error))
        return outcome

    def _cancel(self) -> None:
        for reference in self._flying:
            self._ray.cancel(reference, force=True)


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise InputError(
            "the engine ray needs Ray", do="Install it: pip install 'headwater[ray]'."
        ) from None
    return ray


def _connect(ray: Any, workers: int | None) -> None:
    """To the cluster at RAY_ADDRESS or one that `ray start` left here, else to a new one."""
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
    try:
        _check_cluster()
        try:
            ray.init(num_cpus=worker_count(workers), **quiet)
        except ValueError:  # there is a cluster, with the CPUs it has
            ray.init(**quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            "cannot connect to Ray", seen=str(error), do="`ray status` tells what is running."
        ) from None


def _check_cluster() -> None:
    # For a cluster that is gone Ray itself waits for minutes, and then ends the process.
    address = os.environ.get("RAY_ADDRESS") or _left_running()
    place = urlsplit(address if "://" in address else f"//{address}")
    if not place.hostname or place.port is None:
        return
    try:
        socket.create_connection((place.hostname, place.port), timeout=PATIENCE).close()
    except OSError as error:
        raise InputError(
            "no Ray cluster answers", expected=f"one at {address}", seen=str(error),
            do="Mend or unset RAY_ADDRESS; if it is not set, `ray stop` forgets what ran here.",
        ) from None  # fmt: skip


def _left_running() -> str:
    """The address of the cluster that `ray start` noted on this machine, if any."""
    folder = Path(os.environ.get("RAY_TMPDIR") or gettempdir())
    note = folder / "ray" / "ray_current_cluster"
    return note.read_text().strip() if note.exists() else ""


def _tasks_at_once(ray: Any, workers: int | None, *, per: str = "CPU") -> int:
    there = int(ray.cluster_resources().get(per, 0))
    return worker_count(IN_FLIGHT * there if workers is None else workers)


def _threads() -> dict[str, str]:
    # Ray would give each task one thread; sums of floats depend on it, so what a local worker
    # here would have holds everywhere.
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(worker_count(None))}


def _how(errors: Any, error: BaseException) -> str:
    """How the task's worker ended, or nothing if it did not."""
    hows = (how for name, how in DEATHS.items() if isinstance(error, getattr(errors, name)))
    return next(hows, "")


def _task_failed(error: BaseException) -> RunError:
    return RunError(
        "a Ray task could not run",
        seen=str(getattr(error, "cause", error)),
        do="Every node needs the same Python, headwater and ray, and a way to this machine.",
    )


def _answer(work: bytes, shard: bytes) -> bytes:
    from ray import cloudpickle

    be_quiet()
    return answer(work, shard, dumps=cloudpickle.dumps)
