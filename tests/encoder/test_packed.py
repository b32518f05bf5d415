"""Packed equals padded: outputs and gradients, with every kind of mask and position."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModel

from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.encoder.layout import pattern
from lightning_embed.encoder.options import Attention, Dtype
from lightning_embed.errors import ConfigError
from lightning_embed.types import Tokens

FAMILIES = [
    "bert", "camembert", "distilbert", "electra", "eurobert", "gemma2", "gemma3_text", "granite", "llama", "mistral",
    "modernbert", "nomic_bert", "phi3", "qwen2", "qwen3", "roberta", "xlm-roberta",
]  # fmt: skip


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
    monkeypatch.setattr("lightning_embed.encoder.kernels.groups._LONG", long)
    path = str(build(family))
    packed = Encoder(EncoderOptions(path, max_tokens=40))
    padded = Encoder(EncoderOptions(path, attention=Attention.eager, max_tokens=60))
    assert packed.packed
    assert not padded.packed
    assert len(packed.chunks(ragged)) > 2
    assert_same(packed, padded, ragged)


@pytest.mark.parametrize("family", ["qwen3", "mistral", "llama", "gemma3_text", "granite"])
@pytest.mark.parametrize("long", [1024, 0], ids=["own attention", "torch's"])
def test_a_decoder_that_attends_both_ways(
    family: str, long: int, build, ragged: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`config.is_causal: false` makes it so, while the attribute of its attention stays as it was."""
    monkeypatch.setattr("lightning_embed.encoder.kernels.groups._LONG", long)
    path = str(build(family, is_causal=False))
    packed = Encoder(EncoderOptions(path, max_tokens=40))
    assert packed.packed
    assert_same(packed, Encoder(EncoderOptions(path, attention=Attention.eager, max_tokens=60)), ragged)
    packed.save(tmp_path / "saved")
    texts = ["the red bird", "a cat", "the big dog runs in the old house near the river"]
    theirs = SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode(texts, convert_to_tensor=True)
    torch.testing.assert_close(packed.encode(texts), theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["qwen3", "llama", "mistral", "gemma3_text"])
def test_bidirectional_by_option(family: str, build, tmp_path: Path) -> None:
    """Both sentence-transformers and transformers open what is saved with attention both ways."""
    folder = build(family)
    one_way, both_ways = (Encoder(EncoderOptions(str(folder), bidirectional=way)) for way in (False, True))
    texts = ["the red bird", "the red cat", "the big dog runs in the old house near the river"]
    assert (one_way.encode(texts) - both_ways.encode(texts)).abs().max() > 0.01
    both_ways.save(tmp_path / "saved")
    theirs = SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode(texts, convert_to_tensor=True)
    torch.testing.assert_close(both_ways.encode(texts), theirs, atol=1e-5, rtol=0)
    plain = AutoModel.from_pretrained(tmp_path / "saved")
    ids = both_ways.tokenizer(texts[:2])
    first, second = (plain(input_ids=row[None]).last_hidden_state[0, 0] for row in ids.ids.split(ids.lengths.tolist()))
    assert (first - second).abs().max() > 1e-3


def test_each_model_is_measured(build, ragged: Tokens) -> None:
    """Without positions any start would do; the next model of the same configuration has them."""
    folder = build("roberta", hidden_act="relu")  # a configuration of this test alone
    weights = load_file(folder / "model.safetensors")
    positions = weights["embeddings.position_embeddings.weight"].clone()
    weights["embeddings.position_embeddings.weight"].zero_()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    Encoder(EncoderOptions(str(folder)))
    save_file(
        {**weights, "embeddings.position_embeddings.weight": positions}, folder / "model.safetensors", {"format": "pt"}
    )
    packed = Encoder(EncoderOptions(str(folder)))
    assert packed.packed
    assert_same(packed, Encoder(EncoderOptions(str(folder), attention=Attention.eager)), ragged)


def test_bidirectional_is_refused_where_it_does_nothing(build) -> None:
    with pytest.raises(ConfigError, match=r"bidirectional: .*\(mamba\) attends to earlier tokens only"):
        Encoder(EncoderOptions(str(build("mamba", state_size=8)), bidirectional=True))


def test_both_ways_by_a_mask_of_the_model(build, ragged: Tokens) -> None:
    """EmbeddingGemma: its rules take one pair of positions, and have a window."""
    path = str(build("gemma3_text", use_bidirectional_attention=True))
    packed = Encoder(EncoderOptions(path, max_tokens=40))
    assert packed.packed
    assert_same(packed, Encoder(EncoderOptions(path, attention=Attention.eager, max_tokens=60)), ragged)


def test_rules_of_one_pair_are_as_those_that_broadcast() -> None:
    def rule(_batch, _head, query, key):
        return (query - key).abs() < 3

    one_by_one, at_once = (
        pattern(mask_function=rule, use_vmap=each).mask(9, torch.device("cpu")) for each in (True, False)
    )
    assert torch.equal(one_by_one, at_once)


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
        f"{path} (mpnet) runs padded, in chunks of similar lengths: packed texts would mix."
    ]
    assert not encoder.packed
    one_by_one = Encoder(EncoderOptions(path, attention=Attention.eager, max_tokens=1))
    assert [len(chunk) for chunk in one_by_one.chunks(ragged)] == [1] * 11
    assert_same(encoder, one_by_one, ragged)
    with pytest.raises(
        ConfigError, match=r"\(mpnet\) cannot run packed \(packed texts would mix\). Use encoder.attention=auto"
    ):
        Encoder(EncoderOptions(path, attention=Attention.packed))
