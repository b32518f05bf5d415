"""Packed equals padded: outputs and gradients, for every family that we call verified."""

from dataclasses import replace

import pytest
import torch

from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.encoder.attention import FAMILIES
from lightning_embed.encoder.options import Attention, Dtype
from lightning_embed.errors import ConfigError
from lightning_embed.types import Tokens


def gradients(encoder, tokens):
    """Embeddings, and the gradient of each parameter for a loss that sees every number of them."""
    torch.manual_seed(3)
    embeddings = encoder.eval()(tokens, middle=True)
    (embeddings.final * torch.randn(11, 32)).sum().add((embeddings.middle * torch.randn(11, 32)).sum()).backward()
    return embeddings, {name: p.grad for name, p in encoder.named_parameters() if p.requires_grad}


def assert_same(one, other, tokens):
    (embeddings, grads), (other_embeddings, other_grads) = gradients(one, tokens), gradients(other, tokens)
    torch.testing.assert_close(embeddings.final, other_embeddings.final, atol=1e-5, rtol=0)
    torch.testing.assert_close(embeddings.middle, other_embeddings.middle, atol=1e-5, rtol=0)
    assert grads.keys() == other_grads.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(grad, other_grads[name], atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("long", [1024, 0], ids=["own attention", "torch's"])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_equals_padded(family, long: int, build, ragged: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's own attention is what a GPU runs, and a CPU of long texts without dropout: as evaluation here."""
    monkeypatch.setattr("lightning_embed.encoder.attention._LONG", long)
    path = str(build(family))
    packed = Encoder(EncoderOptions(path, max_tokens=40))
    padded = Encoder(EncoderOptions(path, attention=Attention.eager, max_tokens=60))
    assert packed.packed
    assert not padded.packed
    assert len(packed.chunks(ragged)) > 2
    assert_same(packed, padded, ragged)


def test_gradient_checkpointing_changes_nothing(tiny_model, ragged: Tokens) -> None:
    def train(checkpointing: bool):
        options = EncoderOptions(str(tiny_model), gradient_checkpointing=checkpointing, dtype=Dtype.float32)
        encoder = Encoder(options)
        encoder(ragged, seed=4).final.square().matmul(torch.arange(32.0)).sum().backward()
        return {name: p.grad for name, p in encoder.named_parameters() if p.requires_grad}

    plain = train(False)
    for name, grad in train(True).items():
        torch.testing.assert_close(grad, plain[name], msg=name)


def test_packed_backbone_cannot_be_called_without_layout(tiny_model) -> None:
    encoder = Encoder(EncoderOptions(str(tiny_model)))
    with pytest.raises(TypeError, match="layout"):
        encoder.backbone(input_ids=torch.ones(2, 4, dtype=torch.int64))


@pytest.mark.slow
def test_attention_dropout_keeps_the_expectation(build, ragged: Tokens) -> None:
    """Without the scale of what is kept, the mean over many masks would be half as long."""
    options = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.5, "num_hidden_layers": 1}
    encoder = Encoder(EncoderOptions(str(build("bert", **options)), dtype=Dtype.float32))
    attended = []
    encoder.backbone.encoder.layer[0].attention.self.register_forward_hook(lambda *a: attended.append(a[2][0].detach()))
    for seed in range(400):
        encoder(ragged, seed=seed)
    mean = torch.stack(attended).mean(0)
    attended.clear()
    encoder.eval()(ragged)
    assert abs((mean * attended[0]).sum() / attended[0].square().sum() - 1) < 0.05


def test_mixed_precision_of_the_trainer_covers_the_backward_pass(tiny_model, ragged: Tokens) -> None:
    """Lightning's bf16-mixed runs the backward pass inside its autocast."""
    encoder = Encoder(EncoderOptions(str(tiny_model), dtype=Dtype.float32))
    final = encoder(ragged, seed=1).final
    with torch.autocast("cpu", torch.bfloat16):
        final.square().matmul(torch.arange(32.0)).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.requires_grad)


@pytest.mark.slow  # compiling takes its time, and on a CPU a C++ compiler
@pytest.mark.filterwarnings("ignore")  # torch.compile warns of its own imports and of its own gradients
def test_compiled_layers_change_nothing_and_survive_other_lengths(tiny_model, ragged: Tokens) -> None:
    from torch._dynamo.utils import counters

    counters.clear()
    options = EncoderOptions(str(tiny_model), dtype=Dtype.float32)
    plain, compiled = Encoder(options), Encoder(replace(options, compile=True))
    assert_same(compiled, plain, ragged)
    graphs = counters["stats"]["unique_graphs"]
    assert graphs > 0
    for cut in range(2, 10):
        tokens = Tokens(ragged.ids, ragged.offsets[:cut])
        torch.testing.assert_close(compiled(tokens).final, plain(tokens).final, atol=1e-5, rtol=0)
    assert counters["stats"]["unique_graphs"] <= graphs + 10  # once more without gradient, not once for every length


def test_other_families_run_padded_and_say_so_once(build, ragged: Tokens, caplog: pytest.LogCaptureFixture) -> None:
    path = str(build("mpnet"))
    with caplog.at_level("INFO"):
        encoder = Encoder(EncoderOptions(path, max_tokens=60))
        Encoder(EncoderOptions(path))
    assert [record.getMessage() for record in caplog.records] == [
        f"{path} (mpnet) cannot run packed: its texts run in padded chunks of similar lengths."
    ]
    assert not encoder.packed
    one_by_one = Encoder(EncoderOptions(path, attention=Attention.eager, max_tokens=1))
    assert [len(chunk) for chunk in one_by_one.chunks(ragged)] == [1] * 11
    assert_same(encoder, one_by_one, ragged)
    with pytest.raises(ConfigError, match=r"mpnet model; verified are bert, .*attention=auto"):
        Encoder(EncoderOptions(path, attention=Attention.packed))
