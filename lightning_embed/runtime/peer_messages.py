"""What the processes of a run send each other while they watch each other, and what they say at the end of one."""

import json
import socket
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

PATIENCE = 60.0
"""Seconds that ranks wait for each other at their start."""

_PAUSE = 0.5  # seconds between two attempts
_KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 30_000}


def lost(rank: int, world_size: int, name: str) -> str:
    """The sentence for a rank whose connection was closed."""
    return (
        f"TrainingError: rank {rank} of {world_size} ({name}) ended without a word, as one does that is killed, or that "
        "runs out of memory. All ranks are stopped; the same command goes on from the last checkpoint."
    )


def missing(rank: int, world_size: int) -> str:
    """The sentence for a rank that never came."""
    return (
        f"ConfigError: rank {rank} of {world_size} did not arrive within {PATIENCE:.0f} seconds. Start the command on "
        "every machine, with the same MASTER_ADDR and MASTER_PORT, and a NODE_RANK for each (docs/cluster.md)."
    )


def unreachable(address: str, port: int, rank: int, world_size: int) -> TimeoutError:
    """The error of a rank that does not find rank zero."""
    return TimeoutError(
        f"Rank {rank} of {world_size} found no rank zero at {address}:{port} within {PATIENCE:.0f} seconds. Start the "
        "command on every machine; MASTER_ADDR and MASTER_PORT name the first one and a free port of it (docs/cluster.md)."
    )


def connected(hosts: Iterable[str], port: int, rank: int, world_size: int) -> socket.socket:
    """A connection to rank zero, by the first of its names that answers.

    Raises:
        TimeoutError: none does.
    """
    begun, names = time.monotonic(), list(hosts)
    while time.monotonic() < begun + PATIENCE:
        for host in names:
            with suppress(OSError):
                connection = socket.create_connection((host, port), timeout=5)
                connection.settimeout(None)
                keep_alive(connection)
                return connection
        time.sleep(_PAUSE)
    raise unreachable(names[0], port, rank, world_size)


def keep_alive(connection: socket.socket) -> None:
    """Let the system find out that the other machine is lost, in half a minute."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def line(message: Mapping[str, Any]) -> bytes:
    """A message as it is sent."""
    return json.dumps(message).encode() + b"\n"


def received(connection: socket.socket) -> dict[str, Any]:
    """The next line of a connection; empty: it was closed, or what came is none of ours."""
    found = bytearray()
    with suppress(OSError, ValueError):
        while not found.endswith(b"\n"):
            if not (byte := connection.recv(1)):
                return {}
            found += byte
        message = json.loads(found)
        return message if isinstance(message, dict) else {}
    return {}
