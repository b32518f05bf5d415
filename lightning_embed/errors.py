"""Errors that this library raises on purpose.

    LightningEmbedError
    ├── ConfigError            the command line, a YAML file or an option; shown without a traceback
    │   └── RegistryError      an unknown word, or two owners of one word
    ├── DataError              a file or a row; names file, line and reason
    ├── CheckpointError        a model directory that cannot be read or written
    │   └── CheckpointMismatch models that cannot be merged with each other
    ├── TrainingError          a training that diverged or ended early; its model is not exported
    ├── HubError               a model that could not be pushed to the hub
    └── PluginError            a plugin that cannot be imported or breaks its contract

A message names the expected value, the value found and the remedy.
"""

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

_Result = TypeVar("_Result")


class LightningEmbedError(Exception):
    """Base class of all errors that a user can cause and fix."""


class ConfigError(LightningEmbedError):
    """A wrong option, value or combination of options."""


class RegistryError(ConfigError):
    """A word that is not registered, or that two owners register."""


class DataError(LightningEmbedError):
    """A data file or a row that breaks the Row contract."""


class CheckpointError(LightningEmbedError):
    """A model directory that cannot be read or written."""


class CheckpointMismatch(CheckpointError):
    """Model directories whose parameters do not fit together."""


class TrainingError(LightningEmbedError):
    """A training that diverged, or that ended before its last step; its model is not exported."""


class HubError(LightningEmbedError):
    """A model that could not be pushed to the hub; its directory is complete."""


class PluginError(LightningEmbedError):
    """A plugin that cannot be imported or that breaks its contract."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the end of an error message about `word`: the nearest known words, then all of them."""
    known = sorted(known)
    close = get_close_matches(word, known, n=3, cutoff=0.6)
    hint = f"Did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    return f"{hint}Known: {', '.join(known) or 'none'}."


def results_of(calls: Mapping[str, Callable[[], _Result]]) -> dict[str, _Result]:
    """Call each, and return the results by name; what is wrong with several is one message, a line or more each.

    Raises:
        LightningEmbedError: the only error; of several, a `ConfigError` if all are, else a `DataError`.
    """
    results, errors = {}, []
    for name, call in calls.items():
        try:
            results[name] = call()
        except LightningEmbedError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        kind = ConfigError if all(isinstance(error, ConfigError) for error in errors) else DataError
        raise kind("\n".join(dict.fromkeys(map(str, errors))))
    return results
