"""The processes of a run watch each other: the end of one, however it comes, ends all, with one sentence.

Every rank holds a connection to rank zero, which a thread reads:

    a rank fails         it says why to rank zero, which prints it; the others end with its status, without a word
    a rank is killed     the system closes its connection: rank zero prints that, and ends all
    rank zero is killed  likewise; rank one prints that
    a machine is lost    packets that keep a connection alive find out in half a minute
    a rank never comes   rank zero, or the rank without a rank zero, prints that

So no rank waits in a collective for one that has ended. Without `watch`, every function does nothing.
"""

import json
import multiprocessing
import os
import secrets
import selectors
import socket
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, NoReturn, Protocol

from lightning_embed.runtime.peer_messages import PATIENCE, connected, keep_alive, line, lost, missing, received

at_end: list[Callable[[], None]] = []
"""Called before this process ends because another one has."""

_KEY, _MOMENT = "watch", 0.5
_watch: "_Watch | None" = None


class Store(Protocol):
    """Texts that all ranks can read, as `torch.distributed.Store`; `get` waits until there is one."""

    def set(self, key: str, value: str, /) -> None:
        """Write a text."""

    def get(self, key: str, /) -> bytes:
        """Read a text."""


def watch(rank: int, world_size: int, store: Store, address: str, expected: Iterable[int]) -> None:
    """Begin to watch, in a thread.

    Args:
        rank: of this process.
        world_size: number of all ranks.
        store: shared by the ranks that `expected` names.
        address: of rank zero's machine, as the others know it.
        expected: ranks that start now; others are announced by `expect`.

    Raises:
        TimeoutError: no connection to rank zero.
    """
    global _watch
    _watch = _First(world_size, store, address, expected) if rank == 0 else _Other(rank, world_size, store)
    threading.Thread(target=_watch.run, daemon=True, name="peers").start()


def expect(ranks: Iterable[int], seconds: float) -> None:
    """These ranks, which this process started, should arrive in this time."""
    if _watch is not None:
        _watch.expect(list(ranks), seconds)


def child_ended(rank: int, pid: int) -> None:
    """A rank that this process started has ended with an error, perhaps before it was connected."""
    watch = _watch
    if watch is None or watch.has_left:
        return
    time.sleep(2 * _MOMENT)  # it may have said why
    text = lost(rank, watch.world_size, f"process {pid}")
    if watch.tell(1, text):
        _say(text)
    _exit(1)


def agree(name: str, value: str) -> bool:
    """Whether rank zero has the same value; it waits for rank zero. True where nobody watches."""
    return _watch is None or _watch.agree(name, value)


def ending() -> None:
    """This process is about to end by itself: let it."""
    if _watch is not None:
        _watch.ending.set()


def fail(status: int, text: str, *, is_cause: bool = True) -> None:
    """End all ranks, because this one failed. It returns where this process has to print `text` itself.

    Args:
        status: exit status of all.
        text: the reason.
        is_cause: False: it may be the effect of the end of another rank, which then has the word.
    """
    if _watch is not None and not _watch.has_left:
        _watch.fail(status, text, is_cause)


def leave() -> None:
    """This process has done its part, and its end is no failure."""
    global _watch
    if _watch is not None:
        _watch.leave()
        _watch = None


