"""Checkpoints whose tensors are divided among the ranks: a folder, in which every rank writes what it holds.

By torch.distributed.checkpoint, in safetensors: nothing in these files can run code, and any number of ranks reads what
any other number wrote. All else of a checkpoint is one file beside them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_embed.errors import CheckpointError
from lightning_embed.runtime import shards
from lightning_embed.storage import checkpoint_file

STATE = "state.ckpt"
_PLACES = "sharded"  # place and shape of each tensor that is in the other files
Place = list[str | int]


def split(checkpoint: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What one file holds, and the divided tensors by their place in the checkpoint."""
    places: list[tuple[Place, list[int]]] = []
    divided: dict[str, Tensor] = {}

    def without(value: Any, place: Place) -> Any:
        if shards.is_shard(value):
            divided[str(len(places))] = value
            places.append((place, list(value.shape)))
            return None
        if isinstance(value, dict):
            return type(value)((key, without(item, [*place, key])) for key, item in value.items())
        if isinstance(value, list):
            return [without(item, [*place, number]) for number, item in enumerate(value)]
        return value

    rest = without(dict(checkpoint), [])
    return rest | {_PLACES: places}, divided


def write(folder: Path, divided: Mapping[str, Tensor]) -> None:
    """Write the shards of this rank; returns when all ranks have written theirs."""
    from torch.distributed.checkpoint.hf_storage import (
        HuggingFaceStorageWriter,
    )  # not in every torch that trains unsharded
    from torch.distributed.checkpoint.state_dict_saver import save

    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    save(dict(divided), storage_writer=writer)


def read(folder: Path, mesh: Any, remedy: str) -> dict[str, Any]:
    """The whole checkpoint, its tensors divided among the ranks of `mesh`; all ranks call it.

    Raises:
        CheckpointError: a file is missing or broken.
    """
    from torch.distributed.checkpoint.state_dict_loader import load

    rest = _rest(folder, remedy)
    divided = {
        name: shards.empty_shard(shape, dtype, mesh) for name, (shape, dtype) in _headers(folder, remedy).items()
    }
    try:
        load(divided, storage_reader=_reader(folder))
    except Exception as error:  # of many types
        raise _broken(folder, error, remedy) from error
    return _joined(folder, rest, divided, remedy)


def outline(folder: Path, remedy: str) -> dict[str, Any]:
    """The whole checkpoint, with the shapes of its divided tensors and without their values.

    Raises:
        CheckpointError: a file is missing or broken.
    """
    headers = _headers(folder, remedy).items()
    empty = {name: torch.empty(shape, dtype=dtype, device="meta") for name, (shape, dtype) in headers}
    return _joined(folder, _rest(folder, remedy), empty, remedy)


def _rest(folder: Path, remedy: str) -> dict[str, Any]:
    if not (folder / STATE).is_file():
        raise CheckpointError(f"{folder} is not a whole checkpoint: expected {STATE} in it. {remedy}")
    return checkpoint_file.read(folder / STATE, remedy.replace("Delete it", f"Delete {folder}", 1), map_location="cpu")


def _reader(folder: Path) -> Any:
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    return HuggingFaceStorageReader(str(folder))


def _headers(folder: Path, remedy: str) -> dict[str, tuple[torch.Size, torch.dtype]]:
    try:
        metadata = _reader(folder).read_metadata()
    except Exception as error:  # of many types
        raise _broken(folder, error, remedy) from error
    tensors = metadata.state_dict_metadata
    for each in tensors.values():
        if sum(chunk.sizes.numel() for chunk in each.chunks) != each.size.numel():
            raise CheckpointError(f"{folder} lacks the file of a rank. {remedy}")
    return {name: (each.size, each.properties.dtype) for name, each in tensors.items()}


def _joined(folder: Path, rest: dict[str, Any], divided: Mapping[str, Tensor], remedy: str) -> dict[str, Any]:
    """Put the tensors into their places."""
    rest = dict(rest)
    for number, (place, shape) in enumerate(rest.pop(_PLACES, ())):
        tensor = divided.get(str(number))
        if tensor is None or list(tensor.shape) != shape:
            raise CheckpointError(f"{folder} lacks the file of a rank: expected all of {place} in it. {remedy}")
        *parents, last = place
        parent: Any = rest
        for key in parents:
            parent = parent[key]
        parent[last] = tensor
    return rest


def _broken(folder: Path, error: Exception, remedy: str) -> CheckpointError:
    reason = str(error).strip().partition("\n")[0][:200].rstrip(".") or type(error).__name__
    return CheckpointError(f"{folder} is not a whole checkpoint ({reason}). {remedy}")
