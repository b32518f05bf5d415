"""A merged model that is not what was merged is found, whatever changed in it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_embed.merge import Source
from lightning_embed.merge.contract import STATISTICS
from lightning_embed.merge.engine import MergeSpec, OutputFormat, merge_models
from lightning_embed.merge.preparation import Preparation
from lightning_embed.merge.record.freshness import damaged_file, is_current
from tests.merge import toy
from tests.merge.toy_probe import QuadraticProbe


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped": _flip, "cut": _cut, "empty": lambda file: file.write_bytes(b""), "missing": Path.unlink, "folder": _folder,
    "longer": lambda file: file.write_bytes(file.read_bytes() + b" "), "foreign": lambda file: file.write_bytes(b"{}"),
}  # fmt: skip


def _sources(folder: Path) -> tuple[list[Source], Path]:
    base, tensors = toy.family(2)
    paths = [toy.write(folder / f"models/s{number}", each) for number, each in enumerate(tensors)]
    for path in paths:
        (path / "config.json").write_text(json.dumps({"model_type": "bert", "torch_dtype": "float16"}))
        (path / "tokenizer.json").write_text('{"words": []}')
        (path / "README.md").write_text("a card")
    origin = toy.write(folder / "models/base", base)
    (origin / "config.json").write_text(json.dumps({"model_type": "bert", "torch_dtype": "float16"}))
    return [Source(path, path.name) for path in paths], origin


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("dtype", ["float32", "auto"])
def test_a_damaged_file(dtype: str, name: str, damage: str, tmp_path: Path) -> None:
    sources, base = _sources(tmp_path)
    target = tmp_path / "merged" / "soup"
    merge_models(MergeSpec(toy.strategy("soup"), sources, base), target, output=OutputFormat(dtype))
    assert damaged_file(target) is None
    (target / "model" / "README.md").write_text("its card is written later, and again")
    (target / "geometry.svg").write_text("so are its pictures")
    assert damaged_file(target) is None
    DAMAGES[damage](target / "model" / name)
    assert is_current(target, sources, base), "its record does not change with it"
    assert damaged_file(target) == target / "model" / name


def test_shards_and_statistics(tmp_path: Path) -> None:
    sources, base = _sources(tmp_path)
    target = tmp_path / "merged" / "fisher"
    probe = Preparation(QuadraticProbe.around(toy.family(1)[0]))
    spec = MergeSpec(toy.strategy("fisher"), sources, base)
    merge_models(spec, target, output=OutputFormat(max_shard_bytes=300), preparation=probe)
    assert damaged_file(target) is None
    shards = sorted((target / "model").glob("*.safetensors"))
    assert len(shards) > 1
    for file in (shards[-1], target / STATISTICS / "1" / "model.safetensors"):
        whole = file.read_bytes()
        _flip(file)
        assert damaged_file(target) == file
        file.write_bytes(whole)
    assert damaged_file(target) is None
