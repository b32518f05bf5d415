"""The watch of ranks over each other, in processes without torch: who ends, with which status, and who says it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

HEAD = """
import os, sys, time, signal
from pathlib import Path
from lightning_embed.runtime import peer_messages, peers, signals
class Store:  # a folder
    def set(self, key, value):
        Path(key + ".new").write_text(value); os.replace(key + ".new", key)
    def get(self, key):
        while not Path(key).exists(): time.sleep(0.01)
        return Path(key).read_bytes()
rank, size, expected = int(sys.argv[1]), int(sys.argv[2]), [int(each) for each in sys.argv[3].split(",")]
signals.install(); signals.started()
peers.PATIENCE = peer_messages.PATIENCE = 1.0
peers.watch(rank, size, Store(), "127.0.0.1", expected)
def ready():
    Store().set(f"ready-{rank}", "")
    for other in range(size): Store().get(f"ready-{other}")
"""
SLEEPS = "ready(); time.sleep(30)"
LEAVES = "ready(); peers.leave(); time.sleep(0.3)"


@contextmanager
def _ranks(
    folder: Path, *bodies: str, expected: str = "0,1,2", before: str = ""
) -> Iterator[list[subprocess.Popen[str]]]:
    head = HEAD.replace("signals.install()", f"{before}\nsignals.install()")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", head + body, str(rank), str(len(bodies)), expected],
            cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, stderr=subprocess.PIPE,
        )
        for rank, body in enumerate(bodies)
    ]  # fmt: skip
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _ended(processes: list[subprocess.Popen[str]]) -> tuple[list[int], list[str]]:
    """The status of each, and all lines that were said."""
    errors = [process.communicate(timeout=20)[1] for process in processes]
    return [process.returncode for process in processes], [line for text in errors for line in text.splitlines()]


def _wait_until_ready(folder: Path, number: int) -> None:
    until = time.monotonic() + 20
    while not all((folder / f"ready-{rank}").exists() for rank in range(number)):
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("killed", [0, 1, 2])
def test_a_killed_rank_ends_all_with_one_sentence(tmp_path: Path, killed: int) -> None:
    with _ranks(tmp_path, SLEEPS, SLEEPS, SLEEPS) as processes:
        _wait_until_ready(tmp_path, 3)
        processes[killed].kill()
        begun = time.monotonic()
        statuses, said = _ended(processes)
        assert time.monotonic() - begun < 5
    assert statuses == [-signal.SIGKILL if rank == killed else 1 for rank in range(3)]
    assert len(said) == 1
    assert f"rank {killed} of 3" in said[0]
    assert "ended without a word" in said[0]


@pytest.mark.parametrize("stopped", [0, 1])
def test_a_signal_to_one_rank_ends_all_with_its_status(tmp_path: Path, stopped: int) -> None:
    body = "try:\n    ready(); time.sleep(30)\nexcept signals.Stopped as stop:\n    signals.end(stop)"
    with _ranks(tmp_path, body, body, body) as processes:
        _wait_until_ready(tmp_path, 3)
        processes[stopped].terminate()
        assert _ended(processes) == ([143, 143, 143], ["stopped by SIGTERM; the same command goes on."])


@pytest.mark.parametrize("failing", [0, 2])
def test_the_failure_of_one_rank_is_said_once(tmp_path: Path, failing: int) -> None:
    fails = "ready(); peers.fail(2, 'DataError: row 7'); print('DataError: row 7', file=sys.stderr); sys.exit(2)"
    with _ranks(tmp_path, *(fails if rank == failing else SLEEPS for rank in range(3))) as processes:
        assert _ended(processes) == ([2, 2, 2], ["DataError: row 7"])


def test_ranks_that_fail_alike_say_it_once(tmp_path: Path) -> None:
    fails = "ready(); peers.fail(2, 'DataError: row 7'); print('DataError: row 7', file=sys.stderr); sys.exit(2)"
    with _ranks(tmp_path, fails, fails, fails) as processes:
        assert _ended(processes) == ([2, 2, 2], ["DataError: row 7"])


def test_the_effect_of_an_end_has_no_word(tmp_path: Path) -> None:
    """A collective fails where a rank has ended: that is not said."""
    effect = "ready(); Store().get('gone'); peers.fail(1, 'RuntimeError', is_cause=False); print('x', file=sys.stderr)"
    with _ranks(tmp_path, effect, effect, "ready(); Store().set('gone', ''); os._exit(3)") as processes:
        statuses, said = _ended(processes)
    assert statuses == [1, 1, 3]
    assert len(said) == 1
    assert "rank 2 of 3" in said[0]


def test_a_rank_that_never_comes(tmp_path: Path) -> None:
    with _ranks(tmp_path, "time.sleep(30)", "time.sleep(30)", expected="0,1,2") as processes:
        statuses, said = _ended(processes)
    assert statuses == [2, 2]
    assert len(said) == 1
    assert "rank 2 of 2 did not arrive within 1 seconds" in said[0]


def test_those_who_leave_end_nobody(tmp_path: Path) -> None:
    with _ranks(tmp_path, LEAVES, LEAVES, LEAVES) as processes:
        assert _ended(processes) == ([0, 0, 0], [])


def test_the_first_leaves_before_it_has_accepted_the_others(tmp_path: Path) -> None:
    """On a busy machine its thread may be late; without a farewell the others would take its end for a failure."""
    late = (
        "peers._First._accept = lambda self, selector, own=peers._First._accept: (time.sleep(0.3), own(self, selector))"
    )
    stays = "ready(); time.sleep(1.5); peers.leave()"
    with _ranks(tmp_path, LEAVES, stays, stays, before=late) as processes:
        assert _ended(processes) == ([0, 0, 0], [])


def test_a_forked_process_keeps_no_connection(tmp_path: Path) -> None:
    forks = "ready()\nif os.fork() == 0:\n    time.sleep(3); os._exit(0)\ntime.sleep(30)"
    with _ranks(tmp_path, SLEEPS, forks, SLEEPS) as processes:
        _wait_until_ready(tmp_path, 3)
        time.sleep(0.2)
        processes[1].kill()
        begun = time.monotonic()
        assert processes[0].wait(20) == 1
        assert time.monotonic() - begun < 2


@pytest.mark.parametrize("parent", [0, 1])
def test_a_child_that_ends_before_it_is_connected(tmp_path: Path, parent: int) -> None:
    bodies = ["time.sleep(30)", "time.sleep(30)"]
    bodies[parent] = "time.sleep(0.3); peers.expect([2], 30); peers.child_ended(2, 7)"
    with _ranks(tmp_path, *bodies, expected="0,1") as processes:
        statuses, said = _ended(processes)
    assert statuses == [1, 1]
    assert len(said) == 1
    assert "rank 2 of 2 (process 7) ended without a word" in said[0]


def test_ranks_compare_values(tmp_path: Path) -> None:
    first = "peers.agree('identity', 'a'); ready(); peers.leave(); time.sleep(0.3)"
    other = "found = peers.agree('identity', 'a'), peers.agree('identity', 'b')\n"
    other += "ready(); peers.leave(); sys.exit(0 if found == (True, False) else 4)"
    with _ranks(tmp_path, first, other, expected="0,1") as processes:
        assert _ended(processes)[0] == [0, 0]
