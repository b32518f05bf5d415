"""Signals that end a process: SIGTERM, SIGINT, SIGHUP, and SIGUSR1, by which a scheduler announces a preemption.

One signal stops the process in order, with the status that a shell expects (128 + its number):

    while modules are imported   at once, as while the processes of a training find each other
    inside `deferred()`          at the next `check()`; a training checks after each step, when its checkpoint is saved
    elsewhere                    by the exception `Stopped`, on which files are closed and unfinished folders removed

A thread ends the process after `grace` seconds, or at a second signal, wherever the main thread is: a kill at any moment
loses nothing but time. A handler of the surroundings (nohup, submitit) stays.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from subprocess import Popen
from types import FrameType, SimpleNamespace
from typing import Any, NoReturn, Protocol, TypeVar, runtime_checkable

from lightning_embed.runtime import launched, peers

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1") if hasattr(signal, name))
_AGAIN = 0.05  # seconds until `Stopped` is raised again where Python dropped it
_REPEATED = 1.5  # seconds: a terminal signals all processes of a group, and their launcher signals them again


@runtime_checkable
class HasProcesses(Protocol):
    """An owner of processes, as Lightning's launcher of ranks."""

    procs: list[Any]


grace = 60.0
"""Seconds from a signal to the end of the process."""

launchers: list[HasProcesses] = []
"""Owners of the processes to which a signal is passed on, and which end with this one."""

_received: int | None = None
_is_dropped = False
_deferrals = 0
_is_starting = False
_ending = threading.Lock()
_Result = TypeVar("_Result")


class Stopped(BaseException):
    """The end of a process by a signal; not an `Exception`, so that no handler of errors takes it for one.

    Args:
        signum: number of the signal.
        place: where the run stopped, as "at step 6 of 60"; empty: nowhere in particular.
        by_all: all ranks have agreed to stop, and each ends by itself.
    """

    def __init__(self, signum: int, place: str = "", by_all: bool = False) -> None:
        super().__init__(signum, place, by_all)
        self.signum = signum
        self.place = place
        self.by_all = by_all

    def __str__(self) -> str:
        place = f" {self.place}" if self.place else ""
        return f"stopped by {signal.Signals(self.signum).name}{place}"

    @property
    def status(self) -> int:
        """The exit status of the process."""
        return 128 + self.signum


def install() -> None:
    """Handle the signals in this process, which imports its modules first; in other threads than the main one: nothing."""
    global _is_starting
    if threading.current_thread() is not threading.main_thread() or any(map(_is_ours, SIGNALS)):
        return
    _is_starting = True
    for signum in SIGNALS:
        if signal.getsignal(signum) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(signum, _handle)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    # Blocked meanwhile: a signal to the forked process before it forgets would be reported to this one.
    os.register_at_fork(
        before=lambda: _mask(signal.SIG_BLOCK),
        after_in_parent=lambda: _mask(signal.SIG_UNBLOCK),
        after_in_child=_forget,
    )
    threading.Thread(target=_watch, args=(reader,), daemon=True, name="signals").start()
    sys.unraisablehook = partial(_unraisable, sys.unraisablehook)


def starting() -> None:
    """From now on a signal ends the process at once."""
    global _is_starting
    _is_starting = True


def started() -> None:
    """From now on something may have to be finished, closed or removed after a signal."""
    global _is_starting
    _is_starting = False


def received() -> int:
    """Number of the signal that this process received; 0: none."""
    return _received or 0


def release() -> None:
    """Let the other processes end by themselves. Lightning would kill all, this one too, when the first one ends."""
    for launcher in launchers:
        launcher.procs.clear()


def check() -> None:
    """Raise `Stopped` if a signal was received."""
    if _received is not None:
        raise Stopped(_received)


@contextmanager
def deferred() -> Iterator[None]:
    """Leave a signal to the calls of `check` in the block, and at its end."""
    global _deferrals
    _deferrals += 1
    try:
        yield
    finally:
        _deferrals -= 1
    check()


def stoppable(step: Callable[[], _Result]) -> _Result:
    """Run a step. An error after a signal is one of its effects, as where a worker process was signalled too."""
    try:
        return step()
    except Exception as error:
        if _received is None:
            raise
        raise Stopped(_received) from error


