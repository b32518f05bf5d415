"""Modules with weights are the same in all models of a merge, or the merge is refused with their names."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lightning_embed.errors import CheckpointMismatch
from lightning_embed.merge import Source
from lightning_embed.merge.engine import MergeSpec, merge_models
from tests.merge import toy, zoo


def _no_modules(folder: Path) -> None:
    (folder / "modules.json").unlink()
    shutil.rmtree(folder / "2_Dense")


def _entries(folder: Path, change: Callable[[list[dict[str, str]]], object]) -> None:
    entries = json.loads((folder / "modules.json").read_text())
    change(entries)
    (folder / "modules.json").write_text(json.dumps(entries))


def _no_dense(folder: Path) -> None:
    _entries(folder, lambda entries: entries.pop(2))


def _another_class(folder: Path) -> None:
    _entries(folder, lambda entries: entries[2].update(type="sentence_transformers.models.LayerNorm"))


def _another_folder(folder: Path) -> None:
    (folder / "2_Dense").rename(folder / "9_Dense")
    _entries(folder, lambda entries: entries[2].update(path="9_Dense"))


def _option(folder: Path, **changes: object) -> None:
    file = folder / "2_Dense/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def _tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    file = folder / "2_Dense/model.safetensors"
    found = load_file(file)
    change(found)
    save_file(found, file)


DIFFERENCES: dict[str, tuple[Callable[[Path], None], str]] = {
    "plain": (_no_modules, r"'a' has the module 2_Dense \(Dense\), with weights, and 'b' has no such module"),
    "not listed": (_no_dense, r"'a' has the module 2_Dense \(Dense\), with weights, and 'b' has no such module"),
    "class": (_another_class, r"'a' has the module 2_Dense \(Dense\), with weights, and 'b' has 2_Dense \(LayerNorm\)"),
    "folder": (_another_folder, r"'a' has the module 2_Dense \(Dense\), with weights, and 'b' has 9_Dense \(Dense\)"),
    "activation": (lambda folder: _option(folder, activation_function="torch.nn.modules.linear.Identity"), r"2_Dense \(Dense\) has activation_function: torch.*Tanh in 'a' and torch.*Identity in 'b'"),
    "one option more": (lambda folder: _option(folder, use_residual=True), r"2_Dense \(Dense\) has use_residual: missing in 'a' and True in 'b'"),
    "shape": (lambda folder: _tensors(folder, lambda t: t.update({"linear.bias": torch.ones(3)})), r"2_Dense.linear.bias is \[16\] in 'a' and \[3\] in 'b'"),
    "tensor less": (lambda folder: _tensors(folder, lambda t: t.pop("linear.bias")), r"2_Dense.linear.bias is \[16\] in 'a' and missing in 'b'"),
    "tensor more": (lambda folder: _tensors(folder, lambda t: t.update(extra=torch.ones(1))), r"2_Dense.extra is missing in 'a' and \[1\] in 'b'"),
    "integers": (lambda folder: _tensors(folder, lambda t: t.update({"linear.bias": torch.ones(16).int()})), r"2_Dense.linear.bias is \[16\] in 'a' and \[16\] torch.int32 in 'b'"),
}  # fmt: skip


@pytest.fixture(scope="module")
def pair(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models with a Dense."""
    folder = tmp_path_factory.mktemp("pair")
    return [zoo.make("dense", tiny_model, folder / name, seed) for seed, name in enumerate("ab")]


@pytest.mark.parametrize("as_base", [False, True])
@pytest.mark.parametrize("difference", DIFFERENCES)
def test_modules_that_differ(difference: str, as_base: bool, pair: list[Path], tmp_path: Path) -> None:
    change, message = DIFFERENCES[difference]
    a, b = (Path(shutil.copytree(path, tmp_path / path.name)) for path in pair)
    change(b)
    sources = [Source(a, "a")] if as_base else [Source(a, "a"), Source(b, "b")]
    expected = message.replace("'b'", "'base'") if as_base else message
    with pytest.raises(CheckpointMismatch, match=f"{expected}.*Merge models with the same modules"):
        merge_models(MergeSpec(toy.strategy("soup"), sources, b if as_base else None), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("change", [
    lambda folder: _entries(folder, lambda e: e[2].update(type="sentence_transformers.models.Dense")),  # an older spelling
    lambda folder: _option(folder, __version__="1"),
    lambda folder: (folder / "2_Dense/notes.txt").touch(),
])  # fmt: skip
def test_differences_without_effect(change: Callable[[Path], None], pair: list[Path], tmp_path: Path) -> None:
    a, b = (Path(shutil.copytree(path, tmp_path / path.name)) for path in pair)
    change(b)
    merge_models(MergeSpec(toy.strategy("soup"), [Source(a, "a"), Source(b, "b")]), tmp_path / "merged")
    zoo.close(zoo.tensors(tmp_path / "merged/model"), zoo.mean([a, b]))
