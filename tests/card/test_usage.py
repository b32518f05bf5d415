"""The code of a card runs as written, and gives our embeddings."""

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_embed import load
from lightning_embed.card.usage import Usage
from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.encoder.options import Pooling

PROMPTS = {
    "none": {},
    "roles": {"query": "the big ", "document": "a small "},
    "datasets": {"facts-query": "the red 'cat' sees ", "facts-document": "a \n road "},
    "one": {"sts": "the old "},
    "documents alone": {"document": "a dog "},
}


def _run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    with redirect_stdout(StringIO()):
        exec(code, names)
    return names


def _saved(tiny_model: Path, folder: Path, **options: Any) -> Path:
    Encoder(EncoderOptions(str(tiny_model), max_length=9, **options)).save(folder)
    return folder


def _assert_same(folder: Path, code: str, query: str | None, document: str | None) -> None:
    ours, theirs = load(folder), _run(code)
    for name, prompt, texts in (
        ("queries", query, ["Which planet is the largest?"]),
        ("documents", document, ["Jupiter is the largest.", "Bread is baked in an oven."]),
    ):
        expected = torch.nn.functional.normalize(ours.encode(texts, prompt=prompt), dim=-1)
        torch.testing.assert_close(torch.as_tensor(theirs[name]), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("pooling", [pooling for pooling in Pooling if pooling is not Pooling.auto])
@pytest.mark.parametrize("normalize", [True, False])
def test_every_pooling(tiny_model: Path, tmp_path: Path, monkeypatch, pooling: Pooling, normalize: bool) -> None:
    use = Usage.of(_saved(tiny_model, tmp_path / "model", pooling=pooling, normalize=normalize), ".")
    assert (use.dim, use.max_length) == (32, 9)
    monkeypatch.chdir(tmp_path / "model")
    for code in (use.sentence_transformers, use.transformers):
        _assert_same(tmp_path / "model", code, "", "")


@pytest.mark.parametrize("word", PROMPTS)
def test_every_kind_of_prompt(tiny_model: Path, tmp_path: Path, monkeypatch, word: str) -> None:
    prompts = PROMPTS[word]
    use = Usage.of(_saved(tiny_model, tmp_path / "model", prompts=prompts), ".")
    assert set(use.prompts.values()) == set(prompts.values())
    first = next(iter(prompts.values()), "")
    query = "" if word == "documents alone" else first
    document = {"roles": "a small ", "datasets": "a \n road "}.get(word, first)
    monkeypatch.chdir(tmp_path / "model")
    for code in (use.sentence_transformers, use.transformers):
        _assert_same(tmp_path / "model", code, query, document)


def test_the_default_prompt_is_told_and_used(tiny_model: Path, tmp_path: Path, monkeypatch) -> None:
    folder = _saved(tiny_model, tmp_path / "model", prompts={"query": "the big ", "other": "a dog "})
    file = folder / "config_sentence_transformers.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "default_prompt_name": "other"}))
    use = Usage.of(folder, ".")
    assert use.default_prompt == "other"
    monkeypatch.chdir(folder)
    for code in (use.sentence_transformers, use.transformers):
        _assert_same(folder, code, "the big ", "a dog ")


def test_left_padding_lower_case_and_half_weights(tiny_model: Path, tmp_path: Path, monkeypatch) -> None:
    """What a directory may say that changes the embedding, each of it in the code."""
    folder = _saved(tiny_model, tmp_path / "model", pooling=Pooling.cls)
    for name, change in {
        "tokenizer_config.json": {"padding_side": "left"},
        "sentence_bert_config.json": {"do_lower_case": True, "max_seq_length": 9},
        "config.json": {"dtype": "bfloat16"},
    }.items():
        file = folder / name
        file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    monkeypatch.chdir(folder)
    use = Usage.of(folder, ".")
    for code in (use.sentence_transformers, use.transformers):
        _assert_same(folder, code, "", "")


def test_a_plain_hugging_face_directory(tiny_model: Path, monkeypatch) -> None:
    monkeypatch.chdir(tiny_model)
    use = Usage.of(tiny_model, ".")
    assert use.max_length == 64
    for code in (use.sentence_transformers, use.transformers):
        _assert_same(tiny_model, code, "", "")


def test_a_directory_that_does_more_than_we_know(tiny_model: Path, tmp_path: Path) -> None:
    """A head beside the pooling: the model is merged all the same, and its card shows what opens it whole."""
    load(str(tiny_model)).save(tmp_path / "model")
    modules = json.loads((tmp_path / "model" / "modules.json").read_text())
    modules.append({"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (tmp_path / "model" / "modules.json").write_text(json.dumps(modules))
    usage = Usage.of(tmp_path / "model", ".")
    assert usage.transformers is None
    assert usage.dim is None
    assert 'SentenceTransformer(".")' in usage.sentence_transformers
