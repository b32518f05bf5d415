"""`encoder.num_layers` and `encoder.layers`: a smaller model from a larger one."""

import json
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoModelForTextEncoding

from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.errors import ConfigError
from tests.merge.zoo import make

TEXTS = ["the red cat sees the dog", "a cat", "sees the red red cat and a dog"]
SIX = {"num_hidden_layers": 6}
KINDS = {"layer_types": ["sliding_attention", "full_attention"] * 3}
DEEP = {
    "bert": SIX,
    "roberta": SIX,
    "mpnet": SIX,
    "distilbert": {"n_layers": 6},
    "modernbert": SIX,
    "deberta-v2": SIX,
    "xlm": SIX,
    "t5": {"num_layers": 6},
    "qwen3": {**SIX, **KINDS, "max_window_layers": 0},
    "gemma3_text": {**SIX, **KINDS},
    "llama": SIX,
}


def _state_after(path: Path, family: str, layers: int) -> torch.Tensor:
    """The states of one text after some layers of the whole model, by transformers, before a last norm."""
    auto = AutoModelForTextEncoding if family == "t5" else AutoModel
    model = auto.from_pretrained(path).eval()
    with torch.inference_mode():
        found: torch.Tensor = model(
            input_ids=torch.tensor([[2, 9, 11, 8, 3]]), output_hidden_states=True
        ).hidden_states[layers]
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", DEEP)
def test_the_first_layers_are_those_of_the_whole_model_and_open_everywhere(family: str, build, tmp_path: Path) -> None:
    path = build(family, **DEEP[family])
    encoder = Encoder(EncoderOptions(str(path), num_layers=3))
    encoder.save(tmp_path / "cut")
    expected = encoder.encode(TEXTS)
    config = json.loads((tmp_path / "cut" / "config.json").read_text())
    counts = {config[key] for key in ("num_hidden_layers", "num_layers", "n_layers") if key in config}
    assert counts == {3}
    assert len(config.get("layer_types") or "123") == 3
    # two layers of the cut model are followed by a third: no last norm is in between
    torch.testing.assert_close(
        _state_after(tmp_path / "cut", family, 2), _state_after(path, family, 2), rtol=0, atol=1e-6
    )
    torch.testing.assert_close(
        Encoder(EncoderOptions(str(tmp_path / "cut"))).encode(TEXTS), expected, rtol=0, atol=1e-6
    )
    opened = SentenceTransformer(str(tmp_path / "cut"), device="cpu")
    torch.testing.assert_close(torch.tensor(opened.encode(TEXTS)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "qwen3"])
def test_a_list_of_layers(family: str, build, tmp_path: Path) -> None:
    path = build(family, **DEEP[family])
    whole = Encoder(EncoderOptions(str(path)))
    cut = Encoder(EncoderOptions(str(path), layers=[0, 3, 5]))
    names = dict(whole.backbone.named_parameters())
    for name, weight in cut.backbone.named_parameters():
        for place, number in ((1, 3), (2, 5)):
            if f"layer.{place}." in name or f"layers.{place}." in name:
                old = name.replace(f"layer.{place}.", f"layer.{number}.").replace(
                    f"layers.{place}.", f"layers.{number}."
                )
                assert torch.equal(weight, names[old])
    cut.save(tmp_path / "cut")
    config = json.loads((tmp_path / "cut" / "config.json").read_text())
    if family == "qwen3":
        assert config["layer_types"] == ["sliding_attention", "full_attention", "full_attention"]
    opened = SentenceTransformer(str(tmp_path / "cut"), device="cpu")
    torch.testing.assert_close(torch.tensor(opened.encode(TEXTS)), cut.encode(TEXTS), rtol=0, atol=1e-5)


def test_it_trains_all_its_layers_and_no_other(build) -> None:
    cut = Encoder(EncoderOptions(str(build("bert", **SIX)), num_layers=2))
    layers = {name.split(".")[2] for name, _ in cut.backbone.named_parameters() if name.startswith("encoder.layer.")}
    assert layers == {"0", "1"}
    cut(cut.tokenizer(TEXTS)).final[:, 0].sum().backward()
    assert all(weight.grad is not None for weight in cut.parameters() if weight.requires_grad)


@pytest.mark.parametrize(
    ("family", "extra", "options", "message"),
    [
        ("bert", {}, {"num_layers": 3}, r"num_layers: expected some of the 2 layers .*, 0 to 1, got 3\. Give fewer"),
        ("bert", {}, {"layers": [0, 2]}, r"layers: expected some of the 2 layers .*, got \[0, 2\]"),
        ("albert", SIX, {"num_layers": 2}, r"got .*\(albert\), which has none, or one whose layers share their weights"),
        ("t5", {"num_layers": 4}, {"layers": [1, 3]}, r"\(t5\) cannot be saved with its layers 1, 3 alone: .* keep the first"),
        ("modernbert", SIX, {"layers": [2, 4]}, r"\(modernbert\) cannot be saved with its layers 2, 4 alone"),
    ],
)  # fmt: skip
def test_refusals_of_a_model(family: str, extra: dict, options: dict, message: str, build) -> None:
    path = build(family, **extra)
    with pytest.raises(ConfigError, match=message):
        Encoder(EncoderOptions(str(path), **options))


@pytest.mark.filterwarnings("ignore")  # of the library that writes them
@pytest.mark.parametrize(("chain", "kind"), [("static", "StaticEmbedding"), ("layer-pooling", "WeightedLayerPooling")])
def test_refusals_of_modules(chain: str, kind: str, tiny_model: Path, tmp_path: Path) -> None:
    path = make(chain, tiny_model, tmp_path / chain, seed=0)
    with pytest.raises(ConfigError, match=rf"encoder.num_layers: the {kind} of .* Leave it out"):
        Encoder(EncoderOptions(str(path), num_layers=1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 0}, "num_layers: expected at least 1 or null"),
        ({"layers": [0, 0]}, r"layers: expected ascending numbers .* got \[0, 0\]"),
        ({"layers": [-1, 0]}, r"layers: expected ascending numbers"),
        ({"layers": [0], "num_layers": 1}, r"layers=\[0\]: expected no num_layers with it, got 1"),
    ],
)
def test_refusals_of_options(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EncoderOptions("a/b", **options)
