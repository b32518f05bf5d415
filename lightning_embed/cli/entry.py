"""Entry points of `python train.py` and `python merge.py`, which start before torch is imported (one second)."""

import atexit
import gc
import glob
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_embed.runtime import signals, streams
from lightning_embed.storage import checksum

if TYPE_CHECKING:
    from types import ModuleType


def train() -> None:
    """`python train.py`, `lightning-embed-train`."""
    streams.run(lambda: _run("train"))


def merge() -> None:
    """`python merge.py`, `lightning-embed-merge`."""
    checksum.begin(_named_weights(sys.argv[1:]))
    streams.run(lambda: _run("merge"))


def _run(command: str) -> None:
    try:
        os.getcwd()
    except FileNotFoundError:  # torch would end the process with a message of its own
        print("ConfigError: The working directory does not exist any more. Change to one that exists.", file=sys.stderr)
        sys.exit(2)
    _imported().launch(command)


def _imported() -> "ModuleType":
    """The module `launch`. Imported objects are frozen: a garbage collection of them, now and at exit, takes 0.6 s."""
    signals.install()
    gc.disable()
    from lightning_embed.cli import launch

    gc.freeze()
    gc.enable()
    atexit.register(gc.freeze)
    return launch


def _named_weights(arguments: Sequence[str]) -> Iterator[Path]:
    """Weights in the directories that a command line names: a guess, as any missing digest is computed when needed."""
    for word in re.split(r"[\s=,'\"\[\]]+", " ".join(arguments)):
        for folder in sorted(glob.glob(word)):
            yield from sorted(Path(folder).glob("*.safetensors"))
