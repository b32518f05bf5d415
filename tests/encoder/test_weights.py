"""Weights in fewer bytes: the model computes with what it saves, trains its adapters, and takes less memory."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lightning_embed.encoder import Encoder, EncoderOptions, load
from lightning_embed.encoder.options import Dtype, Weights
from lightning_embed.encoder.weights import StoredLinear
from lightning_embed.errors import ConfigError
from lightning_embed.types import Tokens
from tests.encoder.test_adapters import LORA, assert_saved_embeds_alike
from tests.encoder.test_lora import TEXTS, train

NARROW = [Weights.bfloat16, Weights.int8, Weights.nf4]
BYTES = {Weights.bfloat16: 2.0, Weights.int8: 1.0, Weights.nf4: 0.5}


def make(path: Path, weights: Weights, **options: Any) -> Encoder:
    return Encoder(EncoderOptions(str(path), weights=weights, **{"lora_rank": 4, **options}))


def num_bytes(module: nn.Module) -> int:
    return sum(p.nbytes for p in module.parameters() if not p.requires_grad)


@pytest.mark.parametrize("weights", NARROW)
@pytest.mark.parametrize("family", ["bert", "qwen3"])
def test_it_trains_and_saves_what_it_computes_with(
    build, ragged: Tokens, tmp_path: Path, family: str, weights: Weights
) -> None:
    path = build(family)
    dense = Encoder(EncoderOptions(str(path)))
    encoder = make(path, weights)
    assert encoder.packed == dense.packed
    near = {Weights.bfloat16: 0.02, Weights.int8: 0.05, Weights.nf4: 0.5}[weights]
    torch.testing.assert_close(encoder.encode(TEXTS), dense.encode(TEXTS), atol=near, rtol=0)
    before = encoder.encode(TEXTS)
    assert_saved_embeds_alike(encoder, tmp_path / "start")
    train(encoder, ragged)
    assert not torch.allclose(encoder.encode(TEXTS), before, atol=1e-3)
    assert_saved_embeds_alike(encoder, tmp_path / "trained")
    assert all(p.dtype is torch.float32 for p in encoder.parameters() if p.requires_grad)


@pytest.mark.parametrize("weights", NARROW)
def test_linear_layers_take_the_bytes_they_should(build, weights: Weights) -> None:
    encoder = make(build("qwen3", hidden_size=64, intermediate_size=256), weights)
    layers = [layer for layer in encoder.backbone.modules() if isinstance(layer, StoredLinear)]
    assert len(layers) == 2 * 7
    for layer in layers:
        assert layer.stored.nbytes == BYTES[weights] * layer.in_features * layer.out_features


def test_bfloat16_is_half_the_bytes(build) -> None:
    path = build("bert", hidden_size=128, intermediate_size=512)
    whole, half = (num_bytes(make(path, weights).backbone) for weights in (Weights.float32, Weights.bfloat16))
    assert 0.5 * whole <= half < 0.51 * whole, "all but biases and norms"


@pytest.mark.parametrize("weights", NARROW)
def test_gradients_are_those_of_the_dense_model(build, ragged: Tokens, tmp_path: Path, weights: Weights) -> None:
    encoder = make(build("bert"), weights)
    encoder.save(tmp_path / "dense")
    dense = make(tmp_path / "dense", Weights.float32)
    for each in (encoder, dense):
        train(each, ragged)
    trained = {name: p for name, p in encoder.named_parameters() if p.requires_grad}
    for name, p in trained.items():
        torch.testing.assert_close(p, dense.get_parameter(name), atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("weights", NARROW)
def test_computation_in_bfloat16(build, ragged: Tokens, tmp_path: Path, weights: Weights) -> None:
    encoder = make(build("bert"), weights, dtype=Dtype.bfloat16)
    encoder.save(tmp_path / "dense")
    dense = make(tmp_path / "dense", Weights.float32, dtype=Dtype.bfloat16)
    torch.testing.assert_close(encoder(ragged, seed=1).final, dense(ragged, seed=1).final, atol=2e-2, rtol=0)
    train(encoder, ragged)


@pytest.mark.parametrize("weights", NARROW)
@pytest.mark.parametrize(
    "adapter",
    [
        {**LORA, "use_dora": True},
        {**LORA, "target_modules": ["query"], "modules_to_save": ["key", "word_embeddings", "intermediate"]},
        {"_target_": "peft.LoHaConfig", "r": 4, "target_modules": "all-linear"},
    ],
    ids=["dora", "modules_to_save", "loha"],
)
def test_other_adapters(tiny_model, ragged: Tokens, tmp_path: Path, weights: Weights, adapter: dict[str, Any]) -> None:
    encoder = make(tiny_model, weights, lora_rank=0, peft=adapter)
    train(encoder, ragged)
    assert_saved_embeds_alike(encoder, tmp_path)


@pytest.mark.parametrize("weights", NARROW)
def test_a_state_goes_into_another_encoder(tiny_model, ragged: Tokens, weights: Weights) -> None:
    one, other = make(tiny_model, weights), make(tiny_model, weights)
    train(one, ragged)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.encode(TEXTS), other.encode(TEXTS))


def test_layers_checkpointed_or_not_train_alike(tiny_model, ragged: Tokens) -> None:
    one, other = (make(tiny_model, Weights.nf4, gradient_checkpointing=on) for on in (False, True))
    train(one, ragged)
    train(other, ragged)
    for name, p in one.named_parameters():
        torch.testing.assert_close(p, other.get_parameter(name), msg=name)


def test_tied_tables_stay_tied(build, ragged: Tokens, tmp_path: Path) -> None:
    encoder = make(build("t5", d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4), Weights.bfloat16)
    train(encoder, ragged)
    assert_saved_embeds_alike(encoder, tmp_path / "saved")


def test_a_model_without_its_pooler_opens_and_one_without_a_layer_does_not(tiny_model, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    load(tiny_model).save(tmp_path)
    file = tmp_path / "model.safetensors"
    state = {name: tensor for name, tensor in load_file(file).items() if not name.startswith("pooler.")}
    save_file(state, file, metadata={"format": "pt"})
    make(tmp_path, Weights.bfloat16)
    state.pop("encoder.layer.0.output.dense.weight")
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(Exception, match="1 weights are not in the directory"):
        make(tmp_path, Weights.bfloat16)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (Weights.bfloat16, "expected adapters .*smaller than 1/256 of a weight. For computation in bfloat16 give encoder.dtype"),
        (Weights.int8, "expected adapters .* int8 has no gradient"),
        (Weights.nf4, "expected adapters .* nf4 has no gradient"),
    ],
)  # fmt: skip
def test_refusals(weights: Weights, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EncoderOptions("x", weights=weights)


def test_without_bitsandbytes_one_sentence(tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match=r"weights=nf4: expected the package bitsandbytes, got none. pip install .*\[quantized\]"):  # fmt: skip
        make(tiny_model, Weights.nf4)
    make(tiny_model, Weights.bfloat16)
