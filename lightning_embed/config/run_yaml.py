"""`run.yaml`: the record of the command, config, files and versions that made a folder."""

import json
import os
import platform
import shutil
import subprocess
import sys
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import (
    Any,
    NotRequired,  # see lightning_embed.types
)

import yaml
from omegaconf import DictConfig, OmegaConf
from typing_extensions import TypedDict

from lightning_embed import registry
from lightning_embed.config import choices
from lightning_embed.config.identity import Identity
from lightning_embed.config.values import shown_config
from lightning_embed.errors import ConfigError
from lightning_embed.storage.atomic import write_whole
from lightning_embed.storage.json_file import check_shape
from lightning_embed.types import Choice

FILE = "run.yaml"

_HEAD = 1000  # letters, within which the hashes stand

_PACKAGES = ("lightning-embed", "torch", "lightning", "transformers", "mteb")


def refuse_other_run(out: Path, identity: Identity) -> None:
    """Refuse a folder that holds the models of another run.

    Raises:
        ConfigError: with the difference.
    """
    refuse_other_options(out, identity)
    if changed := changed_content(out, identity):
        raise ConfigError(
            f"{out} holds another run. Changed since then: {', '.join(changed)}. Give another out=, or omit out= "
            "for a new folder."
        )


def refuse_other_options(out: Path, identity: Identity) -> None:
    """Refuse a folder that was made by other options, whatever the content of the files that they name.

    Raises:
        ConfigError: with both hashes.
    """
    record = read(out)
    if record is None and (out / FILE).exists():
        raise ConfigError(
            f"{out / FILE} cannot be read, so that this may be the folder of another run: give another out=, or delete "
            "the file if the folder is of this run."
        )
    if record is not None and record.get("options_hash") != identity.options_hash:
        raise ConfigError(
            f"{out} holds another run (its config has the hash {record.get('hash')}, this one {identity.hash}): give "
            "another out=."
        )


def changed_content(out: Path, identity: Identity) -> list[str]:
    """The files of the run in a folder that have changed since it was made, in words."""
    return identity.changed_since((read(out) or {}).get("content", identity.content))


def changes_since_last_run(out: Path, name: str, identity: Identity) -> str | None:
    """Why a command that was run before has a new folder: a sentence; None: it was not run before, or nothing changed."""
    if (out / FILE).exists():
        return None
    for folder in sorted(out.parent.glob(f"{name}-*"), key=os.path.getmtime, reverse=True):
        with suppress(OSError):
            if identity.options_hash in (folder / FILE).read_text(encoding="utf-8", errors="replace")[:_HEAD]:
                changed = changed_content(folder, identity)
                if changed:
                    return f"Changed since {folder}: {', '.join(changed)}. This is another run, in {out}."
    return None


def write(cfg: DictConfig, out: Path, identity: Identity) -> None:
    """Write run.yaml atomically."""
    run = {
        "hash": identity.hash,
        "options_hash": identity.options_hash,
        "content": dict(identity.content),
        "id": folder_id(out) or uuid.uuid4().hex[:8],
        "command": sys.argv[0],
        "choices": [asdict(choice) for choice in choices.shown()],
        "git": _git_commit(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "plugins": {entry.name: entry.cls.__module__ for entry in registry.entries("merge")},
        "config": shown_config(cfg),
    }
    write_whole(out / FILE, OmegaConf.to_yaml(OmegaConf.create(run)))


def read(out: Path) -> Mapping[str, Any] | None:
    """The record of a folder; None: there is none that can be read."""
    with suppress(OSError, ValueError, TypeError, RecursionError, yaml.YAMLError):
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        record: dict[str, Any] = yaml.load((out / FILE).read_text(encoding="utf-8"), Loader=loader)
        check_shape(record, json.dumps(record, default=str), _Record)
        return record
    return None


def recorded_choices(out: Path) -> list[Choice]:
    """The choices of the command that made a folder; older folders have them as plain overrides."""
    record = read(out) or {}
    if "choices" in record:
        return [Choice(**each) for each in record["choices"]]
    return choices.parsed(record.get("overrides", []))


class _Config(TypedDict):
    name: NotRequired[str]


class _Choice(TypedDict):
    key: str
    value: str
    text: str


class _Record(TypedDict):
    hash: NotRequired[str]
    options_hash: NotRequired[str]
    id: NotRequired[str]
    content: NotRequired[dict[str, str]]
    choices: NotRequired[list[_Choice]]
    overrides: NotRequired[list[str]]
    config: NotRequired[_Config]


def versions() -> dict[str, str]:
    """The versions of Python and of the packages on which results depend."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def folder_id(out: Path) -> str | None:
    """The unique id of a folder, which a new folder of the same name does not share; None: it has no run.yaml yet.

    So the same command of another user, or after the folder was deleted, does not continue the logged runs of this one.
    """
    record = read(out)
    return None if record is None else record.get("id")


def _git_commit() -> str | None:
    if shutil.which("git") is None:
        return None
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    git = subprocess.run(command, capture_output=True, text=True, check=False)
    return git.stdout.strip() or None
