"""The weights are those that transformers reads; what is doubtful is refused with the list."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lightning_embed.errors import CheckpointError
from lightning_embed.merge import Source
from lightning_embed.merge.checkpoint.reader import ModelDirectory
from tests.merge import toy

INDEX = "model.safetensors.index.json"
OLD, NEW = toy.model(0), toy.model(1)


def _open(folder: Path) -> ModelDirectory:
    return ModelDirectory.open(Source(folder, "a"))


def _shards(folder: Path, *shards: dict[str, Tensor], listed: dict[str, str] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / file)
        weight_map |= dict.fromkeys(shard, file)
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map if listed is None else listed}))
    return folder


def _halves(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    names = sorted(tensors)
    return {name: tensors[name] for name in names[:4]}, {name: tensors[name] for name in names[4:]}


def _complete(folder: Path) -> None:
    _shards(folder, *_halves(OLD))


def _without_shards(folder: Path) -> None:
    """save_pretrained into the folder of a sharded model deletes the shards and leaves the index."""
    _complete(folder)
    for shard in folder.glob("model-*"):
        shard.unlink()


def _broken_index(folder: Path) -> None:
    (folder / INDEX).write_text("{")


def _index_of_a_list(folder: Path) -> None:
    (folder / INDEX).write_text("[]")


@pytest.mark.parametrize("earlier", [_complete, _without_shards, _broken_index, _index_of_a_list])
def test_the_single_file_before_an_index(earlier: Callable[[Path], None], tmp_path: Path) -> None:
    folder = toy.write(tmp_path / "a", NEW)
    earlier(folder)
    model = _open(folder)
    assert all(torch.equal(model.tensor(name), tensor) for name, tensor in NEW.items())
    assert model.files == [folder / "model.safetensors"]
    assert model.notes == (
        "model.safetensors is read, as transformers does; model.safetensors.index.json is not, nor are the shards that "
        "it lists.",
    )


def test_as_transformers(tmp_path: Path) -> None:
    """The precedence is that of from_pretrained."""
    import transformers

    sizes = {
        "vocab_size": 20,
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
    }
    for seed, limit in ((0, "3KB"), (1, "1GB")):  # sharded, then single, into one folder
        torch.manual_seed(seed)
        transformers.BertModel(transformers.BertConfig(**sizes)).save_pretrained(tmp_path, max_shard_size=limit)
    torch.manual_seed(0)
    _shards(tmp_path, *_halves(dict(transformers.BertModel(transformers.BertConfig(**sizes)).state_dict())))
    model = _open(tmp_path)
    for name, tensor in transformers.AutoModel.from_pretrained(tmp_path).state_dict().items():
        assert torch.equal(model.tensor(name), tensor)


def test_nothing_is_noted_of_a_usual_directory(tmp_path: Path) -> None:
    assert _open(toy.write(tmp_path / "a", OLD)).notes == ()
    assert _open(_shards(tmp_path / "b", *_halves(OLD))).notes == ()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_tensors_in_two_shards(count: int, tmp_path: Path) -> None:
    first, rest = _halves(OLD)
    names = sorted(rest)[: min(count, 4)]
    folder = _shards(tmp_path / "a", {**first, **{name: rest[name] + 1 for name in names}}, rest)
    found = "1 tensor is" if len(names) == 1 else f"{len(names)} tensors are"
    with pytest.raises(
        CheckpointError, match=rf"^{folder}: {found} stored in two files: {names[0]}.* Save it again\.$"
    ):
        _open(folder)


@pytest.mark.parametrize("unlisted", [1, 3, 6])
def test_tensors_that_the_index_does_not_list(unlisted: int, tmp_path: Path) -> None:
    first, rest = _halves(OLD)
    extra = {f"x{number}.weight": torch.ones(2) for number in range(unlisted)}
    files = dict.fromkeys(first, "model-00001-of-00002.safetensors") | dict.fromkeys(
        rest, "model-00002-of-00002.safetensors"
    )
    folder = _shards(tmp_path / "a", first, rest | extra, listed=files)
    names = ", ".join(sorted(extra)[:3]) + (f" and {unlisted - 3} more" if unlisted > 3 else "")
    with pytest.raises(CheckpointError, match=rf"in the shards but not in {INDEX}: {names}\. Save it again\.$"):
        _open(folder)


@pytest.mark.parametrize("names", [["a"], ["a", "b"], list("abcdef")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_empty_tensors(names: list[str], dtype: torch.dtype, tmp_path: Path) -> None:
    """Placeholders of ZeRO-3."""
    folder = toy.write(tmp_path / "a", {"w": torch.ones(2), **{name: torch.empty(0, dtype=dtype) for name in names}})
    with pytest.raises(CheckpointError, match=r"empty, as DeepSpeed ZeRO-3 leaves them: a.* Gather them before saving"):
        _open(folder)


def test_an_empty_table_is_no_placeholder(tmp_path: Path) -> None:
    """BERT with type_vocab_size=0."""
    assert _open(toy.write(tmp_path / "a", {"w": torch.ones(2), "types.weight": torch.ones(0, 8)})).parameters


@pytest.mark.parametrize("sharded", [False, True])
def test_no_tensors(sharded: bool, tmp_path: Path) -> None:
    folder = _shards(tmp_path / "a", listed={}) if sharded else toy.write(tmp_path / "a", {})
    with pytest.raises(CheckpointError, match=r"a: expected tensors, found none\. Copy the model again"):
        _open(folder)


@pytest.mark.parametrize("content", [[], {}, 3, {"weight_map": []}, {"weight_map": {"a": 1}}, {"weight_map": None}])
def test_an_index_of_a_foreign_shape(content: Any, tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=rf"^{tmp_path}/{INDEX}: .*\. Copy the model again\.$"):
        _open(tmp_path)


@pytest.mark.parametrize(
    "name", ["../b.safetensors", "/etc/passwd", "sub/b.safetensors", "..", "", "a\0b", "x" * 300, "\ud800"]
)
def test_an_index_that_leads_out(name: str, tmp_path: Path) -> None:
    folder = _shards(tmp_path / "a", listed={"w": name})
    (tmp_path / "b.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"^[^\n]*expected [^\n]*Copy [^\n]*\.$|has no "):
        _open(folder)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["model.fp16.safetensors"], r"only model.fp16.safetensors. Load it with transformers, variant='fp16'"),
        (["model.bf16-00001-of-00002.safetensors", "model.bf16-00002-of-00002.safetensors"], r"variant='bf16'"),
        (["model-00001-of-00002.safetensors"], r"only model-00001-of-00002.safetensors. Copy the missing index"),
        (["consolidated.safetensors"], r"only consolidated.safetensors"),
        (["pytorch_model.bin"], r"only pytorch_model.bin. A pickle can run code"),
        (["model.onnx", "tf_model.h5"], r"only model.onnx, tf_model.h5. Load it with transformers"),
        (["model.gguf"], r"only model.gguf"),
        (["models/"], r"none, but a folder models/. Give the directory of the model itself"),
        ([], r"none. Give a directory that save_pretrained wrote"),
    ],
)  # fmt: skip
def test_what_is_there_instead(files: list[str], found: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).touch()
    with pytest.raises(
        CheckpointError,
        match=rf"expected model.safetensors or {INDEX}, found {found}" if "variant" not in found[:10] else found,
    ):
        _open(tmp_path)


def test_weights_under_a_different_name(tmp_path: Path) -> None:
    folder = toy.write(tmp_path / "a", OLD)
    (folder / "config.json").write_text('{"transformers_weights": "other.safetensors"}')
    with pytest.raises(CheckpointError, match=r"transformers_weights='other.safetensors' is not supported"):
        _open(folder)
