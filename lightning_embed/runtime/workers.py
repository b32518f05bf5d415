"""Worker processes that map a function over items, with the results in the order of the items.

They are started afresh and speak through pipes: nothing of this process is forked (threads, locks, a GPU), the user's
script is not imported again, and a worker ends with this process, however it ends.
"""

import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain, cycle, islice
from typing import Any, Generic, TypeVar

from lightning_embed.runtime import signals

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_START = "from lightning_embed.runtime.workers import _serve; _serve()"


class WorkerDied(RuntimeError):
    """A worker process ended without a result."""


def in_order(work: Callable[[_Item], _Result], items: Iterable[_Item], workers: int, own: int = 0) -> Iterator[_Result]:
    """`work(item)` of each item, in their order; at most one item waits in each worker.

    What `items` raises is raised after the results of the items before it.

    Args:
        work: picklable; what it raises is raised here.
        items: picklable, from `own` on.
        workers: number of processes; below 2: none, this process works alone.
        own: number of items that this process works on itself, before it starts the workers: for few items, none start.

    Raises:
        WorkerDied: a worker was killed, or could not start.
    """
    items = iter(items)
    yield from map(work, islice(items, own) if workers > 1 else items)
    for following in items:
        yield from _mapped(work, chain([following], items), workers)


def _mapped(work: Callable[[_Item], _Result], items: Iterator[_Item], workers: int) -> Iterator[_Result]:
    with ExitStack() as stack:
        started = [stack.enter_context(_started(work)) for _ in range(workers)]
        waiting: deque[_Worker[_Item, _Result]] = deque()
        error: Exception | None = None
        for worker in cycle(started):
            if len(waiting) == workers or error is not None:
                if not waiting:
                    raise error or AssertionError
                yield waiting.popleft().receive()
            if error is None:
                try:
                    worker.send(next(items))
                    waiting.append(worker)
                except WorkerDied:
                    raise
                except StopIteration:
                    break
                except Exception as raised:
                    error = raised
        for worker in waiting:
            yield worker.receive()


class _Worker(Generic[_Item, _Result]):
    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process

    def send(self, item: Any) -> None:
        assert self.process.stdin is not None
        try:
            pickle.dump(item, self.process.stdin, pickle.HIGHEST_PROTOCOL)
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None

    def receive(self) -> _Result:
        assert self.process.stdout is not None
        try:
            is_result, value = pickle.load(self.process.stdout)
        except (EOFError, pickle.UnpicklingError):
            raise self._died() from None
        if is_result:
            return value  # type: ignore[no-any-return]
        raise value

    def _died(self) -> WorkerDied:
        return WorkerDied(f"A worker process ended without a result (exit code {self.process.wait()}).")


@contextmanager
def _started(work: Callable[[_Item], _Result]) -> Iterator[_Worker[_Item, _Result]]:
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)  # this process may have added some
    process = subprocess.Popen(
        [sys.executable, "-c", _START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""},
    )
    worker: _Worker[_Item, _Result] = _Worker(process)
    try:
        worker.send(work)
        yield worker
    finally:
        process.kill()
        for pipe in (process.stdin, process.stdout):
            with suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]
        process.wait()


def _serve() -> None:
    """Answer items from standard input until it ends; what else writes to standard output goes to the errors."""
    signals.leave_to_parent()
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        requests = sys.stdin.buffer
        work = pickle.load(requests)
        while True:
            try:
                item = pickle.load(requests)
            except EOFError:
                return
            try:
                answer = pickle.dumps((True, work(item)), pickle.HIGHEST_PROTOCOL)
            except Exception as error:
                answer = pickle.dumps((False, error), pickle.HIGHEST_PROTOCOL)
            answers.write(answer)
            answers.flush()
