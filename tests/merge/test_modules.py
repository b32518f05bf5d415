"""Modules with weights beside the body: found, merged like the body, and written where they were."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lightning_embed.errors import CheckpointError
from lightning_embed.merge import Source
from lightning_embed.merge.checkpoint.modules import layout_of
from lightning_embed.merge.engine import MergeSpec, merge_models
from lightning_embed.merge.layer_names import layer_of
from lightning_embed.merge.replay import Replay
from tests.merge import toy, zoo

ST = "sentence_transformers.models."
NEW = "sentence_transformers.sentence_transformer.modules."


def _directory(folder: Path, modules: list[tuple[str, str]], *weighted: str, file: str = "model.safetensors") -> Path:
    """A directory whose modules.json lists (type, path); `weighted` are the folders with weights."""
    folder.mkdir()
    entries = [{"idx": n, "name": str(n), "path": path, "type": kind} for n, (kind, path) in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(entries))
    for place in weighted:
        (folder / place).mkdir(parents=True, exist_ok=True)
        save_file({"weight": torch.ones(2)}, folder / place / file)
    return folder


LAYOUTS: dict[str, tuple[list[tuple[str, str]], list[str], str, list[str]]] = {
    "root": ([(ST + "Transformer", ""), (ST + "Pooling", "1_Pooling")], [""], "", []),
    "oldest": ([(ST + "Transformer", "0_Transformer"), (ST + "Pooling", "1_Pooling")], ["0_Transformer"], "0_Transformer", []),
    "dense": ([(ST + "Transformer", ""), (ST + "Pooling", "1_Pooling"), (ST + "Dense", "2_Dense")], ["", "2_Dense"], "", ["2_Dense"]),
    "new names": ([(NEW + "Transformer", ""), (NEW + "Dense", "2_Dense")], ["", "2_Dense"], "", ["2_Dense"]),
    "oldest with dense": ([(ST + "Transformer", "0_Transformer"), (ST + "Dense", "2_Dense")], ["0_Transformer", "2_Dense"], "0_Transformer", ["2_Dense"]),
    "static": ([(ST + "StaticEmbedding", "")], [""], "", []),
    "static in a folder": ([(ST + "StaticEmbedding", "0_StaticEmbedding"), (ST + "Normalize", "1")], ["0_StaticEmbedding"], "0_StaticEmbedding", []),
    "no type": ([("", "")], [""], "", []),
    "a class of the user": ([(ST + "Transformer", ""), ("mine.Head", "1_Head")], ["", "1_Head"], "", ["1_Head"]),
    "a class of the user is the body": ([("custom_st.Transformer", ""), (ST + "Pooling", "1_Pooling")], [""], "", []),
    "head first": ([(ST + "Dense", "0_Dense"), (ST + "Transformer", "1_Transformer")], ["0_Dense", "1_Transformer"], "1_Transformer", ["0_Dense"]),
    "deep": ([(ST + "Transformer", ""), (ST + "Dense", "heads/one")], ["", "heads/one"], "", ["heads/one"]),
    "dots": ([(ST + "Transformer", "."), (ST + "Dense", "./2_Dense/")], ["", "2_Dense"], "", ["2_Dense"]),
    "no weights at all": ([(ST + "BoW", "0_BoW")], [], "", []),
    "nothing": ([], [], "", []),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str, tmp_path: Path) -> None:
    modules, weighted, body, beside = LAYOUTS[layout]
    found = layout_of(_directory(tmp_path / "a", modules, *weighted))
    assert (found.body, [module.folder for module in found.weighted]) == (body, beside)
    assert found.is_plain == (not modules)


@pytest.mark.parametrize("kind", ["Router", "Asym"])
def test_a_router(kind: str, tmp_path: Path) -> None:
    folder = _directory(tmp_path / "a", [(ST + kind, "")], "query_0_Dense", "document_0_Transformer")
    types = {"query_0_Dense": ST + "Dense", "document_0_Transformer": NEW + "Transformer"}
    (folder / ("router_config.json" if kind == "Router" else "config.json")).write_text(json.dumps({"types": types}))
    found = layout_of(folder)
    assert (found.body, found.weighted[0].folder) == ("document_0_Transformer", "query_0_Dense")
    assert found.prefix_of("query_0_Dense.weight") == "query_0_Dense."
    assert found.prefix_of("encoder.weight") == ""


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "head.ckpt", "lstm.pkl"])
def test_a_pickle_is_refused_by_name(name: str, tmp_path: Path) -> None:
    folder = _directory(tmp_path / "a", [(ST + "Transformer", ""), (ST + "Dense", "2_Dense")], "")
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / name).touch()
    with pytest.raises(
        CheckpointError, match=rf"2_Dense/{name} has the weights of the module Dense, .*save_pretrained"
    ):
        layout_of(folder)


@pytest.mark.parametrize("path", ["/etc", "..", "2_Dense/../..", "a\0b", "x" * 300])
def test_a_path_out_of_the_directory(path: str, tmp_path: Path) -> None:
    folder = _directory(tmp_path / "a", [(ST + "Transformer", ""), (ST + "Dense", path)])
    with pytest.raises(CheckpointError, match=r"modules.json: expected the paths of modules in this directory, found"):
        layout_of(folder)


@pytest.mark.parametrize("path", ["", ".", "../x", "/etc"])
def test_a_router_out_of_its_folder(path: str, tmp_path: Path) -> None:
    folder = _directory(tmp_path / "a", [(ST + "Router", "")])
    (folder / "router_config.json").write_text(json.dumps({"types": {path: ST + "Router"}}))
    with pytest.raises(CheckpointError, match=r"expected the (folders of modules below it|name of a file in it)"):
        layout_of(folder)


def test_routers_without_end(tmp_path: Path) -> None:
    folder = _directory(tmp_path / "a", [(ST + "Router", "")])
    (folder / "router_config.json").write_text(json.dumps({"types": {"x": ST + "Router"}}))
    (folder / "x").symlink_to(".")
    with pytest.raises(CheckpointError, match=r"routers in routers without end"):
        layout_of(folder)


@pytest.mark.parametrize(
    ("name", "layer"),
    [("2_Dense.linear.weight", "2_Dense"), ("1_CNN.convs.0.weight", "1_CNN.convs.0"),
     ("query_0_Dense.linear.bias", "query_0_Dense"), ("d_0_Transformer.encoder.layer.1.x", "d_0_Transformer.encoder.layer.1")],
)  # fmt: skip
def test_layers_of_modules(name: str, layer: str) -> None:
    assert layer_of(name) == layer


def _sources(chain: str, tiny_model: Path, folder: Path) -> list[Path]:
    return [zoo.make(chain, tiny_model, folder / name, seed) for seed, name in enumerate(("a", "b", "base"))]


def _merge(word: str, paths: list[Path], target: Path, base: Path | None = None, **options: Any) -> Path:
    spec = MergeSpec(toy.strategy(word, **options), [Source(path, path.name) for path in paths], base)
    merge_models(spec, target)
    return target / "model"


@pytest.mark.parametrize("chain", zoo.CHAINS)
def test_a_soup_is_the_mean_of_all_modules(chain: str, tiny_model: Path, tmp_path: Path) -> None:
    a, b, _ = _sources(chain, tiny_model, tmp_path)
    merged, swapped = _merge("soup", [a, b], tmp_path / "ab"), _merge("soup", [b, a], tmp_path / "ba")
    expected = zoo.mean([a, b])
    zoo.close(zoo.tensors(merged), expected)
    zoo.close(zoo.tensors(swapped), expected)
    texts = ["the red cat", "the dog sees"]
    found = zoo.encode(merged, texts)
    torch.testing.assert_close(found, zoo.encode(swapped, texts), rtol=0, atol=1e-6)
    shutil.copytree(a, tmp_path / "reference")
    for file in (tmp_path / "reference").rglob("*.safetensors"):
        place = f"{file.parent.relative_to(tmp_path / 'reference')}:"
        own = {n.removeprefix(place): t.float() for n, t in expected.items() if n.startswith(place)}
        save_file(own, file, metadata={"format": "pt"})
    torch.testing.assert_close(found, zoo.encode(tmp_path / "reference", texts), rtol=0, atol=1e-5)


def _flat(folder: Path, target: Path) -> Path:
    """The same tensors in one file without modules.json, under the names of a merge."""
    layout = layout_of(folder)
    tensors = {}
    for module in layout.weights:
        place = module.folder or "."
        own = {n.partition(":")[2]: t for n, t in zoo.tensors(folder).items() if n.partition(":")[0] == place}
        tensors |= {module.prefix + name: tensor for name, tensor in own.items()}
    return toy.write(target, tensors)


@pytest.mark.parametrize(
    ("chain", "word"),
    [
        pytest.param(chain, word, marks=[pytest.mark.slow] * (word != "ties"))
        for chain in ("dense", "layer-norm", "static-dense", "router")
        for word in ("ties", "slerp", "task_arithmetic", "dare")
    ],
)
def test_modules_are_merged_as_the_body_is(chain: str, word: str, tiny_model: Path, tmp_path: Path) -> None:
    paths = _sources(chain, tiny_model, tmp_path / "models")
    flat = [_flat(path, tmp_path / "flat" / path.name) for path in paths]
    merged = _merge(word, paths[:2], tmp_path / "merged", paths[2])
    expected = toy.read(_merge(word, flat[:2], tmp_path / "expected", flat[2]))
    _flat(merged, tmp_path / "found")
    found = toy.read(tmp_path / "found")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_a_rule_for_a_module(tiny_model: Path, tmp_path: Path) -> None:
    a, b, base = _sources("dense", tiny_model, tmp_path)
    merged = zoo.tensors(_merge("soup", [a, b], tmp_path / "m", base, layers=["2_Dense[.].*=0"]))
    assert torch.equal(merged["2_Dense:linear.weight"], zoo.tensors(base)["2_Dense:linear.weight"])
    name = ".:encoder.layer.0.output.dense.weight"
    torch.testing.assert_close(merged[name].double(), zoo.mean([a, b])[name], rtol=0, atol=2e-7)


def test_a_replay_merges_modules_too(tiny_model: Path, tmp_path: Path) -> None:
    a, b, base = _sources("dense", tiny_model, tmp_path)
    merged = _merge("ties", [a, b], tmp_path / "merged/one", base)
    replay = Replay.read(tmp_path / "merged/one/merge.json")
    assert set(replay.record.sha256) == {"model.safetensors", "2_Dense/model.safetensors"}
    assert set(replay.record.sources[0].sha256) == {"model.safetensors", "2_Dense/model.safetensors"}
    replay.repeat(toy.strategy("ties"), tmp_path / "merged/two")
    again = tmp_path / "merged/two/model"
    assert {file.relative_to(merged): file.read_bytes() for file in merged.rglob("*") if file.is_file()} == {
        file.relative_to(again): file.read_bytes() for file in again.rglob("*") if file.is_file()
    }
    weights = b / "2_Dense/model.safetensors"
    save_file({name: tensor + 1 for name, tensor in zoo.load_file(weights).items()}, weights)
    with pytest.raises(CheckpointError, match=r"2_Dense/model.safetensors is not the file that"):
        replay.repeat(toy.strategy("ties"), tmp_path / "merged/three")


def test_nan_in_a_module_is_found(tiny_model: Path, tmp_path: Path) -> None:
    a, b, _ = _sources("dense", tiny_model, tmp_path)
    weights = b / "2_Dense/model.safetensors"
    save_file({name: tensor / 0 for name, tensor in zoo.load_file(weights).items()}, weights)
    with pytest.raises(CheckpointError, match=r"'b' has NaN or infinity in 2_Dense.linear"):
        _merge("soup", [a, b], tmp_path / "merged")


def test_the_oldest_layout(tiny_model: Path, tmp_path: Path) -> None:
    """0_Transformer beside a model at the root: the result has the layout of the first with modules.json."""
    a, b, _ = _sources("dense", tiny_model, tmp_path)
    (b / "0_Transformer").mkdir()
    for file in [
        file
        for file in b.iterdir()
        if file.is_file() and file.name not in ("modules.json", "config_sentence_transformers.json")
    ]:
        file.rename(b / "0_Transformer" / file.name)
    entries = json.loads((b / "modules.json").read_text())
    entries[0]["path"] = "0_Transformer"
    (b / "modules.json").write_text(json.dumps(entries))
    merged = _merge("soup", [b, a], tmp_path / "merged")
    assert (merged / "0_Transformer/model.safetensors").exists()
    assert (merged / "0_Transformer/tokenizer.json").exists()
    assert not (merged / "model.safetensors").exists()
    at_root = _merge("soup", [a, b], tmp_path / "other")
    torch.testing.assert_close(zoo.encode(merged, ["the cat"]), zoo.encode(at_root, ["the cat"]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("has_own", [True, False])
def test_an_adapter_beside_modules(has_own: bool, tiny_model: Path, tmp_path: Path) -> None:
    """Modules beside the adapter are its own; where it has no modules.json, they are those of its base."""
    base, other, _ = _sources("dense", tiny_model, tmp_path)
    adapter, name = tmp_path / "adapter", "encoder.layer.0.attention.self.query"
    adapter.mkdir()
    options = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "base_model_name_or_path": str(base)}
    (adapter / "adapter_config.json").write_text(json.dumps(options))
    factors = {"A": torch.randn(2, zoo.DIM), "B": torch.randn(zoo.DIM, 2)}
    save_file(
        {f"base_model.model.{name}.lora_{side}.weight": factor for side, factor in factors.items()},
        adapter / "adapter_model.safetensors",
    )
    if has_own:
        shutil.copy(other / "modules.json", adapter)
        for folder in ("1_Pooling", "2_Dense"):
            shutil.copytree(other / folder, adapter / folder)
    merged = zoo.tensors(_merge("soup", [adapter], tmp_path / "merged", base))
    owner = other if has_own else base
    assert torch.equal(merged["2_Dense:linear.weight"], zoo.tensors(owner)["2_Dense:linear.weight"])
    expected = zoo.tensors(base)[f".:{name}.weight"] + factors["B"] @ factors["A"]
    torch.testing.assert_close(merged[f".:{name}.weight"], expected, rtol=0, atol=1e-5)
    record = json.loads((tmp_path / "merged/merge.json").read_text())
    assert sorted(record["sources"][0]["sha256"]) == [
        "2_Dense/model.safetensors", "adapter_config.json", "adapter_model.safetensors", "model.safetensors",
    ]  # fmt: skip
