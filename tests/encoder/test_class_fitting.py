"""The class of transformers that opens given tensors, and what must change in a config.json for it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers

from lightning_embed.encoder.class_fitting import fitted_class
from lightning_embed.errors import CheckpointMismatch
from lightning_embed.merge.checkpoint.name_matching import TensorInfo
from tests.merge.test_families import FAMILIES, _plain, _with_heads

Tensors = dict[str, TensorInfo]


def _stored(make: Any, config: Any) -> tuple[dict[str, Any], Tensors]:
    """config.json and header that save_pretrained would write."""
    with torch.device("meta"):
        model = (
            make(config) if isinstance(make, type) and issubclass(make, torch.nn.Module) else make.from_config(config)
        )
    tied = set(getattr(model, "all_tied_weights_keys", {}))
    header = {n: TensorInfo(t.dtype, t.shape) for n, t in model.state_dict().items() if n not in tied}
    return {**model.config.to_dict(), "architectures": [type(model).__name__]}, header


CASES = [(family, make) for family, config in FAMILIES.items() for make in (_plain(config()), *_with_heads(config()))]


@pytest.mark.parametrize(("family", "make"), CASES, ids=[f"{family}-{make.__name__}" for family, make in CASES])
def test_what_save_pretrained_writes_is_true(family: str, make: Any) -> None:
    config, header = _stored(make, FAMILIES[family]())
    assert fitted_class(config, header) == {}


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "t5"])
def test_a_grown_vocabulary(family: str) -> None:
    config, header = _stored(transformers.AutoModel, FAMILIES[family]())
    grown = {
        n: TensorInfo(i.dtype, torch.Size([107, *i.shape[1:]])) if i.shape[:1] == (100,) else i
        for n, i in header.items()
    }
    assert fitted_class(config, grown) == {"vocab_size": 107}


def _bert(make: str = "BertModel") -> tuple[dict[str, Any], Tensors]:
    return _stored(getattr(transformers, make), FAMILIES["bert"]())


@pytest.mark.parametrize("head", ["BertForMaskedLM", "BertForSequenceClassification", "BertForTokenClassification"])
def test_a_dropped_head(head: str) -> None:
    config, header = _bert(head)
    body = {name.removeprefix("bert."): info for name, info in header.items() if name.startswith("bert.")}
    assert fitted_class(config, body) == {"architectures": ["BertModel"]}


def test_an_encoder_of_t5() -> None:
    config, _ = _stored(transformers.T5ForConditionalGeneration, FAMILIES["t5"]())
    _, header = _stored(transformers.T5EncoderModel, FAMILIES["t5"]())
    assert fitted_class(config, header) == {"architectures": ["T5EncoderModel"]}


def test_a_class_of_no_name() -> None:
    config, header = _bert()
    assert fitted_class({**config, "architectures": None}, header) == {}
    assert fitted_class({**config, "architectures": ["Mine"]}, header) == {"architectures": ["BertModel"]}


@pytest.mark.parametrize("poolerless", [True, False])
def test_a_missing_pooler_and_more_heads_are_no_matter(poolerless: bool) -> None:
    config, header = _bert()
    found = {name: info for name, info in header.items() if not (poolerless and name.startswith("pooler"))}
    found["cls.predictions.bias"] = TensorInfo(torch.float32, torch.Size([100]))
    found["embeddings.position_ids"] = TensorInfo(torch.int64, torch.Size([1, 34]))
    assert fitted_class(config, found) == {}


def _renamed(rename: Callable[[str], str]) -> Tensors:
    return {rename(name): info for name, info in _bert()[1].items()}


MISFITS: dict[str, tuple[dict[str, Any], Callable[[], Tensors], str]] = {
    "_orig_mod.": ({}, lambda: _renamed(lambda name: f"_orig_mod.{name}"), "is missing"),
    "module.": ({}, lambda: _renamed(lambda name: f"module.{name}"), "is missing"),
    "model.model.": ({}, lambda: _renamed(lambda name: f"model.model.{name}"), "is missing"),
    "a layer more in the config": ({"num_hidden_layers": 3}, lambda: _bert()[1], r"encoder.layer.2.*is missing"),
    "a layer less in the config": ({"num_hidden_layers": 1}, lambda: _bert()[1], r"encoder.layer.1.*has no place"),
    "another width": ({"hidden_size": 32}, lambda: _bert()[1], r"is \[.*\], expected \[.*32"),
    "more positions": ({"max_position_embeddings": 64}, lambda: _bert()[1], r"position_embeddings.weight is \[34, 16\], expected \[64, 16\]"),
    "an embedding is missing": ({}, lambda: {n: i for n, i in _bert()[1].items() if "word_embeddings" not in n}, r"word_embeddings.weight is missing"),
    "options that contradict each other": ({"num_attention_heads": 5}, lambda: _bert()[1], r"BertModel cannot be built \(The hidden size"),
    "nothing": ({}, dict, "is missing"),
    "another family": ({}, lambda: _stored(transformers.AutoModel, FAMILIES["qwen3"]())[1], "is missing"),
    "two vocabularies": ({}, lambda: {n: TensorInfo(i.dtype, torch.Size([9, *i.shape[1:]])) if n.endswith("token_type_embeddings.weight") else i for n, i in _bert()[1].items()}, r"\[9, 16\], expected \[2, 16\]"),
}  # fmt: skip


@pytest.mark.parametrize("misfit", MISFITS)
def test_tensors_that_no_class_opens(misfit: str) -> None:
    changes, header, message = MISFITS[misfit]
    with pytest.raises(CheckpointMismatch, match=rf"No class of transformers opens the merged tensors.*{message}"):
        fitted_class(_bert()[0] | changes, header())
