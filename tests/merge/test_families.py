"""Tiny random models of real families: what save_pretrained writes is merged by rule, and opens again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from lightning_embed import load
from lightning_embed.errors import CheckpointMismatch
from lightning_embed.merge import Source
from lightning_embed.merge.engine import MergeSpec, OutputFormat, merge_models
from tests.merge import toy

SIZES: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
POSITIONS: dict[str, Any] = SIZES | {"max_position_embeddings": 34}
IDS: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}

FAMILIES: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertConfig(**POSITIONS),
    "roberta": lambda: transformers.RobertaConfig(**POSITIONS, type_vocab_size=1),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(**POSITIONS, type_vocab_size=1),
    "distilbert": lambda: transformers.DistilBertConfig(
        vocab_size=100, dim=16, hidden_dim=24, n_layers=2, n_heads=2, max_position_embeddings=34
    ),
    "mpnet": lambda: transformers.MPNetConfig(**POSITIONS),
    "modernbert": lambda: transformers.ModernBertConfig(**POSITIONS, **IDS, cls_token_id=2, sep_token_id=3),
    "deberta-v2": lambda: transformers.DebertaV2Config(
        **POSITIONS, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=8
    ),
    "qwen3": lambda: transformers.Qwen3Config(**POSITIONS, **IDS, num_key_value_heads=1, head_dim=8),
    "t5": lambda: transformers.T5Config(vocab_size=100, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, decoder_start_token_id=0),
    "electra": lambda: transformers.ElectraConfig(**POSITIONS, embedding_size=8),
    "albert": lambda: transformers.AlbertConfig(**POSITIONS, embedding_size=8),
}  # fmt: skip
HEADS = ["ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForCausalLM"]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    transformers.utils.logging.disable_progress_bar()


def _plain(config: Any) -> Any:
    """What holds the encoder alone: T5's AutoModel has a decoder too."""
    return transformers.T5EncoderModel if config.model_type == "t5" else transformers.AutoModel


def _save(make: Any, config: Any, path: Path, seed: int, dtype: torch.dtype = torch.float32, **options: Any) -> Path:
    """A random model, its biases and norms too."""
    torch.manual_seed(seed)
    model = make(config) if make is transformers.T5EncoderModel else make.from_config(config)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    model.to(dtype).save_pretrained(path, **options)
    return path


def _with_heads(config: Any) -> list[Any]:
    """The classes of a family with a head."""
    classes = [getattr(transformers, f"AutoModel{head}") for head in HEADS]
    known = [c for c in classes if type(config) in c._model_mapping]
    return [*known, transformers.AutoModelForSeq2SeqLM] if config.model_type == "t5" else known


