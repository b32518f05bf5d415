"""The files of a merged model beside its weights: configuration, tokenizer, modules; where they come from, and a copy.

The files of the body are those of the first source. modules.json and the folders that it names are those of the first
model that has them, so that pooling and prompts are not lost where the first source is a plain Hugging Face directory.
"""

import filecmp
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_embed.merge.checkpoint.allowed import allowed_files, allowed_in_module, is_licence, without_origins
from lightning_embed.merge.checkpoint.inside import inside
from lightning_embed.merge.checkpoint.modules import MODULES_FILE, ROUTER_FILE
from lightning_embed.merge.checkpoint.reader import ModelDirectory
from lightning_embed.merge.checkpoint.tokens import FILES as TOKENIZER_FILES
from lightning_embed.merge.contract import Vocabulary
from lightning_embed.storage.atomic import write_whole
from lightning_embed.storage.checksum import sha256
from lightning_embed.storage.json_file import read_json

# The origin of a file, without effect on the outputs of the model.
_INCIDENTAL_KEYS = frozenset({"_name_or_path", "transformers_version", "dtype", "torch_dtype", "__version__"})
_OF_MODULES = re.compile(rf"{MODULES_FILE}|{ROUTER_FILE}|config_sentence_transformers\.json|sentence_.+_config\.json")


@dataclass(frozen=True)
class Companions:
    """The files of a model beside its weights.

    Args:
        body: name in the folder of the body -> file.
        modules: path in the model's directory -> file; modules.json and what belongs to it.
    """

    body: dict[str, Path]
    modules: dict[str, Path]


def companions(model: ModelDirectory) -> Companions:
    """The files of a model that a merged model could have; of two folders (base and adapter) the last counts."""
    found = Companions({}, {})
    for folder in model.folders:
        body = model.layout.body if (folder / model.layout.body).is_dir() else ""
        for name in allowed_files(folder, body):
            file = inside(inside(folder, body), name)
            if _OF_MODULES.fullmatch(name):
                found.modules[_joined(model.layout.body, name)] = file
            else:
                found.body[name] = file
        for name in allowed_files(folder, "") if body else ():
            found.modules[name] = inside(folder, name)
        for part in model.layout.folders:
            for name in allowed_in_module(inside(folder, part)):
                found.modules[_joined(part, name)] = inside(inside(folder, part), name)
    return found


def lender(models: Sequence[ModelDirectory]) -> ModelDirectory:
    """The model whose modules the merged model has: the first with a modules.json, or the first."""
    return next((model for model in models if not model.layout.is_plain), models[0])


def chosen_files(models: Sequence[ModelDirectory], vocabulary: Vocabulary | None = None) -> dict[str, Path]:
    """Path in the merged model -> file.

    Args:
        models: the sources of the merge, then its base.
        vocabulary: model whose tokenizer the merged model has; None: the first source.
    """
    owner = lender(models)
    body = companions(models[0]).body
    if vocabulary is Vocabulary.base:
        ours = {name: file for name, file in companions(models[-1]).body.items() if name in TOKENIZER_FILES}
        body = {name: file for name, file in body.items() if name not in TOKENIZER_FILES} | ours
    found = {_joined(owner.layout.body, name): file for name, file in body.items()} | companions(owner).modules
    return dict(sorted(found.items()))


def compared_digests(models: Sequence[ModelDirectory], vocabulary: Vocabulary | None = None) -> dict[str, str]:
    """SHA-256 of `chosen_files`, by path in the merged model, except for licences."""
    chosen = chosen_files(models, vocabulary)
    return {path: sha256(file) for path, file in chosen.items() if not is_licence(Path(path).name)}


def differing_files(models: Sequence[ModelDirectory], other: ModelDirectory) -> list[str]:
    """Files that differ between a model and the merged one, or that one of them lacks.

    Models without a modules.json are compared by the files of their bodies.
    """
    ours, theirs = companions(models[0]).body, companions(other).body
    if not other.layout.is_plain:
        ours, theirs = ours | companions(lender(models)).modules, theirs | companions(other).modules
    names = (name for name in sorted({*ours, *theirs}) if not is_licence(Path(name).name))
    return [name for name in names if not (name in ours and name in theirs and _is_same(ours[name], theirs[name]))]


def copy_files(files: Mapping[str, Path], target: Path, changes: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Copy files, without the places where their models came from. Returns path -> SHA-256.

    Args:
        files: path in the merged model -> file.
        target: folder of the merged model.
        changes: path of a configuration -> entries to change in it.
    """
    for path, file in files.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        if (text := _changed_text(file, changes.get(path, {}))) is None:
            shutil.copyfile(file, target / path)
        else:
            write_whole(target / path, text)
    return {path: sha256(target / path) for path in files}


def _changed_text(file: Path, changes: Mapping[str, Any]) -> str | None:
    """The text of a configuration with changed entries and without origins; None: the file as it is."""
    if not file.name.endswith("config.json"):
        return None
    stored = _read_json(file, object)
    kept = without_origins(stored)
    if isinstance(kept, dict) and changes:
        kept = {key: value for key, value in kept.items() if not ("dtype" in changes and key == "torch_dtype")} | dict(
            changes
        )
    elif kept == stored:
        return None
    return json.dumps(kept, indent=2) + "\n"


def read_config(file: Path) -> dict[str, Any]:
    """The content of a config.json."""
    config: dict[str, Any] = _read_json(file, dict)
    return config


def content(file: Path) -> Any:
    """The content of a JSON file, without entries that have no effect on the outputs of a model."""
    found = _read_json(file, object)
    if isinstance(found, dict):
        return {key: value for key, value in without_origins(found).items() if key not in _INCIDENTAL_KEYS}
    return found


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _is_same(one: Path, other: Path) -> bool:
    if filecmp.cmp(one, other, shallow=False):
        return True
    return one.suffix == ".json" and bool(content(one) == content(other))


def _read_json(file: Path, shape: Any) -> Any:
    return read_json(file, shape, "Fix it, or export the model again.")
