"""Protocols of loggers that keep tables, pictures or models beside numbers; `run_log` and `lineage` check for them."""

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
    """A logger that can keep models and the models that they were made from."""

    def log_model_directory(
        self, name: str, folder: Path, metadata: Mapping[str, Any], parents: Mapping[str, Path]
    ) -> None:
        """Keep a model directory.

        Args:
            name: of the model among those of all runs.
            folder: the directory.
            metadata: facts about it.
            parents: name -> directory of each model that it was made from.
        """


Loggers = Sequence[Any]
"""The loggers of one part of a run. Numbers go to all; tables, pictures and models to those that can keep them."""
