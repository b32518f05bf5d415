"""Adapters with their base, and models that other libraries convert first."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lightning_embed.errors import CheckpointError
from lightning_embed.merge import Source
from lightning_embed.merge.checkpoint.conversion import Converter
from lightning_embed.merge.checkpoint.open_model import open_directory, open_model
from tests.merge import toy

NAME = "encoder.layer.0.dense.weight"


@dataclass
class Recorder:
    """A converter whose copy is a given directory."""

    copy: Path
    calls: list[tuple[str, ...]] = field(default_factory=list)

    def dequantised(self, folder: Path) -> Path:
        self.calls.append(("dequantised", folder.name))
        return self.copy

    def folded(self, adapter: Path, base: Path) -> Path:
        self.calls.append(("folded", adapter.name, base.name))
        return self.copy


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return toy.write(tmp_path / "base", toy.model(0))


def _adapter(folder: Path, prefix: str = "", **options: Any) -> Path:
    folder.mkdir(parents=True)
    module = f"base_model.model.{prefix}encoder.layer.0.dense"
    factors = {f"{module}.lora_A.weight": torch.ones(2, 24), f"{module}.lora_B.weight": torch.ones(8, 2)}
    save_file(factors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 2, "r": 2, **options}))
    return folder


def _notes(adapter: Path, base: Path | None) -> tuple[str, ...]:
    return open_model(Source(adapter, "a"), base).notes


def test_a_base_that_the_adapter_names(base: Path, tmp_path: Path) -> None:
    assert _notes(_adapter(tmp_path / "a", base_model_name_or_path=str(base)), None) == ()
    assert _notes(tmp_path / "a", base) == ()
    (tmp_path / "link").symlink_to(base)
    assert _notes(tmp_path / "a", tmp_path / "link") == ()
    assert _notes(tmp_path / "a", toy.write(tmp_path / "copy", toy.model(0))) == (), "the same weights"


def test_a_base_that_is_not_the_one_it_names(base: Path, tmp_path: Path) -> None:
    other = toy.write(tmp_path / "other", toy.model(1))
    adapter = _adapter(tmp_path / "a", base_model_name_or_path=str(base))
    assert _notes(adapter, other) == (
        f"it is an adapter of {base}, into which it is folded, and base={other} is not that model.",
    )
    found = open_model(Source(adapter, "a"), other).tensor(NAME)
    torch.testing.assert_close(found, toy.model(0)[NAME] + 2)


@pytest.mark.parametrize("named", ["org/law", "/gone/law-v1", "law_v1"])
def test_a_base_that_is_not_here(named: str, base: Path, tmp_path: Path) -> None:
    adapter = _adapter(tmp_path / "a", base_model_name_or_path=named)
    assert _notes(adapter, base) == (
        f"it is an adapter of {named!r}, and is folded into base={base}, which must be that model.",
    )
    with pytest.raises(CheckpointError, match=rf"is an adapter of '{named}', which is not a directory on this machine"):
        _notes(adapter, None)


@pytest.mark.parametrize("named", ["org/law", "elsewhere/law", None, ""])
def test_a_base_of_the_same_name(named: str | None, tmp_path: Path) -> None:
    adapter = _adapter(tmp_path / "a", base_model_name_or_path=named)
    assert _notes(adapter, toy.write(tmp_path / "law", toy.model(0))) == ()
    if named == "org/law":
        assert _notes(adapter, toy.write(tmp_path / "hub/models--org--law/snapshots/012", toy.model(0))) == ()


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "_fsdp_wrapped_module."])
def test_wrapped_adapters(prefix: str, base: Path, tmp_path: Path) -> None:
    model = open_model(Source(_adapter(tmp_path / "a", prefix), "a"), base)
    torch.testing.assert_close(model.tensor(NAME), toy.model(0)[NAME] + 2)
    assert f"wrapper {prefix}" in model.notes[0]


def test_an_adapter_in_a_pickle(base: Path, tmp_path: Path) -> None:
    adapter = _adapter(tmp_path / "a")
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(
        CheckpointError, match=r"expected adapter_model.safetensors, found adapter_model.bin. A pickle can"
    ):
        _notes(adapter, base)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_links_out_of_an_adapter(name: str, base: Path, tmp_path: Path) -> None:
    adapter = _adapter(tmp_path / "a")
    (adapter / name).rename(tmp_path / name)
    (adapter / name).symlink_to(tmp_path / name)
    with pytest.raises(CheckpointError, match=rf"a/{name} is a link that leads out of its model"):
        _notes(adapter, base)


# conversion


def _quantised(folder: Path) -> Path:
    toy.write(folder, {NAME: torch.ones(8, 24).to(torch.int8), "q.SCB": torch.ones(8)})
    options = {"model_type": "toy", "quantization_config": {"quant_method": "bitsandbytes"}}
    (folder / "config.json").write_text(json.dumps(options))
    return folder


def test_a_quantised_model(base: Path, tmp_path: Path) -> None:
    recorder = Recorder(base)
    assert isinstance(recorder, Converter)
    model = open_model(Source(_quantised(tmp_path / "q"), "a", 7), None, recorder)
    assert recorder.calls == [("dequantised", "q")]
    assert torch.equal(model.tensor(NAME), toy.model(0)[NAME])
    assert (model.path, model.name, model.size) == (tmp_path / "q", "a", 7)
    assert model.files == [tmp_path / "q/config.json", tmp_path / "q/model.safetensors"]
    assert model.folders == [tmp_path / "q", base]
    assert model.notes == ("its quantised weights were dequantised.",)
    assert model.renamed(model.names).notes == model.notes


def test_a_quantised_body_in_its_own_folder(tmp_path: Path) -> None:
    """Older sentence-transformers directories: 0_Transformer/, with modules beside it."""
    folder = tmp_path / "q"
    _quantised(folder / "0_Transformer")
    toy.write(folder / "2_Dense", {"linear.weight": torch.ones(2, 2)})
    modules = [{"path": "0_Transformer", "type": "x.Transformer"}, {"path": "2_Dense", "type": "x.Dense"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    recorder = Recorder(toy.write(tmp_path / "copy", toy.model(0)))
    model = open_model(Source(folder, "a"), None, recorder)
    assert recorder.calls == [("dequantised", "0_Transformer")]
    assert torch.equal(model.tensor(NAME), toy.model(0)[NAME])
    assert model.tensor("2_Dense.linear.weight").tolist() == [[1, 1], [1, 1]]
    assert [file.relative_to(folder).as_posix() for file in model.files] == [
        "0_Transformer/config.json", "0_Transformer/model.safetensors", "2_Dense/model.safetensors",
    ]  # fmt: skip
    _adapter(tmp_path / "a", use_dora=True)
    recorder = Recorder(recorder.copy)
    open_model(Source(tmp_path / "a", "a"), folder, recorder)
    assert recorder.calls == [("dequantised", "0_Transformer"), ("folded", "a", "copy")]


@pytest.mark.parametrize("options", [{"use_dora": True}, {"peft_type": "LOHA"}, {"init_lora_weights": "pissa"}])
def test_an_adapter_of_a_different_kind(options: dict[str, Any], base: Path, tmp_path: Path) -> None:
    recorder = Recorder(toy.write(tmp_path / "copy", toy.model(3)))
    model = open_model(Source(_adapter(tmp_path / "a", **options), "a"), base, recorder)
    assert recorder.calls == [("folded", "a", "base")]
    assert torch.equal(model.tensor(NAME), toy.model(3)[NAME])
    assert [file.name for file in model.files] == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "model.safetensors",
    ]
    assert model.folders == [base, tmp_path / "a", tmp_path / "copy"]
    assert model.notes == ("its adapter was folded by peft.",)


@pytest.mark.parametrize("options", [{}, {"use_dora": True}])
def test_an_adapter_of_a_quantised_base(options: dict[str, Any], base: Path, tmp_path: Path) -> None:
    recorder = Recorder(base)
    model = open_model(Source(_adapter(tmp_path / "a", **options), "a"), _quantised(tmp_path / "q"), recorder)
    kinds = [call[0] for call in recorder.calls]
    assert kinds == ["dequantised", *(["folded"] if options else [])]
    assert tmp_path / "q/model.safetensors" in model.files
    assert "its quantised weights were dequantised." in model.notes


def test_plain_models_are_not_converted(base: Path, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    open_model(Source(base, "a"), None, recorder)
    open_model(Source(_adapter(tmp_path / "a"), "a"), base, recorder)
    open_directory(Source(base, "base"), recorder)
    assert recorder.calls == []


def test_without_a_converter(base: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"q is quantised \(bitsandbytes"):
        open_model(Source(_quantised(tmp_path / "q"), "a"), None)
    with pytest.raises(CheckpointError, match=r"use_dora=True is more than plain LoRA. Fold it with peft's"):
        open_model(Source(_adapter(tmp_path / "a", use_dora=True), "a"), base)
