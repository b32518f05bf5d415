import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lightning_embed.errors import CheckpointError
from lightning_embed.merge.checkpoint.name_matching import TensorInfo
from lightning_embed.merge.checkpoint.writer import write_tensors

TENSORS = {
    "z": torch.randn(4, 3),
    "a": torch.randn(7),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 3),
    "half": torch.randn(5).half(),
    "brain": torch.randn(3).bfloat16(),
    "ids": torch.arange(6).reshape(2, 3),
    "flags": torch.tensor([True, False, True]),
    'naïve "name"': torch.randn(2),
}
HEADER = {name: TensorInfo(tensor.dtype, tensor.shape) for name, tensor in TENSORS.items()}


def _pieces(names: Sequence[str]) -> list[torch.Tensor]:
    return [piece for name in names for piece in TENSORS[name].flatten().split(2)]


def test_same_bytes_as_safetensors(tmp_path: Path) -> None:
    digests = write_tensors(tmp_path, HEADER, _pieces, 10**9)
    assert digests == {"model.safetensors": hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()}
    save_file(TENSORS, tmp_path / "theirs", metadata={"format": "pt"})
    assert [path.name for path in tmp_path.glob("*.json")] == []
    assert (tmp_path / "model.safetensors").read_bytes() == (tmp_path / "theirs").read_bytes()


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
def test_unsigned_buffers(dtype: torch.dtype, tmp_path: Path) -> None:
    counts = torch.tensor([1, 2**15], dtype=dtype)
    write_tensors(tmp_path, {"counts": TensorInfo(dtype, counts.shape)}, lambda _: [counts], 10**9)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("counts"), counts)


def test_a_dtype_that_is_not_written(tmp_path: Path) -> None:
    header = {"w": TensorInfo(torch.float8_e4m3fn, torch.Size([2]))}
    with pytest.raises(
        CheckpointError, match=r"w: writing torch.float8_e4m3fn is not supported. Use out_dtype=float32."
    ):
        write_tensors(tmp_path, header, _pieces, 10**9)


@pytest.mark.parametrize("limit", [1, 40, 60])
def test_shards(limit: int, tmp_path: Path) -> None:
    write_tensors(tmp_path, HEADER, _pieces, limit)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert files == [f"model-{number:05d}-of-{len(files):05d}.safetensors" for number in range(1, len(files) + 1)]
    assert index["metadata"]["total_size"] == sum(t.numel() * t.itemsize for t in TENSORS.values())
    for file in files:
        with safe_open(tmp_path / file, "pt") as shard:
            names = list(shard.keys())
            assert all(torch.equal(shard.get_tensor(name), TENSORS[name]) for name in names)
            assert names
            assert all(index["weight_map"][name] == file for name in names)
            assert len(names) == 1 or sum(TENSORS[n].numel() * TENSORS[n].itemsize for n in names) <= limit
