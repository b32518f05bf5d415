"""Folders of merged models: written beside the target and renamed when complete; configuration and tokenizer copied."""

import errno
import filecmp
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_embed.errors import CheckpointError
from lightning_embed.merge.checkpoint.inside import inside
from lightning_embed.runtime import fault_injection
from lightning_embed.storage import publish
from lightning_embed.storage.atomic import write_whole
from lightning_embed.storage.json_file import read_json
from lightning_embed.storage.publish import published_folder

RECORD_FILE = "merge.json"
MODEL_FOLDER = "model"
ADAPTER_CONFIG_FILE = "adapter_config.json"
# Weights in the formats of other programs: those of the first source, and so wrong beside the merged weights.
_WEIGHTS = frozenset(
    {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".ot", ".onnx", ".gguf"}
)
# The origin of a file, without effect on the outputs of the model.
_INCIDENTAL_KEYS = frozenset({"_name_or_path", "transformers_version", "dtype", "torch_dtype", "__version__"})
_POINTS = {"while_missing": "while_merge_replaces", "replaced": "after_merge_replaced"}
CARD_FILE = "README.md"
INCIDENTAL_FILES = frozenset({CARD_FILE, "LICENSE"})


@dataclass
class _Module:
    """The part of an entry of modules.json that is read."""

    path: str


@contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `target` when the block succeeds, and is removed when it fails.

    See `storage.publish`: several processes can write the same target, and the last one to end counts. A killed process
    leaves its hidden folder behind; the next merge into the same target, on the same machine, removes it.

    Raises:
        CheckpointError: `target` has content that no merge wrote, or cannot be written, as on a full disk.
    """
    try:
        _refuse_others_work(target)
        settle(target)
        with published_folder(target, at=lambda step: fault_injection.point(_POINTS[step])) as partial:
            yield partial
            fault_injection.point("before_merge_replaces")
    except OSError as error:
        if error.errno == errno.EROFS or _lies_beside(target, error.filename):
            raise CheckpointError(
                f"{target} cannot be written ({error}). Choose a different target; its earlier content is unchanged."
            ) from error
        raise  # an error of the models, or of the data


def _lies_beside(target: Path, file: object) -> bool:
    return isinstance(file, str) and Path(file).absolute().is_relative_to(target.parent.absolute())


def settle(target: Path) -> None:
    """Remove the folders of killed merges beside `target`; restore the earlier merge if `target` does not exist."""
    publish.settle(target.parent, target.name)


def _refuse_others_work(target: Path) -> None:
    if target.exists() and not (target / RECORD_FILE).exists() and (not target.is_dir() or any(target.iterdir())):
        raise CheckpointError(
            f"{target} exists and holds no {RECORD_FILE}, so no merge wrote it. "
            "Choose a different target, or remove it."
        )


def copy_files(folders: Sequence[Path], target: Path, dtype: str | None) -> None:
    """Copy all files of a model except for its weights, and write `dtype` into config.json, unless it is None.

    Args:
        folders: of the model; of two files with the same name, the last counts.
        target: folder to copy to.
        dtype: of the merged weights.
    """
    for name, file in copied_files(folders).items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if dtype is not None and name == Path("config.json"):
            write_whole(target / name, with_dtype(file, dtype))
        else:
            shutil.copyfile(file, target / name)


def with_dtype(config_file: Path, dtype: str) -> str:
    """The text of a config.json for weights of `dtype`."""
    config = {key: value for key, value in _read_json(config_file, dict).items() if key != "torch_dtype"}
    return json.dumps(config | {"dtype": dtype}, indent=2) + "\n"


def differing_files(first: Sequence[Path], other: Sequence[Path]) -> list[str]:
    """Files (configuration, prompts, tokenizer ...) that differ between two models, or that one of them lacks."""
    ours, theirs = copied_files(first), copied_files(other)
    names = (name for name in sorted({*ours, *theirs}) if name.name not in INCIDENTAL_FILES)
    return [str(name) for name in names if not (name in ours and name in theirs and _is_same(ours[name], theirs[name]))]


def copied_files(folders: Sequence[Path]) -> dict[Path, Path]:
    """All top-level files except for weights, and the folders of sentence-transformers' modules, with their weights."""
    found: dict[Path, Path] = {}
    for folder in folders:
        top = [path for path in folder.iterdir() if path.suffix not in _WEIGHTS]
        modules = [path for module in _module_folders(folder) for path in module.rglob("*")]
        names = (path.relative_to(folder) for path in sorted([*top, *modules]) if _is_copied(path.name))
        found |= {name: file for name in names if (file := inside(folder, str(name))).is_file()}
    return found


def _is_copied(name: str) -> bool:
    """Whether a file is copied; a model card describes its own model only."""
    return (
        not name.startswith(".") and not name.endswith(".index.json") and name not in (ADAPTER_CONFIG_FILE, CARD_FILE)
    )


def _module_folders(source: Path) -> list[Path]:
    modules = inside(source, "modules.json")
    listed = _read_json(modules, list[_Module]) if modules.exists() else []
    for path in (path for module in listed if (path := module["path"]) and not _is_below(path)):
        raise CheckpointError(f"{modules}: expected the paths of modules in this directory, found {path!r}. Fix it.")
    return [inside(source, module["path"]) for module in listed if module["path"]]


def _is_below(path: str) -> bool:
    return not (Path(path).is_absolute() or ".." in Path(path).parts)


def _is_same(one: Path, other: Path) -> bool:
    if one.suffix == ".json":
        return bool(_content(one) == _content(other))
    return filecmp.cmp(one, other, shallow=False)


def _content(file: Path) -> Any:
    content = _read_json(file, object)
    if isinstance(content, dict):
        return {key: value for key, value in content.items() if key not in _INCIDENTAL_KEYS}
    return content


def _read_json(file: Path, shape: Any) -> Any:
    return read_json(file, shape, "Fix it, or export the model again.")
