"""The standard streams of a command: closed ones, full ones, and readers that leave, as `head` does."""

import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress

UNREAD = 141  # the exit status of a program that a closed pipe ends, in a shell


def run(command: Callable[[], None]) -> None:
    """Run a command to its last written letter.

    Raises:
        SystemExit: 141, without a message, if nobody reads the output any more; 2 if it cannot be written.
    """
    _complete()
    try:
        command()
    except BrokenPipeError:
        end_if_unread()
        raise
    finally:
        _flush()


def end_if_unread() -> None:
    """End the process without a message if the reader of its output has left; a pipe to elsewhere may break too."""
    if any(map(_is_unread, (1, 2))):
        _silence()
        raise SystemExit(UNREAD)


def _complete() -> None:
    """Open closed streams on the null device: else the first file of a run would get their number, and their text."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", closefd=False))
        elif hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # for letters that a terminal lacks


def _flush() -> None:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        _silence()
        raise SystemExit(UNREAD) from None
    except OSError as error:
        with suppress(OSError):
            print(f"The output cannot be written ({error}).", file=sys.stderr, flush=True)
        _silence()
        raise SystemExit(2) from None


def _is_unread(number: int) -> bool:
    try:
        poll = select.poll()
        poll.register(number, 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (AttributeError, OSError):  # no poll on this system, or no such stream
        return False


def _silence() -> None:
    """Send what is still to be written to the null device, so that the end of the interpreter has nothing to report."""
    null = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(null, number)
    os.close(null)
