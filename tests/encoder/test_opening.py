"""The opener of merged models: configuration, completion, and the check before a model is published."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig

from lightning_embed import load
from lightning_embed.encoder import opening
from lightning_embed.encoder.opening import TransformersOpener
from lightning_embed.errors import CheckpointError
from lightning_embed.merge.checkpoint.name_matching import TensorInfo
from lightning_embed.merge.opener import Opener

OPENER = TransformersOpener()


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def _config(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    stored = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in stored.items() if value is not ...}))


def test_it_is_an_opener() -> None:
    assert isinstance(OPENER, Opener)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ({"model_type": "bert"}, {"hidden_act": "gelu", "layer_norm_eps": 1e-12}),
        ({"model_type": "bert", "layer_norm_eps": 1e-5}, {"hidden_act": "gelu", "layer_norm_eps": 1e-5}),
        ({"model_type": "qwen3"}, {"attention_bias": False}),
        ({"model_type": "nobody"}, {"model_type": "nobody"}),
        ({}, {}),
        ({"model_type": "bert", "auto_map": {"AutoConfig": "mine.Config"}}, {"model_type": "bert"}),
    ],
)
def test_a_configuration_with_defaults(stored: dict[str, object], expected: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(stored))
    found = OPENER.config(tmp_path)
    assert {key: found[key] for key in expected} == expected
    assert OPENER.config(tmp_path / "missing") == {}


DTYPES: list[tuple[dict[str, object], torch.dtype, dict[str, str]]] = [
    ({"dtype": "float32"}, torch.float32, {}),
    ({"torch_dtype": "float16"}, torch.float16, {}),
    ({"torch_dtype": "float32"}, torch.bfloat16, {"dtype": "bfloat16"}),
    ({"dtype": "bfloat16"}, torch.float16, {"dtype": "float16"}),
    ({}, torch.bfloat16, {}),
]


@pytest.mark.parametrize(("config", "dtype", "expected"), DTYPES)
def test_the_dtype_is_true(config: dict[str, object], dtype: torch.dtype, expected: dict[str, str]) -> None:
    header = {"weight": TensorInfo(dtype, torch.Size([8, 8])), "norm": TensorInfo(torch.float32, torch.Size([8]))}
    assert OPENER.fitted(config, header) == expected


def test_a_plain_directory_becomes_one_of_sentence_transformers(model: Path) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["the red cat", "a dog sees the river"]
    before = load(model).encode(texts)
    assert OPENER.complete(model) == (
        "No model has a modules.json: the merged one pools by the mean and normalises, as the encoder does then."
    )
    opened = SentenceTransformer(str(model), device="cpu", local_files_only=True)
    assert [type(module).__name__ for module in opened] == ["Transformer", "Pooling", "Normalize"]
    torch.testing.assert_close(opened.encode(texts, convert_to_tensor=True), before, rtol=0, atol=1e-6)
    torch.testing.assert_close(load(model).encode(texts), before, rtol=0, atol=0)
    assert OPENER.complete(model) is None, "an existing modules.json stays"


NOT_COMPLETED: list[Callable[[Path], object]] = [
    lambda folder: (folder / "config.json").unlink(),
    lambda folder: _config(folder, model_type="nobody"),
    lambda folder: (folder / "config.json").write_text(CLIPConfig().to_json_string()),
    lambda folder: _config(folder, auto_map={"AutoConfig": "mine.Config"}),
    lambda folder: [(folder / name).unlink(missing_ok=True) for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt")],
]  # fmt: skip


@pytest.mark.parametrize("change", NOT_COMPLETED)
def test_directories_that_are_left_as_they_are(change: Callable[[Path], object], model: Path) -> None:
    change(model)
    assert OPENER.complete(model) is None
    assert not (model / "modules.json").exists()


NOT_OPENED: list[tuple[Callable[[Path], object], str]] = [
    (lambda folder: (folder / "config.json").unlink(), "it has no config.json"),
    (lambda folder: _config(folder, model_type="nobody"), "this version of transformers has no model_type 'nobody'"),
    (lambda folder: _config(folder, auto_map={"AutoConfig": "x.C"}), "its classes are code in its directory, which a merge does not run"),
    (
        lambda folder: (folder / "modules.json").write_text('[{"type": "mine.Head", "path": ""}]'),
        "its module mine.Head is code in its directory, which a merge does not run",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), NOT_OPENED)
def test_what_is_not_opened_is_said(change: Callable[[Path], object], reason: str, model: Path) -> None:
    change(model)
    assert OPENER.check(model) == f"The merged model was not opened: {reason}."


def test_a_large_model_is_not_opened(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert OPENER.check(model) is None
    monkeypatch.setattr(opening, "_MAX_BYTES", 1000)
    assert OPENER.check(model) == "The merged model was not opened: it is large; its tensors fit its configuration."


def _weights(folder: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    found = load_file(folder / "model.safetensors")
    save_file({name: change(t) for name, t in found.items()}, folder / "model.safetensors", metadata={"format": "pt"})


BROKEN: list[tuple[Callable[[Path], object], str]] = [
    (lambda folder: _weights(folder, lambda t: t * float("nan")), r"gives NaN or infinity for 'a few words'"),
    (lambda folder: _weights(folder, lambda t: t[:6] if t.dim() == 2 and len(t) > 64 else t), r"does not open \(RuntimeError|ValueError"),
    (lambda folder: _config(folder, vocab_size=6), r"does not open \("),
    (lambda folder: (folder / "tokenizer.json").write_text("{"), r"does not open \("),
    (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), r"does not open \("),
    (lambda folder: _config(folder, num_attention_heads=5), r"does not open \(ValueError"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BROKEN)
@pytest.mark.parametrize("plain", [True, False])
def test_a_model_that_does_not_open(
    plain: bool, change: Callable[[Path], object], message: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not plain:
        OPENER.complete(model)
    change(model)
    with pytest.raises(CheckpointError, match=rf"The merged model .*{message}"):
        OPENER.check(model)


def test_a_tokenizer_with_more_tokens_than_embeddings(model: Path) -> None:
    _weights(model, lambda t: t[:10].clone() if t.shape[0] > 64 and t.dim() == 2 and t.shape[1] == 32 else t)
    _config(model, vocab_size=10)
    with pytest.raises(CheckpointError, match=r"gives the id \d+, and the model has 10 embeddings"):
        OPENER.check(model)
