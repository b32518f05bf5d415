import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lightning_embed.errors import CheckpointError
from lightning_embed.merge import Source
from lightning_embed.merge.checkpoint.reader import ModelDirectory
from tests.merge import toy


def _open(path: Path) -> ModelDirectory:
    return ModelDirectory.open(Source(path, "a"))


def _sharded(folder: Path) -> Path:
    tensors = toy.model(0)
    first = dict(list(tensors.items())[:3])
    rest = {name: tensor for name, tensor in tensors.items() if name not in first}
    folder.mkdir()
    weight_map = {}
    for number, shard in enumerate((first, rest), start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file(shard, folder / file)
        weight_map |= dict.fromkeys(shard, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


@pytest.mark.parametrize("sharded", [False, True])
def test_reading(sharded: bool, tmp_path: Path) -> None:
    path = _sharded(tmp_path / "a") if sharded else toy.write(tmp_path / "a", toy.model(0))
    model, tensors = _open(path), toy.model(0)
    assert model.parameters == {n: t.shape for n, t in tensors.items() if n != toy.BUFFER}
    assert model.buffers == [toy.BUFFER]
    assert all(torch.equal(model.tensor(name), tensor) for name, tensor in tensors.items())


def test_tensors_at_odd_places(tmp_path: Path) -> None:
    """Of other writers: a header that ends anywhere, and an element of one byte before larger ones."""
    header = '{"flag":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}}'
    header += " " * (-len(header) % 4 + 1)
    data = b"\x01" + torch.tensor([1.5, -2]).numpy().tobytes()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header.encode() + data)
    model = _open(tmp_path)
    assert model.tensor("a").tolist() == [1.5, -2]
    assert model.tensor("flag").tolist() == [True]


def test_writing_to_a_tensor_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    model = _open(toy.write(tmp_path / "a", toy.model(0)))
    model.tensor("embeddings.word.weight").zero_()
    assert torch.equal(model.tensor("embeddings.word.weight"), toy.model(0)["embeddings.word.weight"])


def test_a_file_changes_after_it_was_opened(tmp_path: Path) -> None:
    model = _open(toy.write(tmp_path / "a", toy.model(0)))
    file = tmp_path / "a/model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"a/model.safetensors has changed since the merge began"):
        model.tensor("embeddings.word.weight")
    file.unlink()
    with pytest.raises(CheckpointError, match=r"a/model.safetensors has changed since the merge began"):
        model.tensor("embeddings.word.weight")


def test_a_shard_is_missing(tmp_path: Path) -> None:
    path = _sharded(tmp_path / "a")
    (path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"a has no model-00002-of-00002.safetensors, which its .* Copy the missing"
    ):
        _open(path)


def test_a_shard_lacks_a_tensor(tmp_path: Path) -> None:
    path = _sharded(tmp_path / "a")
    save_file({"other": torch.ones(1)}, path / "model-00002-of-00002.safetensors")
    with pytest.raises(CheckpointError, match=r"lists encoder.layer.* in model-00002-of-00002.safetensors"):
        _open(path)


@pytest.mark.parametrize("index", ["{", "[]", '{"weight_map": 3}', "{}"])
def test_an_index_that_is_none(index: str, tmp_path: Path) -> None:
    path = _sharded(tmp_path / "a")
    (path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CheckpointError, match=r"index.json: .*\. Copy the model again"):
        _open(path)


@pytest.mark.parametrize("size", [0, 5, 60, -1])
def test_a_file_cut_short(size: int, tmp_path: Path) -> None:
    file = toy.write(tmp_path / "a", toy.model(0)) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"model.safetensors is not a complete safetensors file .* Copy it again"):
        _open(tmp_path / "a")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "last.ckpt", "model.pt"])
def test_pickles_are_never_opened(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"cos\nsystem\n")
    with pytest.raises(CheckpointError, match=f"expected model.safetensors .*, found only {name}. .* export it"):
        _open(tmp_path)
    with pytest.raises(CheckpointError, match=f"{name} is a file, and a model is a directory. .* export it"):
        _open(tmp_path / name)


def test_no_model(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(CheckpointError, match=r"expected model.safetensors or .*, found none"):
        _open(tmp_path)
    with pytest.raises(CheckpointError, match=r"notes.txt is a file, and a model is a directory. Give the directory"):
        _open(tmp_path / "notes.txt")
    with pytest.raises(CheckpointError, match=r"nowhere does not exist"):
        _open(tmp_path / "nowhere")


def test_tensors_outlive_their_file(tmp_path: Path) -> None:
    model = _open(toy.write(tmp_path / "a", toy.model(0)))
    tensor = model.tensor("embeddings.word.weight")
    shutil.rmtree(tmp_path / "a")
    assert torch.equal(tensor, toy.model(0)["embeddings.word.weight"])