def _read(path: Path, make: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Parameters as the family's class has them, and what did not fit."""
    model, info = make.from_pretrained(path, output_loading_info=True, dtype=torch.float32)
    return dict(model.named_parameters()), {key: value for key, value in info.items() if value}


def _merge(sources: list[Path], target: Path, **output: Any) -> Any:
    spec = MergeSpec(toy.strategy("soup"), [Source(path, path.name) for path in sources])
    return merge_models(spec, target, output=OutputFormat(**output))


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_ones_in_any_dtype_and_sharded(family: str, tmp_path: Path, tiny_model: Path) -> None:
    config = FAMILIES[family]()
    make = _plain(config)
    sources = [
        _save(make, config, tmp_path / "whole", 0),
        _save(make, config, tmp_path / "sharded", 1, max_shard_size="8KB"),
        _save(make, config, tmp_path / "half", 2, torch.float16),
        _save(make, config, tmp_path / "brain", 3, torch.bfloat16),
    ]
    assert len(list((tmp_path / "sharded").glob("model-*.safetensors"))) > 1
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (sources[0] / name).write_bytes((tiny_model / name).read_bytes())
    _merge(sources, tmp_path / "merged", max_shard_bytes=10_000)
    assert len(list((tmp_path / "merged/model").glob("model-*.safetensors"))) > 1
    merged, misfits = _read(tmp_path / "merged/model", make)
    assert misfits == {}
    inputs = [_read(path, make)[0] for path in sources]
    toy.close(merged, {name: sum(found[name] for found in inputs) / 4 for name in merged}, 1e-6)
    if family != "t5":  # our encoder takes AutoModel's class, which has a decoder
        assert load(tmp_path / "merged/model").encode(["the red cat"]).shape == (1, 16)


CASES = [(family, head.__name__) for family, config in FAMILIES.items() for head in _with_heads(config())]


@pytest.mark.parametrize("first", ["plain", "head"])
@pytest.mark.parametrize(("family", "head"), CASES)
def test_one_with_a_head_and_a_plain_one(family: str, head: str, first: str, tmp_path: Path) -> None:
    """The head is dropped, and what AutoModel wants beside the layers (a pooler) is there."""
    config = FAMILIES[family]()
    make = _plain(config)
    sources = {
        "plain": _save(make, config, tmp_path / "plain", 0),
        "head": _save(getattr(transformers, head), config, tmp_path / "head", 1),
    }
    order = [sources[first], *(path for name, path in sources.items() if name != first)]
    record = _merge(order, tmp_path / "merged")
    merged, misfits = _read(tmp_path / "merged/model", make)
    assert misfits == {}
    (plain, _), (other, lacks) = _read(sources["plain"], make), _read(sources["head"], make)
    lent = lacks.get("missing_keys", set())
    assert {name for model in record.sources for name in model.lent if name in plain} == lent
    toy.close(merged, {n: plain[n] if n in lent else (plain[n] + other[n]) / 2 for n in plain}, 1e-6)


def test_heads_that_all_have_are_merged(tmp_path: Path) -> None:
    config, make = FAMILIES["bert"](), transformers.AutoModelForMaskedLM
    sources = [_save(make, config, tmp_path / str(seed), seed) for seed in range(2)]
    record = _merge(sources, tmp_path / "merged")
    assert [model.dropped for model in record.sources] == [[], []]
    merged, misfits = _read(tmp_path / "merged/model", make)
    assert misfits == {}
    inputs = [_read(path, make)[0] for path in sources]
    assert any(name.startswith("cls.") for name in merged)
    toy.close(merged, {name: (inputs[0][name] + inputs[1][name]) / 2 for name in merged}, 1e-6)


def test_a_decoder_is_not_merged_with_nothing(tmp_path: Path) -> None:
    """Dropped, or kept from the first source, whose config it is."""
    config = FAMILIES["t5"]()
    encoder = _save(transformers.T5EncoderModel, config, tmp_path / "encoder", 0)
    whole = _save(transformers.AutoModelForSeq2SeqLM, config, tmp_path / "whole", 1)
    assert not [name for name in _names(_merge([encoder, whole], tmp_path / "one")) if "decoder" in name]
    kept = _names(_merge([whole, encoder], tmp_path / "two"))
    merged, misfits = _read(tmp_path / "two/model", transformers.AutoModelForSeq2SeqLM)
    assert misfits == {}
    theirs = _read(whole, transformers.AutoModelForSeq2SeqLM)[0]
    assert kept
    assert all(torch.equal(merged[name], theirs[name]) == name.startswith("decoder") for name in merged)


def _names(record: Any) -> list[str]:
    return [name for model in record.sources for name in model.lent]


def test_layer_norms_of_old_times(tmp_path: Path) -> None:
    """google-bert/bert-base-uncased still has gamma and beta."""
    config = FAMILIES["bert"]()
    sources = [_save(transformers.AutoModel, config, tmp_path / str(seed), seed) for seed in range(2)]
    old = {
        n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
        for n, t in toy.read(sources[1]).items()
    }
    (sources[1] / "model.safetensors").unlink()
    save_file({f"bert.{name}": tensor for name, tensor in old.items()}, sources[1] / "model.safetensors")
    _merge(sources, tmp_path / "merged")
    merged, misfits = _read(tmp_path / "merged/model", transformers.AutoModel)
    assert misfits == {}
    name = "embeddings.LayerNorm.weight"
    expected = (toy.read(sources[0])[name] + old["embeddings.LayerNorm.gamma"]) / 2
    torch.testing.assert_close(merged[name].detach(), expected)


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ({"vocab_size": 110}, "bert", r"differ in 1 tensors: embeddings.word_embeddings.weight is \[110, 16\] in 'one' and \[100, 16\] in 'other'. If only their vocabularies differ, vocabulary=first \(or base\) merges them by token.$"),
        ({}, "roberta", r"differ in 1 tensors: embeddings.token_type_embeddings.weight is \[2, 16\] in 'one' and \[1, 16\] in 'other'.$"),
        ({}, "distilbert", r"differ in \d+ tensors: embeddings.token_type_embeddings.weight is only in 'one'; .*; and \d+ more.$"),
        ({"num_hidden_layers": 3}, "bert", r"differ in 16 tensors: encoder.layer.2.* is only in 'one'; .*; and 11 more.$"),
        ({}, "t5", r"is only in 'one'"),
        ({}, "albert", r"is only in 'one'"),
        ({}, "electra", r"is \[100, 16\] in 'one' and \[100, 8\] in 'other'"),
    ],
    ids=["vocabulary", "roberta", "distilbert", "layers", "t5", "albert", "electra"],
)  # fmt: skip
def test_others_are_refused(one: dict[str, int], other: str, message: str, tmp_path: Path) -> None:
    configs = [transformers.BertConfig(**(POSITIONS | one)), FAMILIES[other]()]
    sources = [
        _save(_plain(config), config, tmp_path / name, 0)
        for name, config in zip(("one", "other"), configs, strict=True)
    ]
    with pytest.raises(CheckpointMismatch, match=message):
        _merge(sources, tmp_path / "merged")
