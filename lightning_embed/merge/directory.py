"""The folder around the weights: written beside its target and renamed when whole; configuration and tokenizer copied."""

import filecmp
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning_embed.errors import CheckpointError

RECORD_FILE = "merge.json"
# Weights beside model.safetensors, in the formats of other programs: of the first source only, so wrong beside merged ones.
_WEIGHTS = frozenset(
    {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".ot", ".onnx", ".gguf"}
)
# Where and when a file was written, not what the model does.
_INCIDENTAL_KEYS = frozenset({"_name_or_path", "transformers_version", "dtype", "torch_dtype", "__version__"})
_INCIDENTAL_FILES = frozenset({"README.md", "LICENSE"})


@contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """Give an empty folder that becomes `target` when the block ends well, and disappears when it does not.

    A merge that was killed leaves its folder behind, hidden; the next one to the same target removes it.

    Raises:
        CheckpointError: `target` has content that no merge has written.
    """
    if target.exists() and not (target / RECORD_FILE).exists() and any(target.iterdir()):
        raise CheckpointError(
            f"{target} exists and holds no {RECORD_FILE}, so no merge wrote it. Choose another target, or remove it."
        )
    partial, old = (target.with_name(f".{target.name}.{state}") for state in ("partial", "old"))
    _put_back(old, target)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if target.exists():
            target.rename(old)
        partial.rename(target)
    finally:
        _put_back(old, target)
        shutil.rmtree(partial, ignore_errors=True)


def _put_back(old: Path, target: Path) -> None:
    """Undo or finish an exchange that stopped between its two renames."""
    if old.exists() and not target.exists():
        old.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def copy_files(source: Path, folder: Path, dtype: str | None) -> None:
    """Copy all of a model directory but its weights; name `dtype` in config.json, unless it is None."""
    for file in _files(source):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file, folder / file)
    config_file = folder / "config.json"
    if dtype is not None and config_file.exists():
        config = {key: value for key, value in _read_json(config_file).items() if key != "torch_dtype"}
        config_file.write_text(json.dumps(config | {"dtype": dtype}, indent=2) + "\n")


def differing_files(first: Path, other: Path) -> list[str]:
    """Configuration, prompts, tokenizer ... that are not the same in both directories, or only in one of them."""
    files = {file for source in (first, other) for file in _files(source) if file.name not in _INCIDENTAL_FILES}
    return [str(file) for file in sorted(files) if not _is_same(first / file, other / file)]


def _files(source: Path) -> list[Path]:
    """All files at the top but weights, and the folders of sentence-transformers' modules, their weights included."""
    top = [path for path in source.iterdir() if path.is_file() and path.suffix not in _WEIGHTS]
    modules = [path for folder in _module_folders(source) for path in folder.rglob("*") if path.is_file()]
    files = sorted(path.relative_to(source) for path in [*top, *modules])
    return [file for file in files if not file.name.startswith(".") and not file.name.endswith(".index.json")]


def _module_folders(source: Path) -> list[Path]:
    modules = source / "modules.json"
    listed = _read_json(modules) if modules.exists() else []
    return [source / module["path"] for module in listed if module["path"]]


def _is_same(one: Path, other: Path) -> bool:
    if not (one.exists() and other.exists()):
        return one.exists() == other.exists()
    if one.suffix == ".json":
        return bool(_content(one) == _content(other))
    return filecmp.cmp(one, other, shallow=False)


def _content(file: Path) -> Any:
    content = _read_json(file)
    if isinstance(content, dict):
        return {key: value for key, value in content.items() if key not in _INCIDENTAL_KEYS}
    return content


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise CheckpointError(f"{file} is not valid JSON ({error}). Mend it, or export the model again.") from None