class _Watch(ABC):
    def __init__(self, world_size: int, store: Store) -> None:
        self.world_size = world_size
        self.store = store
        self.word = threading.Lock()  # held by whoever says why the run ends
        self.ending = threading.Event()
        self.has_left = False

    @abstractmethod
    def run(self) -> None: ...

    @abstractmethod
    def expect(self, ranks: list[int], seconds: float) -> None: ...

    @abstractmethod
    def agree(self, name: str, value: str) -> bool: ...

    @abstractmethod
    def tell(self, status: int, text: str) -> bool:
        """Let all ranks end. Returns whether this process has to print the reason."""

    @abstractmethod
    def leave(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def fail(self, status: int, text: str, is_cause: bool) -> None:
        if not is_cause:
            time.sleep(2 * _MOMENT)  # the thread ends the process if another rank has ended
        self.ending.set()
        if not self.tell(status, text):
            _exit(status)

    def stop(self, status: int, text: str = "") -> None:
        """End this process, because another rank has ended; unless it is ending by itself."""
        if text and self.word.acquire(blocking=False):
            _say(text)
        if not self.ending.wait(_MOMENT):
            _exit(status)


class _First(_Watch):
    """Rank zero, to which all others are connected."""

    def __init__(self, world_size: int, store: Store, address: str, expected: Iterable[int]) -> None:
        super().__init__(world_size, store)
        self.token = secrets.token_hex()
        self.listener = socket.create_server(("", 0), backlog=world_size)
        self.connections: dict[socket.socket, int] = {}
        self.names: dict[int, str] = {}
        self.awaited: dict[int, float] = {}
        self.expect(expected, PATIENCE)
        place = {"hosts": [address, socket.gethostname()], "port": self.listener.getsockname()[1]}
        store.set(_KEY, json.dumps({**place, "token": self.token}))

    def expect(self, ranks: Iterable[int], seconds: float) -> None:
        for rank in ranks:
            if rank and rank not in self.names:
                self.awaited[rank] = time.monotonic() + seconds

    def agree(self, name: str, value: str) -> bool:
        self.store.set(name, value)
        return True

    def tell(self, status: int, text: str) -> bool:
        del text
        self._send({"end": status})
        return self.word.acquire(blocking=False)

    def leave(self) -> None:
        until = time.monotonic() + 10 * _MOMENT
        while (
            self.awaited and time.monotonic() < until
        ):  # connected, and not accepted yet: it would take this for an end
            time.sleep(0.01)
        self.has_left = True
        self._send({"leave": True})

    def close(self) -> None:
        for each in (self.listener, *self.connections):
            each.close()

    def run(self) -> None:
        with selectors.DefaultSelector() as selector, suppress(OSError):
            selector.register(self.listener, selectors.EVENT_READ)
            while not self.has_left:
                for key, _ in selector.select(_MOMENT):
                    if key.fileobj is self.listener:
                        self._accept(selector)
                    else:
                        self._read(key.fileobj, selector)
                late = [rank for rank, until in self.awaited.copy().items() if time.monotonic() > until]
                if late:
                    self._end(2, missing(late[0], self.world_size))

    def _accept(self, selector: selectors.BaseSelector) -> None:
        connection, _ = self.listener.accept()
        connection.settimeout(_MOMENT)
        hello = received(connection)
        if hello.get("token") != self.token:  # another program
            connection.close()
            return
        connection.settimeout(None)
        keep_alive(connection)
        rank = hello["rank"]
        self.names[rank], self.connections[connection] = hello["name"], rank
        self.awaited.pop(rank, None)
        selector.register(connection, selectors.EVENT_READ)

    def _read(self, connection: Any, selector: selectors.BaseSelector) -> None:
        rank, message = self.connections[connection], received(connection)
        if "expect" in message:
            self.expect(message["expect"], message["seconds"])
            return
        selector.unregister(connection)
        del self.connections[connection]
        if "end" in message:
            self._end(message["end"], message["text"])
        elif "leave" not in message and not self.has_left:
            self._end(1, lost(rank, self.world_size, self.names[rank]))

    def _end(self, status: int, text: str) -> None:
        self._send({"end": status})
        self.stop(status, text)

    def _send(self, message: Mapping[str, Any]) -> None:
        for connection in list(self.connections):
            with suppress(OSError):
                connection.sendall(line(message))


class _Other(_Watch):
    """Another rank, which is connected to rank zero."""

    def __init__(self, rank: int, world_size: int, store: Store) -> None:
        super().__init__(world_size, store)
        self.rank = rank
        place = json.loads(store.get(_KEY))
        hello = {"rank": rank, "token": place["token"], "name": f"{socket.gethostname()}, process {os.getpid()}"}
        self.connection = connected(place["hosts"], place["port"], rank, world_size)
        self.connection.sendall(line(hello))

    def expect(self, ranks: Iterable[int], seconds: float) -> None:
        with suppress(OSError):
            self.connection.sendall(line({"expect": list(ranks), "seconds": seconds}))

    def agree(self, name: str, value: str) -> bool:
        return self.store.get(name).decode() == value

    def tell(self, status: int, text: str) -> bool:
        try:
            self.connection.sendall(line({"end": status, "text": text}))
        except OSError:  # rank zero has ended
            return True
        return False

    def leave(self) -> None:
        self.has_left = True
        with suppress(OSError):
            self.connection.sendall(line({"leave": True}))

    def close(self) -> None:
        self.connection.close()

    def run(self) -> None:
        message = received(self.connection)
        if self.has_left or "leave" in message:
            self.has_left = True
        elif "end" in message:
            self.stop(message["end"])
        else:  # of the ranks that are left, the first has the word
            self.stop(1, lost(0, self.world_size, "the first") if self.rank == 1 else "")


def _say(text: str) -> None:
    with suppress(OSError):
        os.write(2, f"{text}\n".encode())


def _exit(status: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    for call in at_end:
        call()
    for process in multiprocessing.active_children():
        process.kill()
    os._exit(status)


def _forget() -> None:
    """In a forked process, which would keep the connection open after the end of this one."""
    global _watch
    if _watch is not None:
        _watch.close()
        _watch = None


os.register_at_fork(after_in_child=_forget)
