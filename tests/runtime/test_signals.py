"""Signals: the status, the line and the moment of the end, in processes of their own."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_embed.runtime import signals

ROOT = Path(__file__).parent.parent.parent
NAMES = [each.name for each in signals.SIGNALS]

HEAD = """
import os, sys, time, subprocess, weakref
from lightning_embed.runtime import signals
signals.install()
def ready():
    print("ready", flush=True)
"""

SLEEPING = """
signals.started()
try:
    ready(); time.sleep(30)
except signals.Stopped as stop:
    print("closed", flush=True)
    signals.end(stop)
"""

IMPORTING = "ready(); time.sleep(30)"

TRAINING = """
signals.started()
def train():
    with signals.deferred():
        ready()
        for step in range(3000):
            time.sleep(0.01)
            if signals.received():
                raise signals.Stopped(signals.received(), f"at step {step > 0:d} of 3000")
try:
    train()
except signals.Stopped as stop:
    signals.end(stop)
"""

DEAF = """
signals.started(); signals.grace = GRACE
with signals.deferred():
    ready()
    while True:
        time.sleep(0.01)
"""

SWALLOWING = """
signals.started(); signals.grace = 0.3
ready()
while True:
    try:
        time.sleep(30)
    except BaseException:
        pass
"""

DROPPED = """
signals.started()
def slow(*_):
    ready(); time.sleep(0.3)
class Owner:
    if METHOD:
        __del__ = METHOD
try:
    owner = Owner()
    reference = weakref.ref(owner, CALLBACK)
    del owner
    time.sleep(30)
except signals.Stopped as stop:
    print("closed", flush=True)
    signals.end(stop)
"""

FAILING = """
signals.started()
def step():
    with signals.deferred():
        ready()
        while not signals.received():
            time.sleep(0.01)
        raise RuntimeError("a worker was killed")
try:
    signals.stoppable(step)
except signals.Stopped as stop:
    signals.end(stop)
"""

LEADING = """
signals.started()
child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE)
child.stdout.readline(); ready()
try:
    signals.wait(child)
except signals.Stopped as stop:
    print("child", child.returncode, flush=True)
    signals.end(stop)
"""


def _ended(code: str, signum: int, again: float | None = None, **environment: str) -> tuple[int, list[str], list[str]]:
    """The status and the lines on both outputs of a process that gets a signal when it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD + code], cwd=ROOT, env={**os.environ, **environment}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(signum)
    if again is not None:
        time.sleep(again)
        process.send_signal(signum)
    out, errors = process.communicate(timeout=20)
    return process.returncode, out.splitlines(), errors.splitlines()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("code", "place", "output"),
    [
        (SLEEPING, "", ["closed"]),
        (IMPORTING, " at its start", []),
        (TRAINING, " at step 1 of 3000", []),
        (FAILING, "", []),
        (DROPPED.replace("METHOD", "slow").replace("CALLBACK", "None"), "", ["closed"]),
        (DROPPED.replace("METHOD", "None").replace("CALLBACK", "slow"), "", ["closed"]),
        (SWALLOWING, " after its time of grace", []),
        (DEAF.replace("GRACE", "0.3"), " after its time of grace", []),
    ],
    ids=["elsewhere", "importing", "training", "error", "in a destructor", "in a weak reference", "swallowed", "stuck"],
)
def test_each_signal_in_each_phase(name: str, code: str, place: str, output: list[str]) -> None:
    """One line, the status that a shell expects, never 0."""
    signum = getattr(signal, name)
    assert _ended(code, signum) == (128 + signum, output, [f"stopped by {name}{place}; the same command goes on."])


def test_a_second_signal_ends_at_once() -> None:
    code = DEAF.replace("GRACE", "20")
    status, _, errors = _ended(code, signal.SIGINT, again=2.0)
    assert status == 130
    assert errors == [
        "SIGINT: stopping; a second signal ends the run at once",
        "stopped by SIGINT at once; the same command goes on.",
    ]


def test_a_repeated_signal_is_one_signal() -> None:
    """A terminal signals a whole group, and the launcher in it signals its ranks again."""
    assert _ended(TRAINING, signal.SIGTERM, again=0.0)[0] == 143


@pytest.mark.parametrize("rank", ["0", "1"])
def test_only_the_first_rank_reports(rank: str) -> None:
    status, _, errors = _ended(SLEEPING, signal.SIGTERM, LOCAL_RANK=rank)
    assert status == 143
    assert len(errors) == (rank == "0")


def test_signals_are_passed_on() -> None:
    """The leader waits for its follower, and ends with its own line."""
    child = f"CHILD = {HEAD + SLEEPING!r}"
    status, output, errors = _ended(child + LEADING, signal.SIGTERM)
    assert (status, output) == (143, ["child 143"])
    assert errors == ["stopped by SIGTERM; the same command goes on."] * 2


IGNORED = {
    "nohup": "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)",
    "own": "import signal; signal.signal(signal.SIGHUP, lambda *_: print('own', flush=True))",
}


@pytest.mark.parametrize("setting", IGNORED)
def test_handlers_of_the_surroundings_stay(setting: str) -> None:
    code = "signals.started(); ready(); time.sleep(0.5)"
    process = subprocess.Popen(
        [sys.executable, "-c", IGNORED[setting] + HEAD + code], cwd=ROOT, text=True, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=20)[0].split() == (["own"] if setting == "own" else [])
    assert process.returncode == 0


def test_signals_of_others_are_no_limit() -> None:
    """A Python handler of SIGCHLD, as torch has one, reports each worker that ends to the same thread."""
    others = "import signal; signal.signal(signal.SIGUSR2, lambda *_: None)\n"
    many = "for _ in range(3000): os.kill(os.getpid(), signal.SIGUSR2)\n"
    status, _, errors = _ended(others + many + DEAF.replace("GRACE", "0.3"), signal.SIGTERM)
    assert (status, errors) == (143, ["stopped by SIGTERM after its time of grace; the same command goes on."])


def test_a_forked_process_dies_silently_and_alone() -> None:
    code = """
signals.started()
pid = os.fork()
if not pid:
    time.sleep(30)
os.kill(pid, 15)
_, status = os.waitpid(pid, 0)
ready(); time.sleep(0.4)
print(os.WTERMSIG(status), signals.received(), flush=True)
"""
    process = subprocess.run([sys.executable, "-c", HEAD + code], cwd=ROOT, text=True, capture_output=True, timeout=20)
    assert (process.returncode, process.stdout.split(), process.stderr) == (0, ["ready", "15", "0"], "")


def test_a_worker_leaves_signals_to_its_parent() -> None:
    code = "signals.leave_to_parent(); ready(); time.sleep(0.5); print('whole')"
    status, output, _ = _ended(code, signal.SIGTERM)
    assert (status, output) == (0, ["whole"])


@pytest.mark.parametrize("call", [signals.check, signals.received])
def test_without_a_signal_nothing_happens(call: Callable[[], object]) -> None:
    with signals.deferred():
        assert not call()
    assert signals.stoppable(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        signals.stoppable(lambda: 1 // 0)


def test_stopped_survives_pickling() -> None:
    """A worker process of joblib sends it to its parent."""
    stop = pickle.loads(pickle.dumps(signals.Stopped(signal.SIGTERM, "at step 6 of 60")))
    assert (stop.status, str(stop)) == (143, "stopped by SIGTERM at step 6 of 60")
    assert not isinstance(stop, Exception)
