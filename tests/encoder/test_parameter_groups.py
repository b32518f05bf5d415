"""Groups of parameters of every family: each parameter in one group, with the options that its place calls for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules

from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.encoder.parameter_groups import ParameterGroups, set_rates
from lightning_embed.errors import ConfigError

FAMILIES = [
    "bert", "camembert", "distilbert", "electra", "eurobert", "gemma2", "gemma3_text", "granite", "llama", "mistral",
    "modernbert", "mpnet", "mt5", "nomic_bert", "phi3", "qwen2", "qwen3", "roberta", "t5", "xlm-roberta",
]  # fmt: skip
BELOW = ("embed", "shared", "relative_attention_bias", "wte", "wpe")


class Training(torch.nn.Module):
    """What a training module is to the groups: an encoder, and what a loss may add."""

    def __init__(self, encoder: Encoder, **added: torch.nn.Parameter) -> None:
        super().__init__()
        self.encoder = encoder
        self.added = torch.nn.ParameterDict(added)


def _options(module: Training, groups: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The options of each parameter that trains, by name: each once."""
    names = {id(p): name for name, p in module.named_parameters()}
    found = [(names[id(p)], {k: v for k, v in g.items() if k != "params"}) for g in groups for p in g["params"]]
    assert len(dict(found)) == len(found)
    assert dict(found).keys() == {name for name, p in module.named_parameters() if p.requires_grad}
    return dict(found)


def _encoder(path: Path, **options: Any) -> Encoder:
    return Encoder(EncoderOptions(str(path), **options))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_of_a_family(family: str, build: Callable[..., Path]) -> None:
    module = Training(_encoder(build(family)), temperature=torch.nn.Parameter(torch.tensor(0.05)))
    plain = ParameterGroups().of(module)
    assert plain[0] == {"params": [p for p in module.encoder.parameters() if p.requires_grad]}, "as without groups"
    assert _options(module, plain)["added.temperature"] == {"weight_decay": 0.0}
    groups = ParameterGroups(no_decay=True, layer_decay=0.5, head_lr=3.0).of(module, matrices=True)
    found = _options(module, groups)
    assert found.pop("added.temperature") == {"weight_decay": 0.0, "own_lr": 3.0, "is_matrix": False}
    seen = set()
    for name, parameter in module.encoder.named_parameters():
        if not parameter.requires_grad:
            continue
        options = found[f"encoder.{name}"]
        layer = next((int(part) for part in name.split(".") if part.isdecimal()), None)
        is_table = any(word in name.rpartition(".")[0].rpartition(".")[2] for word in BELOW)
        power = 2 - layer if layer is not None else 3 if is_table or name.startswith("backbone.embed") else 0
        seen.add(power)
        assert options.pop("lr_factor") == 0.5**power, name
        assert options.pop("is_matrix") == (layer is not None and parameter.ndim == 2 and not is_table), name
        assert options == ({"weight_decay": 0.0} if parameter.ndim < 2 else {}), name
    assert {1, 2, 3} <= seen


def test_a_head_and_adapters(tiny_model: Path, tmp_path: Path) -> None:
    """The head has its own rate; of adapters, those of a layer have the rate of their layer, and are matrices."""
    parts = [modules.Transformer(str(tiny_model)), modules.Pooling(32), modules.Dense(32, 15), modules.Normalize()]
    SentenceTransformer(modules=parts, device="cpu").save(str(tmp_path))
    module = Training(_encoder(tmp_path, lora_rank=2))
    groups = ParameterGroups(layer_decay=0.9, head_lr=1e-2).of(module, matrices=True)
    found = _options(module, groups)
    heads = {name for name in found if name.startswith("encoder.head.")}
    assert heads
    assert all(found[name] == {"own_lr": 1e-2, "is_matrix": False} for name in heads)
    for name, options in found.items():
        if name not in heads:
            assert options == {"lr_factor": 0.9 ** (1 if ".layer.1." in name else 2), "is_matrix": True}, name


def test_rates() -> None:
    """Factors of the optimiser's rate, or of the one in its place; a rate of its own stays."""
    for lr, expected in ((None, [1.0, 0.5, 7.0]), (4.0, [4.0, 2.0, 7.0])):
        groups = [{"lr": 1.0}, {"lr": 1.0, "lr_factor": 0.5}, {"lr": 1.0, "own_lr": 7.0}]
        set_rates(groups, lr)
        assert groups == [{"lr": rate} for rate in expected]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer_decay": 0.0}, r"layer_decay must be in \(0, 1\], got 0.0"),
        ({"layer_decay": 1.1}, r"layer_decay must be in \(0, 1\], got 1.1"),
        ({"head_lr": 0.0}, r"head_lr must be positive or null, got 0.0"),
    ],
)
def test_numbers_out_of_range(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ParameterGroups(**options)


def test_a_model_without_layers(tmp_path: Path, tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    static = modules.StaticEmbedding(AutoTokenizer.from_pretrained(tiny_model), embedding_dim=8)
    SentenceTransformer(modules=[static], device="cpu").save(str(tmp_path))
    with pytest.raises(ConfigError, match=r"this model has no layers\. Leave it out"):
        ParameterGroups(layer_decay=0.9).of(Training(_encoder(tmp_path)))
