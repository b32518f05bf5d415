"""Any adapter of peft's that can be folded: what is saved is an ordinary model that embeds alike."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.errors import ConfigError
from lightning_embed.types import Tokens
from tests.encoder.test_lora import TEXTS, train

LORA = {"_target_": "peft.LoraConfig", "r": 4, "target_modules": "all-linear"}
KINDS: dict[str, dict[str, Any]] = {
    "lora": LORA,
    "dora": {**LORA, "use_dora": True},
    "rslora": {**LORA, "use_rslora": True, "lora_alpha": 2},
    "biases": {**LORA, "bias": "all"},
    "loha": {"_target_": "peft.LoHaConfig", "r": 4, "target_modules": "all-linear"},
}
OF_FAMILY: dict[str, dict[str, dict[str, Any]]] = {
    "bert": {
        "modules_to_save": {**LORA, "target_modules": ["query"], "modules_to_save": ["LayerNorm", "key"]},
        "ia3": {"_target_": "peft.IA3Config", "target_modules": ["key", "value", "output.dense"], "feedforward_modules": ["output.dense"]},
        "norms": {"_target_": "peft.LNTuningConfig", "target_modules": ["LayerNorm"]},
        "embeddings": {**LORA, "target_modules": ["word_embeddings", "query"]},
    },
    "qwen3": {
        "modules_to_save": {**LORA, "target_modules": ["q_proj"], "modules_to_save": ["norm", "k_proj"]},
        "ia3": {"_target_": "peft.IA3Config", "target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
        "tokens": {**LORA, "target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [5, 6, 7, 8]}},
    },
}  # fmt: skip


def make(path: Path, adapter: dict[str, Any], **options: Any) -> Encoder:
    return Encoder(EncoderOptions(str(path), peft=adapter, **options))


def assert_saved_embeds_alike(encoder: Encoder, folder: Path) -> None:
    """Sentence-transformers opens what is saved, and its embeddings are the encoder's."""
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    encoder.save(folder)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    opened = SentenceTransformer(str(folder), device="cpu")
    assert {p.dtype for p in opened.parameters()} == {torch.float32}
    found = opened.encode(TEXTS, convert_to_tensor=True)
    torch.testing.assert_close(found, encoder.encode(TEXTS), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("family", "kind"),
    [(family, kind) for family, own in OF_FAMILY.items() for kind in (*KINDS, *own)],
)
def test_saved_is_an_ordinary_model_that_embeds_alike(
    build, ragged: Tokens, tmp_path: Path, family: str, kind: str
) -> None:
    path = build(family)
    base = Encoder(EncoderOptions(str(path)))
    encoder = make(path, {**KINDS, **OF_FAMILY[family]}[kind])
    torch.testing.assert_close(encoder.encode(TEXTS), base.encode(TEXTS), atol=1e-6, rtol=0)
    train(encoder, ragged)
    assert not torch.allclose(encoder.encode(TEXTS), base.encode(TEXTS), atol=1e-4)
    assert_saved_embeds_alike(encoder, tmp_path / "saved")
    base.save(tmp_path / "base")
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("saved", "base"))
    assert {name: (t.shape, t.dtype) for name, t in ours.items()} == {n: (t.shape, t.dtype) for n, t in theirs.items()}


@pytest.mark.parametrize("kind", ["dora", "loha"])
def test_what_trains_gets_a_gradient_and_starts_alike(tiny_model, ragged: Tokens, kind: str) -> None:
    state = torch.get_rng_state()
    encoder = make(tiny_model, KINDS[kind])
    assert torch.equal(torch.get_rng_state(), state)
    again = dict(make(tiny_model, KINDS[kind]).named_parameters())
    assert all(torch.equal(p, again[name]) for name, p in encoder.named_parameters())
    trained = {name: p for name, p in encoder.named_parameters() if p.requires_grad}
    assert trained
    assert not any("pooler" in name for name in trained), "all-linear adapts it, and it has no effect"
    encoder(ragged, seed=0).final.sum().backward()
    assert all(p.grad is not None for p in trained.values())


def test_short_options_are_the_configuration(tiny_model, ragged: Tokens) -> None:
    short = Encoder(EncoderOptions(str(tiny_model), lora_rank=4, lora_alpha=8.0, lora_targets=["query"]))
    long = make(tiny_model, {**LORA, "lora_alpha": 8.0, "target_modules": ["query"]})
    for encoder in (short, long):
        train(encoder, ragged)
    assert all(torch.equal(p, long.state_dict()[name]) for name, p in short.state_dict().items())


def test_the_same_weights_give_the_same_bytes(tiny_model, ragged: Tokens, tmp_path: Path) -> None:
    encoder = make(tiny_model, KINDS["dora"])
    train(encoder, ragged)
    for name in ("one", "other"):
        encoder.save(tmp_path / name)
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "other"))
    assert one == other


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ({"_target_": "peft.PromptTuningConfig", "num_virtual_tokens": 4}, "It adds tokens or keys, which no weight can hold"),
        ({"_target_": "peft.PrefixTuningConfig", "num_virtual_tokens": 4}, "It adds tokens or keys, which no weight can hold"),
        ({"_target_": "peft.VeraConfig", "r": 4, "target_modules": ["query"]}, "peft cannot put Vera into the layers"),
        ({**LORA, "target_modules": ["qury"]}, "peft cannot put Lora into the layers .*qury"),
        ({**LORA, "rank": 4}, "peft.LoraConfig refuses its options: .*rank"),
        ({"_target_": "peft.LoraKonfig"}, "peft.LoraKonfig refuses its options: .*LoraKonfig"),
        ({"_target_": "collections.OrderedDict"}, "expected a configuration of peft, such as peft.LoraConfig, got OrderedDict"),
        ({**LORA, "target_modules": ["pooler.dense"]}, "no adapted layer has an effect on an embedding"),
    ],
)  # fmt: skip
def test_refused_before_training(tiny_model, adapter: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as found:
        make(tiny_model, adapter)
    assert "\n" not in str(found.value)


def test_a_method_that_does_not_fold_is_refused(tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft.tuners.lora import Linear

    adapter = {**LORA, "target_modules": ["query"]}
    with monkeypatch.context() as patch:
        patch.setattr(Linear, "get_delta_weight", lambda self, adapter: torch.zeros(()))
        with pytest.raises(ConfigError, match=r"lora of .*query cannot be folded .*outputs"):
            make(tiny_model, adapter)
    with monkeypatch.context() as patch:
        patch.setattr(Linear, "merge", lambda self: (_ for _ in ()).throw(NotImplementedError("no merging. Sorry")))
        with pytest.raises(ConfigError, match=r"cannot be folded into weights \(no merging"):
            make(tiny_model, adapter)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"peft": LORA, "lora_rank": 4}, r"expected no lora options with it, got lora_rank\."),
        ({"peft": {"r": 4}}, r"expected a _target_ and its options, such as .*, got \{'r': 4\}\."),
        ({"peft": "lora"}, r"expected a _target_ and its options, such as .*, got lora\."),
    ],
)
def test_refused_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EncoderOptions("x", **options)
