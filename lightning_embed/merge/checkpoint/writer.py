"""Writer of safetensors files during the merge: no shard is ever in memory, and the same tensors give the same bytes.

The format (https://huggingface.co/docs/safetensors): the length of the header in 8 bytes, little endian; the header in
JSON, padded with spaces; the tensors in order. The header is known before the first tensor is computed.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import torch
from jaxtyping import Shaped
from torch import Tensor

from lightning_embed.errors import CheckpointError
from lightning_embed.merge.checkpoint.modules import Layout
from lightning_embed.merge.checkpoint.name_matching import Header, TensorInfo
from lightning_embed.merge.checkpoint.weight_files import INDEX_FILE, WEIGHTS_FILE
from lightning_embed.runtime import fault_injection
from lightning_embed.storage.atomic import write_whole

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.uint16: "U16",
    torch.uint32: "U32",
    torch.uint64: "U64",
    torch.bool: "BOOL",
}


def write_model(
    folder: Path,
    layout: Layout,
    header: Header,
    pieces: Callable[[Sequence[str]], Iterable[Shaped[Tensor, "..."]]],
    max_shard_bytes: int,
) -> dict[str, str]:
    """Write the tensors of each module into its folder, under the names that it had there; see `write_tensors`.

    Returns path in `folder` -> SHA-256.
    """
    digests: dict[str, str] = {}
    for module in layout.weights:
        own = {name.removeprefix(module.prefix): header[name] for name in layout.names_of(module, header)}
        (folder / module.folder).mkdir(parents=True, exist_ok=True)
        written = write_tensors(folder / module.folder, own, partial(_prefixed, pieces, module.prefix), max_shard_bytes)
        digests |= {(Path(module.folder) / file).as_posix(): digest for file, digest in written.items()}
    return digests


def _prefixed(
    pieces: Callable[[Sequence[str]], Iterable[Shaped[Tensor, "..."]]], prefix: str, names: Sequence[str]
) -> Iterable[Shaped[Tensor, "..."]]:
    return pieces([prefix + name for name in names])


def write_tensors(
    folder: Path,
    header: Header,
    pieces: Callable[[Sequence[str]], Iterable[Shaped[Tensor, "..."]]],
    max_shard_bytes: int,
) -> dict[str, str]:
    """Write a model's tensors as `model.safetensors`, or as shards with an index, under the names of Hugging Face.

    Returns file name -> SHA-256, computed while writing, because reading the files again would take longer.

    Args:
        folder: to write to.
        header: dtype and shape of all tensors.
        pieces: names of tensors -> their elements in order, in any number of pieces.
        max_shard_bytes: largest size of a shard; only a single larger tensor exceeds it.
    """
    shards = _split(header, max_shard_bytes)
    files = [WEIGHTS_FILE]
    if len(shards) > 1:
        files = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
        _write_index(folder / INDEX_FILE, header, dict(zip(files, shards, strict=True)))
    digests = {}
    for file, names in zip(files, shards, strict=True):
        digest = hashlib.sha256()
        with (folder / file).open("wb") as stream:
            parts: Iterable[bytes | memoryview] = chain(
                [_encode({name: header[name] for name in names})], map(_bytes, pieces(names))
            )
            for part in parts:
                fault_injection.point("writing_merge")
                stream.write(part)
                digest.update(part)
        digests[file] = digest.hexdigest()
    return digests


def _split(header: Header, max_bytes: int) -> list[list[str]]:
    """Distribute the tensors over shards. Wide dtypes come first, so that every tensor is aligned in its file."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name in sorted(header, key=lambda name: (-header[name].dtype.itemsize, name)):
        size = _size(header[name])
        if shards[-1] and filled + size > max_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def _encode(header: Header) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, info in header.items():
        if info.dtype not in _DTYPES:
            raise CheckpointError(f"{name}: writing {info.dtype} is not supported. Use out_dtype=float32.")
        start, end = end, end + _size(info)
        entries[name] = {"dtype": _DTYPES[info.dtype], "shape": list(info.shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write_index(path: Path, header: Header, shards: Mapping[str, Sequence[str]]) -> None:
    weight_map = {name: file for file, names in shards.items() for name in names}
    total = sum(map(_size, header.values()))
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    write_whole(path, json.dumps(index, indent=2) + "\n")


def _size(info: TensorInfo) -> int:
    return info.shape.numel() * info.dtype.itemsize


def _bytes(tensor: Shaped[Tensor, "..."]) -> memoryview:
    return tensor.contiguous().flatten().view(torch.uint8).numpy().data