def wait(process: "Popen[Any]") -> int:
    """The exit status of a process, to which signals are passed on meanwhile.

    Raises:
        Stopped: this process received a signal.
    """
    launcher = SimpleNamespace(procs=[process])
    launchers.append(launcher)
    try:
        with deferred():
            return process.wait()
    finally:
        launchers.remove(launcher)


def end(stop: Stopped) -> NoReturn:
    """Report the stop in one line on the standard error, and exit; all ranks stop."""
    line = f"{stop}; the same command goes on."
    if stop.by_all:
        peers.leave()
    peers.fail(stop.status, line)
    _say(line)
    raise SystemExit(stop.status)


def leave_to_parent(*_: object) -> None:
    """Ignore the signals: for workers, which end when their parent does."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


def _followers() -> list[Any]:
    return [process for launcher in launchers for process in launcher.procs]


def _is_ours(signum: int) -> bool:
    return signal.getsignal(signum) is _handle


def _handle(signum: int, _: FrameType | None) -> None:
    global _received, _is_dropped
    if _is_starting:
        _end(signum, "at its start")
    if _is_dropped:
        _is_dropped = False
        raise Stopped(signum)
    if _received is not None:  # the thread counts
        return
    _received = signum
    for process in _followers():
        with suppress(OSError):
            os.kill(process.pid, signum)
    if not _deferrals:
        peers.ending()
        release()
        raise Stopped(signum)


def _unraisable(otherwise: Callable[[Any], object], dropped: Any) -> None:
    """Raise `Stopped` again, soon: Python drops an exception in a destructor or a callback of a weak reference."""
    global _is_dropped
    if not isinstance(dropped.exc_value, Stopped):
        otherwise(dropped)
        return
    _is_dropped = True
    main = threading.main_thread().ident
    assert main is not None, "it has started"
    threading.Timer(_AGAIN, signal.pthread_kill, (main, dropped.exc_value.signum)).start()


def _watch(pipe: int) -> None:
    """End the process `grace` seconds after a signal, or at a second one, even if the main thread never wakes up."""
    signum, begun = _next(pipe, None), time.monotonic()
    while (left := begun + min(_REPEATED, grace) - time.monotonic()) > 0:
        _next(pipe, left)
    if grace > _REPEATED:
        _say(f"{signal.Signals(signum).name}: stopping; a second signal ends the run at once")
    again = 0
    while not again and (left := begun + grace - time.monotonic()) > 0:
        again = _next(pipe, left)
    _end(again or signum, "at once" if again else "after its time of grace")


def _next(pipe: int, seconds: float | None) -> int:
    """Number of the next signal; 0: none came in this time, or one that is not ours."""
    while select.select([pipe], [], [], seconds)[0]:
        (signum,) = os.read(pipe, 1)
        if signum in SIGNALS and _is_ours(signum):
            if _is_starting:
                _end(signum, "at its start")
            return signum
        if seconds is not None:  # the caller counts the time
            return 0
    return 0


def _end(signum: int, how: str) -> None:
    if not _ending.acquire(blocking=False):
        time.sleep(grace)  # the other thread ends the process
    stop = Stopped(signum, how)
    line = f"{stop}; the same command goes on."
    peers.fail(stop.status, line)
    _kill_followers()
    _say(line)
    os._exit(stop.status)


def _kill_followers() -> None:
    for process in _followers():
        with suppress(OSError):
            os.kill(process.pid, signal.SIGKILL)


peers.at_end.append(_kill_followers)


def _say(line: str) -> None:
    if launched.is_first():
        with suppress(OSError):
            os.write(2, f"{line}\n".encode())


def _forget() -> None:
    """In a forked process: the signals end it, without a word."""
    signal.set_wakeup_fd(-1)
    launchers.clear()
    for signum in SIGNALS:
        if _is_ours(signum):
            signal.signal(signum, signal.SIG_DFL)
    _mask(signal.SIG_UNBLOCK)


def _mask(how: int) -> None:
    signal.pthread_sigmask(how, SIGNALS)
