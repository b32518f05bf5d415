"""Running another process and watching its time and its memory, for benchmarks."""

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

INTERVAL = 0.02  # seconds between two looks at the memory


@dataclass(frozen=True)
class Figures:
    """Of one process: seconds on the clock and of all cores, and peak MB of resident and of anonymous memory.

    `stopped`: it had not ended after its limit, so that all figures are of what it had done by then.
    """

    seconds: float
    cores: float
    resident: float
    anonymous: float
    stopped: bool = False


def measure(command: Sequence[str], folder: Path, limit: float | None = None) -> Figures:
    """Run a process in `folder` and watch it, for at most `limit` seconds; written pages are on disk before it starts."""
    os.sync()
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment)
        with _watched(process.pid) as peaks, _stopping(process.pid, limit) as stopped:
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait for it again
        if process.returncode and not stopped.is_set():
            log.seek(0)
            raise SystemExit(f"{' '.join(command)}\n{log.read().decode()[-2000:]}")
    memory = peaks["VmRSS"] / 1024, peaks["RssAnon"] / 1024
    return Figures(seconds, usage.ru_utime + usage.ru_stime, *memory, stopped.is_set())


@contextmanager
def _stopping(pid: int, limit: float | None) -> Iterator[threading.Event]:
    """Kill the tree of processes after `limit` seconds; the event is set then."""
    stopped = threading.Event()

    def stop() -> None:
        stopped.set()
        for process in list(_tree(pid)):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    timer = threading.Timer(limit or 0, stop)
    if limit is not None:
        timer.start()
    try:
        yield stopped
    finally:
        timer.cancel()


@contextmanager
def _watched(pid: int) -> Iterator[dict[str, int]]:
    """Peak kB of the tree of processes."""
    done, peaks = threading.Event(), {"VmRSS": 0, "RssAnon": 0}

    def watch() -> None:
        while not done.wait(INTERVAL):
            seen = [_memory(process) for process in _tree(pid)]
            for key in peaks:
                peaks[key] = max(peaks[key], sum(memory.get(key, 0) for memory in seen))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peaks
    finally:
        done.set()
        watcher.join()


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _read(children).split():
            yield from _tree(int(child))


def _memory(pid: int) -> dict[str, int]:
    lines = (line.split() for line in _read(Path(f"/proc/{pid}/status")).splitlines())
    return {line[0][:-1]: int(line[1]) for line in lines if line[-1] == "kB"}


def _read(path: Path) -> str:
    """Nothing, once the process has ended."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
