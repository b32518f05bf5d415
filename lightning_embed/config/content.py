"""Hashes of the content of the files that a config names, independent of their path and date."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_embed.data.options import DatasetOptions
from lightning_embed.errors import LightningEmbedError
from lightning_embed.storage import hub
from lightning_embed.storage.cache_dir import CACHE
from lightning_embed.storage.checksum import digest, directory_digest, sha256
from lightning_embed.types import Task

PLACES = ("path", "revision", "train", "dev", "test")
"""Options of a dataset that give the location of its files."""

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def dataset_content(name: str, options: Mapping[str, Any], parts: Sequence[str]) -> dict[str, str]:
    """Hashes of the files of parts of a dataset; of a dataset on the hub, its commit and the names of the splits."""
    from lightning_embed.data.dataset_files import Files  # imports the library `datasets`: half a second

    places: dict[str, Any] = {place: options.get(place) for place in PLACES}
    try:
        files = Files(name, DatasetOptions(Task(options["task"]), **places), CACHE)
        if files.is_hub and _HUB_NAME.fullmatch(path := str(places["path"])):
            commit = hub.commit(path, places["revision"], "dataset") or places["revision"]
            return {f"data.{name}.hub": f"{path}@{commit} {[places[part] for part in parts]}"}
        return {f"data.{name}.{part}": files_content(found) for part in parts if (found := files.files(part))}
    except (LightningEmbedError, OSError, ValueError):  # the reader of the rows reports it
        return {f"data.{name}": "not readable"}


def model_content(path: str, revision: str | None) -> str:
    """The hash of a model directory, or the commit of a name on the hub."""
    if Path(path).is_dir():
        return directory_digest(Path(path))
    return f"{path}@{hub.commit(path, revision, 'model') or revision}" if _HUB_NAME.fullmatch(path) else "not readable"


def files_content(files: Sequence[Path]) -> str:
    """The hash of files in their order; a missing file counts as absent."""
    return digest([sha256(file) if file.is_file() else None for file in files])


def in_words(content: str) -> str:
    """A readable name of a key of `Identity.content`: data.facts.train -> the train rows of facts."""
    match content.split("."):
        case ["encoder"]:
            return "the base model (encoder.path)"
        case ["data", name, "train"]:
            return f"the train rows of {name}"
        case ["data", name, part] if part != "hub":
            return f"the {part} set of {name}"
        case ["data", name, *_]:
            return f"the dataset {name}"
        case ["sources", _, *name]:
            return f"the model {'.'.join(name)}"
        case _:
            return content
