"""Models of mining are what they are taken for: checked by their small files, before any training."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_embed import load
from lightning_embed.data import DatasetOptions
from lightning_embed.data.collator import RowPrompts
from lightning_embed.data.mining_models import Embedder, Scorer, check_models, open_cross_encoder, open_embedder
from lightning_embed.data.mining_options import MiningOptions
from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.errors import ConfigError
from lightning_embed.types import Task

ONE, BERT = {"0": "LABEL_0"}, "BertForSequenceClassification"
# what the files of a model say -> whether it may embed, whether it may score
KINDS: dict[str, tuple[Mapping[str, Any], bool, bool]] = {
    "sentence-transformers": (
        {"modules": [{}], "settings": {}, "config": {"architectures": ["BertModel"]}},
        True,
        False,
    ),
    "its type is named": (
        {"modules": [{}], "settings": {"model_type": "SentenceTransformer"}, "config": {}},
        True,
        False,
    ),
    "without a config": ({"modules": [{}]}, True, False),
    "a plain encoder": ({"config": {"architectures": ["BertModel"]}}, True, False),
    "a masked language model": ({"config": {"architectures": ["BertForMaskedLM"]}}, True, False),
    "no architectures": ({"config": {"model_type": "bert"}}, True, False),
    "a cross-encoder": (
        {
            "modules": [{}],
            "settings": {"model_type": "CrossEncoder"},
            "config": {"architectures": [BERT], "id2label": ONE},
        },
        False,
        True,
    ),
    "a cross-encoder of earlier versions": ({"config": {"architectures": [BERT], "id2label": ONE}}, False, True),
    "a decoder that answers yes or no": ({"config": {"architectures": ["Qwen3ForCausalLM"]}}, False, True),
    "of two labels": ({"config": {"architectures": [BERT]}}, False, False),
    "of three labels": (
        {"config": {"architectures": [BERT], "id2label": {"0": "a", "1": "b", "2": "c"}}},
        False,
        False,
    ),
    "a sparse encoder": ({"modules": [{}], "settings": {"model_type": "SparseEncoder"}}, False, False),
    "nothing": ({}, False, False),
    "broken": ({"config": "{"}, False, False),
}
NAMES = {"modules": "modules.json", "settings": "config_sentence_transformers.json", "config": "config.json"}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind: str, tmp_path: Path) -> None:
    files, embeds, scores = KINDS[kind]
    for name, content in files.items():
        (tmp_path / NAMES[name]).write_text(content if isinstance(content, str) else json.dumps(content))
    for options, allowed in [
        (MiningOptions(["a"], model=str(tmp_path)), embeds),
        (MiningOptions(["a"], cross_encoder=str(tmp_path), max_score=1.0), scores),
    ]:
        if allowed:
            check_models(options)
        else:
            with pytest.raises(ConfigError, match=rf"^mining\.(model|cross_encoder)={tmp_path}: expected an? .* Give "):
                check_models(options)


def test_real_ones(tiny_model: Path, tiny_cross_encoder: Path, tmp_path: Path) -> None:
    Encoder(EncoderOptions(str(tiny_model))).save(tmp_path / "saved")
    for model in (tiny_model, tmp_path / "saved"):
        check_models(MiningOptions(["a"], model=str(model), cross_encoder=str(tiny_cross_encoder), max_score=1.0))
    check_models(MiningOptions())


@pytest.mark.parametrize("path", ["nowhere", "./nowhere", "/nowhere/at/all"])
def test_missing(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_embed.data.mining_models._file", lambda path, name: {})
    with pytest.raises(
        ConfigError, match=f"^mining.model={path}: expected an embedding model, and no such folder is there"
    ):
        check_models(MiningOptions(["a"], model=path))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rounds": 0}, "mining.rounds: expected at least 1, got 0"),
        ({"datasets": [], "rounds": 2}, "mining.rounds: expected datasets to mine for, got none"),
        ({"datasets": [], "model": "m"}, "mining.model: expected datasets to mine for, got none"),
        ({"datasets": [], "cross_encoder": "c"}, "mining.cross_encoder: expected datasets"),
        (
            {"scores": "cross_encoder"},
            "mining.scores=cross_encoder: expected mining.cross_encoder, the teacher, got none",
        ),
        ({"scores": "cross_encoder", "model": "m"}, "expected mining.cross_encoder, the teacher"),
        ({"scores": "model"}, r"expected mining.model, the teacher, got none \(the base would teach itself\)"),
        ({"scores": "model", "cross_encoder": "c", "max_score": 0.5}, "expected mining.model, the teacher"),
        ({"cross_encoder": "c"}, "mining.cross_encoder: expected something for it to score, got no margin"),
        ({"cross_encoder": "c", "model": "m", "scores": "model"}, "expected something for it to score"),
    ],
)
def test_options_without_an_effect(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MiningOptions(**{"datasets": ["a"], **given})


@pytest.mark.parametrize("limit", ["max_score", "min_score", "absolute_margin", "relative_margin"])
def test_a_cross_encoder_has_an_effect_with_a_limit(limit: str) -> None:
    assert MiningOptions(["a"], cross_encoder="c", **{limit: 0.1}).is_filtered


def test_another_model_has_its_own_prompts(tiny_model: Path, tmp_path: Path) -> None:
    """Those of the datasets are of the base; a row's own prompt stays, because it says what is asked."""
    Encoder(EncoderOptions(str(tiny_model), prompts={"query": "old ", "document": "big "})).save(tmp_path / "other")
    rows = {"the cat": {"query": "the cat", "prompt": None}, "own": {"query": "the cat", "prompt": "red "}}
    encoder, options = load(tmp_path / "other"), DatasetOptions(Task.retrieval, "x", query_max_length=4)
    for prompts, (query, document) in {None: ("old ", "big "), ("a ", ""): ("a ", "")}.items():
        given = None if prompts is None else RowPrompts(*prompts)
        model = Embedder(open_embedder(tmp_path / "other", "cpu"), options, given, rows)
        how = {"normalize_embeddings": True}
        expected = [encoder.encode("the cat", prompt=p, max_length=4).numpy() for p in (query, "red ")]
        np.testing.assert_allclose(model.encode_query(["the cat", "own"], **how), expected, atol=1e-5)
        found = model.encode_document(["a dog in the house"], **how)
        np.testing.assert_allclose(found[0], encoder.encode("a dog in the house", prompt=document).numpy(), atol=1e-5)


def test_a_cross_encoder_reads_the_query_of_a_key(tiny_cross_encoder: Path) -> None:
    model = open_cross_encoder(str(tiny_cross_encoder), "cpu")
    scorer = Scorer(model, {"key": {"query": "the cat", "prompt": "red "}})
    assert scorer.predict([("key", "a dog")]) == model.predict([("the cat", "a dog")])
