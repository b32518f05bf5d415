"""Processes that train together, started as launchers and people start them; none outlives a test."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from lightning_embed.cli import entry

ROOT = Path(entry.__file__).parent.parent.parent
PATIENCE = 120  # seconds that a test waits for processes, before it kills them

_OF_LAUNCHERS = ("SLURM_", "TORCHELASTIC_", "LIGHTNING_EMBED_", "MASTER_", "OMPI_", "PMI_", "JSM_", "GROUP_", "ROLE_")
_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "PL_GLOBAL_SEED")
_KEPT = ("LIGHTNING_EMBED_CACHE",)


def environment(**more: str) -> dict[str, str]:
    """The environment of the tests without what a launcher of them has set, one thread for each process."""
    own = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or not (name in _RANKS or name.startswith(_OF_LAUNCHERS))
    }
    return {**own, "OMP_NUM_THREADS": "1", **more}


def free_port() -> str:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


def torchrun(*options: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", *options]


@contextmanager
def started(
    commands: Sequence[Sequence[str]], environments: Sequence[Mapping[str, str]], folder: Path
) -> Iterator[list[subprocess.Popen[str]]]:
    """Start processes in one folder, each in a session of its own; at the end of the block all of them are killed."""
    processes = [
        subprocess.Popen(
            list(command), env=dict(each), cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )
        for command, each in zip(commands, environments, strict=True)
    ]  # fmt: skip
    try:
        yield processes
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.communicate()


def run(
    commands: Sequence[Sequence[str]], environments: Sequence[Mapping[str, str]], folder: Path
) -> list[tuple[int, str, str]]:
    """Run processes to their end. Returns the status, the output and the errors of each."""
    with started(commands, environments, folder) as processes:
        texts = [process.communicate(timeout=PATIENCE) for process in processes]
        return [(process.returncode, *text) for process, text in zip(processes, texts, strict=True)]
