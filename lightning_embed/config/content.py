"""Hashes of the content of the files that a config names, independent of their path and date.

What was read can be noticed, and read again later (`noticed`, `again`): so a sweep knows whether a job would still have
the hash that it had, without composing its config.
"""

import glob
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any

from lightning_embed.data.options import DatasetOptions
from lightning_embed.errors import LightningEmbedError
from lightning_embed.merge.checkpoint.directory import MODEL_FOLDER, RECORD_FILE
from lightning_embed.storage import hub
from lightning_embed.storage.cache_dir import CACHE
from lightning_embed.storage.checksum import digest, directory_digest, sha256
from lightning_embed.storage.names import natural
from lightning_embed.types import Task

PLACES = ("path", "subset", "revision", "train", "dev", "test", "corpus")
"""Options of a dataset that give the location of its files."""

_PARTS = ("train", "dev", "test")
_HUB_NAME = re.compile(r"\w[\w.-]*(/[\w.-]+)?")
_UNREADABLE = "not readable"
_reads: ContextVar[dict[str, Any] | None] = ContextVar("reads", default=None)
_READERS: dict[str, Callable[..., Any]] = {}


def _noticed_by_name(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let `noticed` keep the arguments of a function, which JSON can hold, and what it returned."""

    @wraps(function)
    def read(*arguments: Any) -> Any:
        result = function(*arguments)
        if (reads := _reads.get()) is not None:
            reads[json.dumps([function.__name__, *arguments], sort_keys=True)] = result
        return result

    _READERS[function.__name__] = function
    return read


@contextmanager
def noticed() -> Iterator[dict[str, Any]]:
    """Collect what is read inside: the call as a JSON text -> its result."""
    reads: dict[str, Any] = {}
    token = _reads.set(reads)
    try:
        yield reads
    finally:
        _reads.reset(token)


def again(call: str) -> Any:
    """Read once more what a call of `noticed` had read, as it is now."""
    name, *arguments = json.loads(call)
    return _READERS[name](*arguments)


def source_paths(patterns: Iterable[str]) -> list[Path]:
    """Model directories, glob patterns expanded and in their natural order (e2 before e10), `~` as the user's folder."""
    return list(map(Path, _expanded(list(map(str, patterns)))))


@_noticed_by_name
def _expanded(patterns: list[str]) -> list[str]:
    expanded = map(os.path.expanduser, patterns)
    return [path for pattern in expanded for path in (sorted(glob.glob(pattern), key=natural) or [pattern])]


def model_folder(path: Path) -> Path:
    """The directory of a model, also where `path` is the folder of a merge, which has the model in `model/`."""
    is_merge = (path / RECORD_FILE).is_file() and (path / MODEL_FOLDER).is_dir()
    return path / MODEL_FOLDER if is_merge else path


def dataset_content(name: str, options: Mapping[str, Any], parts: Sequence[str]) -> dict[str, str]:
    """Hashes of the files of parts of a dataset; of a dataset on the hub, its commit and the names of the splits."""
    places = {place: options.get(place) for place in PLACES}
    return dict(_dataset_content(name, str(options["task"]), places, list(parts)))  # callers add to it


@_noticed_by_name
def _dataset_content(name: str, task: str, places: dict[str, Any], parts: list[str]) -> dict[str, str]:
    from lightning_embed.data.dataset_files import Files  # imports the library `datasets`: half a second

    try:
        files = Files(name, DatasetOptions(Task(task), **places), CACHE)
        if files.is_hub and _HUB_NAME.fullmatch(path := str(places["path"])):
            commit = hub.commit(path, places["revision"], "dataset") or places["revision"]
            name_of = path if places["subset"] is None else f"{path}:{places['subset']}"
            splits = {"train": "train"} | {part: places[part] for part in _PARTS if places[part] is not None}
            return {f"data.{name}.{part}": f"{name_of}@{commit}[{splits[part]}]" for part in parts if part in splits}
        return {f"data.{name}.{part}": _of_files(found) for part in parts if (found := files.files(part))}
    except (LightningEmbedError, OSError, ValueError):  # reported by what reads the rows
        return {f"data.{name}.train": _UNREADABLE}


def model_content(path: str, revision: str | None) -> str:
    """Of a directory its content, of a name on the hub its commit."""
    found: str = _model_content(path, revision)
    return found


@_noticed_by_name
def _model_content(path: str, revision: str | None) -> str:
    path = os.path.expanduser(path)
    if _HUB_NAME.fullmatch(path) and not Path(path).is_dir():
        return f"{path}@{hub.commit(path, revision, 'model') or revision}"
    with suppress(OSError):
        if Path(path).is_dir():
            return directory_digest(Path(path))
    return _UNREADABLE  # reported by what loads it


def files_content(files: Sequence[Path]) -> str:
    """The hash of files in their order; a missing file counts as absent."""
    found: str = _files_content(list(map(str, files)))
    return found


@_noticed_by_name
def _files_content(files: list[str]) -> str:
    return _of_files(list(map(Path, files)))


def _of_files(files: Sequence[Path]) -> str:
    return digest([sha256(file) if file.is_file() else None for file in files])


def in_words(content: str) -> str:
    """A readable name of a key of `Identity.content`: data.facts.train -> the train rows of facts."""
    match content.split("."):
        case ["encoder"]:
            return "the base model (encoder.path)"
        case ["teacher", _]:
            return "the teacher (teacher.path)"
        case ["data", name, "train"]:
            return f"the train rows of {name}"
        case ["data", name, part]:
            return f"the {part} set of {name}"
        case ["sources", _, *name]:
            return f"the model {'.'.join(name)}"
        case ["code", *file]:
            return f"your code ({'.'.join(file)})"
        case _:
            return content
