"""Worker processes: results in the order of the items, errors where they belong, nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightning_embed.errors import DataError
from lightning_embed.runtime.workers import WorkerDied, in_order

ROOT = Path(__file__).parents[2]


def squared(number: int) -> int:
    if number == 13:
        raise DataError("thirteen")
    if number == 66:
        os.kill(os.getpid(), signal.SIGKILL)
    print("a word on standard output")
    time.sleep(0.002 * (number % 3))
    return number * number


def failing_after(count: int) -> Iterator[int]:
    yield from range(count)
    raise DataError("the source broke")


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 12])
@pytest.mark.parametrize(("workers", "own"), [(1, 0), (2, 0), (2, 3)])
def test_results_are_in_order(count: int, workers: int, own: int) -> None:
    assert list(in_order(squared, iter(range(count)), workers, own)) == [n * n for n in range(count)]


def test_few_items_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    assert list(in_order(squared, range(5), 4, own=5)) == [0, 1, 4, 9, 16]
    assert list(in_order(squared, range(5), 1)) == [0, 1, 4, 9, 16]


@pytest.mark.parametrize(
    ("count", "source", "before", "error"),
    [(20, "ends", 13, "thirteen"), (14, "ends", 13, "thirteen"), (3, "breaks", 3, "broke"), (0, "breaks", 0, "broke"),
     (15, "breaks", 13, "thirteen")],
)  # fmt: skip
@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_comes_after_the_results_before_it(
    count: int, source: str, before: int, error: str, workers: int
) -> None:
    """Of a source that breaks after an item that fails, the failure comes first, as without workers."""
    found = in_order(squared, range(count) if source == "ends" else failing_after(count), workers)
    for number in range(before):
        assert next(found) == number * number
    with pytest.raises(DataError, match=error):
        next(found)


def test_a_killed_worker_is_named() -> None:
    with pytest.raises(WorkerDied, match=r"exit code -9"):
        list(in_order(squared, [1, 66, 2, 3, 4], 2))


def test_workers_end_with_this_process(tmp_path: Path) -> None:
    """However it ends: by SIGKILL, it can tell nobody."""
    script = tmp_path / "script.py"  # without `if __name__ == "__main__"`: it is not imported again
    script.write_text(
        "from itertools import count\n"
        "from lightning_embed.runtime.workers import in_order\n"
        "for value in in_order(abs, count(), 2):\n"
        "    if value == 5:\n"
        "        print('ready', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
    assert len(children) == 2
    deadline = time.monotonic() + 10
    while any(_is_alive(int(pid)) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_is_alive(int(pid)) for pid in children)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
