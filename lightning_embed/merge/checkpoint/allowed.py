"""The files that a merged model has beside its weights: an allow-list, since a model folder is published.

Training states, logs, data, and files of unknown purpose stay where they are.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lightning_embed.errors import CheckpointError
from lightning_embed.merge.checkpoint.inside import inside
from lightning_embed.merge.checkpoint.modules import MODULES_FILE, files_of
from lightning_embed.storage.json_file import read_json

_TOKENIZER = r"""
    ([\w-]+[._-])?(tokenizer|vocab)([._-][\w-]+)*\.(json|txt|model|bpe|spm|tiktoken) | prophetnet\.tokenizer |
    special_tokens_map\.json | added_tokens\.json | merges\.txt | dict\.txt | bpe\.codes | tekken\.json | unigram\.json |
    (spiece|spm|spm_char|sentencepiece|sentencepiece\.bpe)\.(model|vocab) | (source|target)\.spm |
    (byte_maps|emoji|entity_vocab|normalizer|target_vocab|word_pronunciation|word_shape)\.json
"""
_CONFIG = r"""
    config\.json | modules\.json | config_sentence_transformers\.json |
    (generation|processor|(\w+_)?preprocessor|image_processor|audio_tokenizer|sentence_[\w-]+|router)_config\.json |
    (wordembedding|(whitespace|phrase)tokenizer|cnn|lstm|bow)_config\.json
"""
_PROMPTS = r"[\w-]+\.jinja | chat_template\.json | prompts?\.json"
_LICENCE = r"(licen[cs]es?|notices?|copying|copyright|use_policy)([._-][\w.-]*)?"
_KEPT = re.compile(f"{_TOKENIZER} | {_CONFIG} | {_PROMPTS}", re.VERBOSE)
_KEPT_IN_MODULES = re.compile(rf"{_TOKENIZER} | {_CONFIG} | {_PROMPTS} | \w+_config\.json | idf\.json", re.VERBOSE)
_LICENCE_FILE = re.compile(_LICENCE, re.IGNORECASE)
_TEMPLATES = "additional_chat_templates"
_NOT_OURS = frozenset({"adapter_config.json"})
_CODE_MAPS = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")
_ORIGIN_KEYS = frozenset({"_name_or_path", "name_or_path"})
_PATH_KEY = re.compile(r"(.*_)?(path|file|dir|directory|folder)")
_ABSOLUTE = re.compile(r"[/~\\]|[A-Za-z]:[\\/]|file:")


def allowed_files(folder: Path, body: str) -> Iterator[str]:
    """Names of the files of a directory, or of the folder of its body, that a merged model has too.

    Args:
        folder: the directory.
        body: name of the folder in it; empty: the directory itself.
    """
    place = inside(folder, body)
    code = _needed_code(place)
    for name in files_of(place):
        if name in code or is_licence(name) or (_KEPT.fullmatch(name) and name not in _NOT_OURS):
            yield name
    for name in files_of(inside(place, _TEMPLATES)):
        if name.endswith(".jinja"):
            yield f"{_TEMPLATES}/{name}"


def allowed_in_module(folder: Path) -> list[str]:
    """Names of the files in the folder of a module that a merged model has too: its options and its tokenizer."""
    return [name for name in files_of(folder) if _KEPT_IN_MODULES.fullmatch(name) and name not in _NOT_OURS]


def is_licence(name: str) -> bool:
    """Whether a file is a licence or a notice."""
    return _LICENCE_FILE.fullmatch(name) is not None


def without_origins(value: Any) -> Any:
    """The content of a configuration without the place where it came from: `_name_or_path`, and absolute paths."""
    if isinstance(value, dict):
        return {key: without_origins(entry) for key, entry in value.items() if not _is_origin(key, entry)}
    return [without_origins(entry) for entry in value] if isinstance(value, list) else value


def _is_origin(key: str, value: Any) -> bool:
    is_path = _PATH_KEY.fullmatch(key) and isinstance(value, str) and _ABSOLUTE.match(value)
    return key in _ORIGIN_KEYS or bool(is_path)


def _needed_code(folder: Path) -> set[str]:
    """The Python files that the configuration names, and those which they import from the folder."""
    found: set[str] = set()
    wanted = [f"{module}.py" for module in _named_modules(folder)]
    while wanted:
        name = wanted.pop()
        if name not in found and (file := inside(folder, name)).is_file():
            found.add(name)
            wanted += _imported(file)
    return found


def _named_modules(folder: Path) -> Iterator[str]:
    """Names of the modules with code in `auto_map` (`modeling.MyModel`, or a list of them) and in modules.json."""
    for name in _CODE_MAPS:
        if (file := inside(folder, name)).is_file():
            found = _json(file)
            classes = found.get("auto_map") if isinstance(found, dict) else None
            yield from _modules_of(classes.values() if isinstance(classes, dict) else ())
    if (file := inside(folder, MODULES_FILE)).is_file():
        yield from _modules_of(entry.get("type") for entry in _json(file) if isinstance(entry, dict))


def _modules_of(classes: Iterable[Any]) -> Iterator[str]:
    for names in classes:
        for name in names if isinstance(names, list) else [names]:
            if isinstance(name, str) and "--" not in name:  # owner/name--module.Class is code on the hub
                yield name.partition(".")[0]


def _imported(file: Path) -> list[str]:
    """Files beside a Python file that it imports."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return []
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1]
    names: list[str] = []
    for node in imports:
        names += [node.module.partition(".")[0]] if node.module else [alias.name for alias in node.names]
    return [f"{name}.py" for name in names]


def _json(file: Path) -> Any:
    try:
        return read_json(file, object, "")
    except CheckpointError:  # reported where the file is read for its content
        return {}
