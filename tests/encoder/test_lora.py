"""LoRA: only adapters train, and what is saved is an ordinary model that embeds alike."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lightning_embed.encoder import Encoder, EncoderOptions, load
from lightning_embed.encoder.options import Attention
from lightning_embed.errors import ConfigError
from lightning_embed.types import Tokens

TEXTS = ["the red bird", "a cat", "the big dog runs in the old house near the river"]


def make(path: Path, **options) -> Encoder:
    return Encoder(EncoderOptions(str(path), **{"lora_rank": 4, "lora_alpha": 8.0, **options}))


def train(encoder: Encoder, tokens: Tokens, steps: int = 3) -> None:
    optimizer = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], lr=1.0)
    target = torch.randn(len(tokens), encoder.dim, generator=torch.Generator().manual_seed(1))
    for step in range(steps):
        (encoder(tokens, seed=step).final * target).sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_only_adapters_train_and_each_gets_a_gradient(tiny_model, ragged: Tokens) -> None:
    encoder = make(tiny_model)
    trained = {name: p for name, p in encoder.named_parameters() if p.requires_grad}
    assert all(".lora_" in name for name in trained)
    assert len(trained) == 2 * 2 * 6, "A and B of six linear layers in each of two layers; the pooler has none"
    assert {min(p.shape) for p in trained.values()} == {4}
    encoder(ragged, seed=0).final.sum().backward()
    assert all(p.grad is not None for p in trained.values())


def test_before_training_it_is_the_base(tiny_model, ragged: Tokens) -> None:
    state = torch.get_rng_state()
    encoder = make(tiny_model).eval()
    assert torch.equal(torch.get_rng_state(), state)
    base = Encoder(EncoderOptions(str(tiny_model))).eval()
    assert torch.equal(encoder(ragged).final, base(ragged).final)
    again = dict(make(tiny_model).named_parameters())
    assert all(torch.equal(p, again[name]) for name, p in encoder.named_parameters())


@pytest.mark.parametrize("family", ["bert", "qwen3", "mpnet"])
def test_saved_is_an_ordinary_model_that_embeds_alike(build, ragged: Tokens, tmp_path: Path, family: str) -> None:
    path = build(family)
    base = Encoder(EncoderOptions(str(path)))
    base.save(tmp_path / "base")
    encoder = make(path)
    train(encoder, ragged)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    encoder.save(tmp_path / "saved")
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    saved = load(tmp_path / "saved")
    torch.testing.assert_close(saved.encode(TEXTS), encoder.encode(TEXTS), atol=1e-5, rtol=0)
    assert not torch.allclose(saved.encode(TEXTS), base.encode(TEXTS), atol=1e-3)
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("saved", "base"))
    assert ours.keys() == theirs.keys()
    changed = {name for name in ours if not torch.equal(ours[name], theirs[name])}
    assert changed
    assert all(ours[name].ndim == 2 for name in changed)
    files = [{f.name for f in (tmp_path / name).rglob("*")} for name in ("saved", "base")]
    assert files[0] == files[1]


def test_training_leaves_the_base_alone_and_goes_on_after_a_save(tiny_model, ragged: Tokens, tmp_path: Path) -> None:
    base = Encoder(EncoderOptions(str(tiny_model))).backbone.state_dict()
    one, other = make(tiny_model), make(tiny_model)
    train(one, ragged)
    one.save(tmp_path)
    for encoder in (one, one, other, other, other):
        train(encoder, ragged)
    assert all(torch.equal(p, other.state_dict()[name]) for name, p in one.state_dict().items())
    state = {name.replace(".base_layer.", "."): p for name, p in one.backbone.state_dict().items()}
    assert all(torch.equal(tensor, state[name]) for name, tensor in base.items())


def test_packed_equals_padded_and_dropout_replays(tiny_model, ragged: Tokens) -> None:
    packed, padded = (make(tiny_model, attention=a, lora_dropout=0.2) for a in (Attention.packed, Attention.sdpa))
    train(packed, ragged)
    padded.load_state_dict(packed.state_dict())
    assert torch.equal(packed(ragged, seed=1).final, packed(ragged, seed=1).final)
    assert not torch.allclose(packed(ragged, seed=1).final, packed(ragged, seed=2).final)
    torch.testing.assert_close(packed.eval()(ragged).final, padded.eval()(ragged).final, atol=1e-5, rtol=0)


def test_checkpointing_changes_nothing(tiny_model, ragged: Tokens) -> None:
    one, other = (make(tiny_model, gradient_checkpointing=on) for on in (False, True))
    train(one, ragged)
    train(other, ragged)
    for name, p in one.named_parameters():
        torch.testing.assert_close(p, other.get_parameter(name), msg=name)


def test_targets_are_named_by_the_end_of_their_name(tiny_model) -> None:
    encoder = make(tiny_model, lora_targets=["query", "attention.output.dense"])
    layers = {name.partition(".lora_")[0] for name, p in encoder.named_parameters() if p.requires_grad}
    ends = {name.split("attention.")[1] for name in layers}
    assert (len(layers), ends) == (4, {"self.query", "output.dense"})
    with pytest.raises(ConfigError, match=r"got 'qury'. Did you mean 'query'\? Known: dense, key, query, value"):
        make(tiny_model, lora_targets=["query", "qury"])


def test_without_peft_one_sentence(tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(
        ConfigError, match=r"expected the package peft, got none. pip install 'lightning-embed\[lora\]'"
    ):
        make(tiny_model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora_rank": -1}, "lora_rank: expected 0 .* got -1"),
        ({"lora_alpha": 0.0}, "lora_alpha: expected more than 0"),
        ({"lora_dropout": 1.0}, r"lora_dropout: expected a share in \[0, 1\), got 1.0"),
        ({"lora_targets": ["query"]}, "lora_targets: expected a lora_rank with them"),
    ],
)
def test_refusals(options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        EncoderOptions("x", **options)
