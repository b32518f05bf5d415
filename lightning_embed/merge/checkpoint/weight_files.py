"""The files that hold the weights of a model directory: those that transformers would read."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_embed.errors import CheckpointError
from lightning_embed.merge.checkpoint.inside import inside
from lightning_embed.merge.checkpoint.name_matching import Header
from lightning_embed.storage.json_file import read_json

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
CONFIG_FILE = "config.json"
PICKLES = frozenset({".bin", ".ckpt", ".pt", ".pth", ".pkl"})
_OTHER_PROGRAMS = frozenset({".h5", ".msgpack", ".ot", ".onnx", ".gguf"})
_SAVE_WITH_TRANSFORMERS = "Load it with transformers, and save it with save_pretrained."
_EXPORT = "A pickle can run code and is never opened: export it, with save_pretrained, to a directory with safetensors."
_VARIANT = re.compile(r"model\..+\.safetensors")
_SHOWN = 3


@dataclass
class _Index:
    """The part of an index of shards that is read."""

    weight_map: dict[str, str]


@dataclass(frozen=True)
class WeightFiles:
    """The weights of a directory.

    Args:
        files: that hold them.
        listed: tensor -> the name of its file, by the index of shards; None: a single file.
        notes: files that are not read, a sentence each.
    """

    files: Sequence[Path]
    listed: Mapping[str, str] | None = None
    notes: tuple[str, ...] = ()

    def check(self, folder: Path, found: Mapping[Path, Header]) -> None:
        """Compare the tensors of the files with the index.

        Raises:
            CheckpointError: a tensor is missing, not in the index, in two files, or empty; or there is none.
        """
        counts = Counter(name for header in found.values() for name in header)
        if not counts:
            raise CheckpointError(f"{folder}: expected tensors, found none. Copy the model again.")
        _refuse(folder, "stored in two files", [name for name, count in counts.items() if count > 1], "Save it again.")
        if self.listed is not None:
            held = {(name, file.name) for file, header in found.items() for name in header}
            for name, file in sorted(self.listed.items() - held):
                raise CheckpointError(
                    f"{folder}: {INDEX_FILE} lists {name} in {file}, which has no such tensor. Copy the model again."
                )
            unlisted = [name for name in counts if name not in self.listed]
            _refuse(folder, f"in the shards but not in {INDEX_FILE}", unlisted, "Save it again.")
        empty = [name for header in found.values() for name, info in header.items() if tuple(info.shape) == (0,)]
        _refuse(folder, "empty, as DeepSpeed ZeRO-3 leaves them", empty, "Gather them before saving.")


def weight_files(folder: Path) -> WeightFiles:
    """Find the weights: `model.safetensors`, or else the shards of the index, as in transformers.

    Raises:
        CheckpointError: no directory, no safetensors in it, or a missing shard.
    """
    _refuse_no_directory(folder)
    if (named := read_config(folder).get("transformers_weights")) is not None:
        raise CheckpointError(
            f"{folder / CONFIG_FILE}: transformers_weights={named!r} is not supported, expected the weights in "
            f"{WEIGHTS_FILE}. {_SAVE_WITH_TRANSFORMERS}"
        )
    single, index = inside(folder, WEIGHTS_FILE), inside(folder, INDEX_FILE)
    if single.is_file():
        is_both = index.exists()
        note = f"{WEIGHTS_FILE} is read, as transformers does; {INDEX_FILE} is not, nor are the shards that it lists."
        return WeightFiles([single], notes=(note,) if is_both else ())
    if not index.is_file():
        raise CheckpointError(f"{folder}: expected {WEIGHTS_FILE} or {INDEX_FILE}, found {_instead(folder)}")
    listed = read_json(index, _Index, "Copy the model again.")["weight_map"]
    return WeightFiles([_shard(folder, name) for name in sorted(set(listed.values()))], listed)


def read_config(folder: Path) -> dict[str, Any]:
    """The content of config.json; empty without one.

    Raises:
        CheckpointError: the file holds no JSON object.
    """
    file = inside(folder, CONFIG_FILE)
    content: dict[str, Any] = read_json(file, dict, "Copy the model again.") if file.exists() else {}
    return content


def _shard(folder: Path, name: str) -> Path:
    if Path(name).name != name:
        raise CheckpointError(
            f"{folder / INDEX_FILE}: expected names of files beside it, found {name[:80]!r}. Copy the model again."
        )
    file = inside(folder, name)
    if not file.is_file():
        raise CheckpointError(f"{folder} has no {name}, which its {INDEX_FILE} names. Copy the missing shards.")
    return file


def _refuse_no_directory(folder: Path) -> None:
    if not folder.exists():
        raise CheckpointError(f"{folder} does not exist. Give a model directory.")
    if not folder.is_dir():
        hint = _EXPORT if folder.suffix in PICKLES else f"Give the directory that holds config.json and {WEIGHTS_FILE}."
        raise CheckpointError(f"{folder} is a file, and a model is a directory. {hint}")


def _instead(folder: Path) -> str:
    """What a directory without weights has instead, and the remedy."""
    names = sorted(path.name for path in folder.iterdir())
    if variants := [name for name in names if _VARIANT.fullmatch(name)]:
        word = variants[0].split(".")[1].split("-")[0]
        return f"only {_some(variants)}. Load it with transformers, variant={word!r}, and save it with save_pretrained."
    if others := [name for name in names if name.endswith(".safetensors")]:
        return f"only {_some(others)}. Copy the missing index, or save the model again."
    if pickles := [name for name in names if Path(name).suffix in PICKLES]:
        return f"only {_some(pickles)}. {_EXPORT}"
    if foreign := [name for name in names if Path(name).suffix in _OTHER_PROGRAMS]:
        return f"only {_some(foreign)}. {_SAVE_WITH_TRANSFORMERS}"
    if models := [name for name in ("models", "merged", "model") if (folder / name).is_dir()]:
        return f"none, but a folder {models[0]}/. Give the directory of the model itself, below {folder / models[0]}."
    return "none. Give a directory that save_pretrained wrote."


def _refuse(folder: Path, what: str, names: Collection[str], remedy: str) -> None:
    if names:
        found = "1 tensor is" if len(names) == 1 else f"{len(names)} tensors are"
        raise CheckpointError(f"{folder}: {found} {what}: {_some(sorted(names))}. {remedy}")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
