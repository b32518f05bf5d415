"""Names without the wrappers of torch.compile, DataParallel, FSDP ..."""

from pathlib import Path

import pytest
import torch

from lightning_embed.errors import CheckpointError
from lightning_embed.merge.checkpoint.wrappers import unwrapped
from tests.merge import toy

WRAPPED = {
    "_orig_mod.{}": "_orig_mod. (torch.compile)",
    "module.{}": "module. (DataParallel)",
    "module._orig_mod.{}": "_orig_mod. (torch.compile), module. (DataParallel)",
    "_orig_mod.module.{}": "_orig_mod. (torch.compile), module. (DataParallel)",
    "module.module.{}": "module. (DataParallel)",
    "_fsdp_wrapped_module.{}": "_fsdp_wrapped_module. (FSDP)",
    "_fsdp_wrapped_module._checkpoint_wrapped_module.{}": "_checkpoint_wrapped_module. (activation checkpointing), _fsdp_wrapped_module. (FSDP)",
    "_forward_module.{}": "_forward_module. (Lightning Fabric)",
    "0.auto_model.{}": "0.auto_model. (SentenceTransformer)",
    "module.0.auto_model.{}": "0.auto_model. (SentenceTransformer), module. (DataParallel)",
}  # fmt: skip


@pytest.mark.parametrize(("form", "told"), WRAPPED.items())
def test_around_the_model(form: str, told: str) -> None:
    names = list(toy.SHAPES)
    own, notes = unwrapped(map(form.format, names), "a")
    assert own == {name: form.format(name) for name in names}
    assert notes == (f"names are read without the wrapper {told}.",)


@pytest.mark.parametrize(
    "wrapper", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_fpw_module", "_forward_module"]
)
def test_inside_the_model(wrapper: str) -> None:
    names = [
        "embeddings.weight",
        f"encoder.layer.0.{wrapper}.dense.weight",
        f"encoder.{wrapper}.layer.1.{wrapper}.bias",
    ]
    own, notes = unwrapped(names, "a")
    assert list(own) == ["embeddings.weight", "encoder.layer.0.dense.weight", "encoder.layer.1.bias"]
    assert len(notes) == 1


def test_behind_a_prefix() -> None:
    own, _ = unwrapped(["model.module.a.weight", "model.module.b"], "a")
    assert list(own) == ["model.a.weight", "model.b"]


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["a", "b.weight"],
        ["stages.0.module.weight", "stages.1.module.weight", "head.weight"],  # LeViT's residuals
        ["module.a", "b"],
        ["modules.a", "modules.b"],
        ["my_orig_mod.a", "_orig_module.b"],
        ["a.module"],
        ["0.auto_model.a", "2.linear.weight"],
    ],
)
def test_names_of_the_model_itself(names: list[str]) -> None:
    assert unwrapped(names, "a") == ({name: name for name in names}, ())


@pytest.mark.parametrize(
    "names", [["a", "_orig_mod.a"], ["x._orig_mod.a", "_orig_mod.x.a"], ["x._fsdp_wrapped_module.a", "x.a", "b"]]
)
def test_collisions(names: list[str]) -> None:
    with pytest.raises(
        CheckpointError, match=rf"^a: {names[0]} and {names[1]} are one tensor, .* Save the model again"
    ):
        unwrapped(names, "a")


@pytest.mark.parametrize("form", ["_orig_mod.{}", "module.{}", "_fsdp_wrapped_module.{}"])
def test_merged_with_a_model_that_has_none(form: str, tmp_path: Path) -> None:
    wrapped, plain = toy.model(1), toy.model(2)
    sources = [{form.format(name): tensor for name, tensor in wrapped.items()}, plain]
    merged = toy.merge(tmp_path, toy.strategy("soup"), sources)
    toy.close(merged, {name: (wrapped[name].float() + plain[name].float()) / 2 for name in plain})
    alone = toy.merge(tmp_path / "alone", toy.strategy("soup"), [sources[0], sources[0]])
    assert alone.keys() == plain.keys(), "also where all sources are wrapped"
    assert torch.equal(alone[toy.ZERO], plain[toy.ZERO])
