"""What the engine's tests have done to a shard; light, since every worker imports it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from headwater.engine import worker_slot
from headwater.engine.local import TELL_EVERY
from headwater.errors import SetError
from headwater.progress import track

ROOT = str(Path(__file__).parents[1])


def square(x: int) -> int:
    return x * x


def fail_on_three(x: int) -> int:
    if x == 3:
        raise SetError("three", expected="not three", seen="3")
    return x


def begin(folder: Path, x: int) -> int:
    """Leave a mark for every try; how many there were before."""
    before = len(list(folder.glob(f"{x}-*")))
    (folder / f"{x}-{before}").touch()
    return before


def tries(folder: Path) -> dict[int, int]:
    return Counter(int(path.name.split("-")[0]) for path in folder.glob("*-*"))


def killed_at_first(folder: Path, x: int) -> int:
    if begin(folder, x) == 0 and x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return 10 * x


def always_killed(folder: Path, x: int) -> None:
    begin(folder, x)
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)


def never_answers(folder: Path, x: int) -> None:
    begin(folder, x)
    os._exit(9)


def fail_backwards(folder: Path, x: int) -> None:
    """Both of the first two fail, the second first."""
    begin(folder, x)
    if x == 1:
        wait_until((folder / "2-0").exists, 60)
        time.sleep(0.3)
    raise SetError("failed", seen=str(x))


class Stubborn(Exception):  # noqa: N818
    """Can be pickled, but not unpickled."""

    def __init__(self, one: str, *, two: int) -> None:
        super().__init__(one)


def raise_stubborn(_: int) -> None:
    raise Stubborn("no such luck", two=2)


def give_function(_: int) -> object:
    return lambda: None


def own_pid(_: object) -> int:
    return os.getpid()


def own_slot(folder: Path, x: int) -> int:
    """The place of this worker; the first one for shard 0 is killed while another works."""
    before = begin(folder, x)
    wait_until(lambda: len(tries(folder)) > 1, 60)
    if x == before == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return worker_slot()


def count_slowly(x: int) -> None:
    for _ in track(range(x), label="inside", unit="images"):
        time.sleep(TELL_EVERY)


def note(folder: Path, x: int) -> int:
    (folder / f"{x}.txt").write_text(str(os.getpid()))
    return x


def wait_until(happened: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not happened():
        time.sleep(0.02)
    return happened()


def note_and_wait(folder: Path, x: int) -> None:
    note(folder, x)
    time.sleep(120)


def node_of(folder: Path, x: int) -> str:
    """The node that works on `x`, once another works on the other shard."""
    (folder / f"{x}.txt").touch()
    assert wait_until(lambda: len(list(folder.glob("*.txt"))) == 2, 60)
    import ray

    return str(ray.get_runtime_context().get_node_id())


def lose_node(folder: Path, head: str, x: int) -> int:
    """Kills its node, unless that is the head, once another node works on the other shard."""
    import ray

    begin(folder, x)
    assert wait_until(lambda: len(tries(folder)) == 2, 60)
    if ray.get_runtime_context().get_node_id() != head:
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    return 10 * x


def gpu_of(_: int) -> str:
    return os.environ.get("CUDA_VISIBLE_DEVICES", "")


def threads(_: int) -> str:
    return os.environ["OMP_NUM_THREADS"]


def at_once(folder: Path, x: int) -> int:
    """How many shards are worked on, this one included."""
    mark = folder / str(x)
    mark.touch()
    wait_until(lambda: len(list(folder.iterdir())) > 1, 0.2)
    count = len(list(folder.iterdir()))
    mark.unlink()
    return count


def running(folder: Path, workers: int) -> list[int]:
    """The ids of the script's workers, once all of them are at work."""
    notes = [folder / f"{number}.txt" for number in range(workers)]
    assert wait_until(lambda: all(path.exists() and path.read_text() for path in notes), 60)
    return [int(path.read_text()) for path in notes]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def start_script(folder: Path, call: str, **env: str) -> subprocess.Popen[str]:
    """A script, in a session of its own, that prints what `call` returns."""
    script = folder / "script.py"
    script.write_text(
        f"""if True:
        from functools import partial
        from pathlib import Path
        from headwater.engine import local, run_shards
        from tests.shard_work import note_and_wait, square
        folder = Path({str(folder)!r})
        local.PRELOAD = []
        if __name__ == "__main__":
            print({call})
    """
    )
    return subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": ROOT, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
