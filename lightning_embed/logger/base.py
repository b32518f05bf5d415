"""What a logger can keep beside numbers. A logger has the methods of what it can; `run_log` and `lineage` ask for them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class KeepsTables(Protocol):
    """A logger that can keep tables."""

    def log_table(self, key: str, columns: list[str], data: list[list[Any]]) -> None:
        """Keep a table under `key`; `data` holds one list per row, in the order of `columns`."""


@runtime_checkable
class KeepsPictures(Protocol):
    """A logger that can show pictures."""

    def log_picture(self, key: str, file: Path) -> None:
        """Show a picture under `key`: a PNG, or an SVG where the logger can show one."""


@runtime_checkable
class KeepsModels(Protocol):
    """A logger that can keep models and what they were made of."""

    def log_model_directory(
        self, name: str, folder: Path, metadata: Mapping[str, Any], parents: Mapping[str, Path]
    ) -> None:
        """Keep a model directory.

        Args:
            name: of the model among those of all runs.
            folder: the directory.
            metadata: facts about it.
            parents: name -> directory of each model that it was made of.
        """


Loggers = Sequence[Any]
"""The loggers of one part of a run; numbers go to all of them, and of the rest each keeps what it can."""
