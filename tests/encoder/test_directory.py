"""Directories: ours read by others, those of others read by us, and the ones that are refused."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from transformers import AutoModel, AutoTokenizer

from lightning_embed.encoder import Encoder, EncoderOptions, load
from lightning_embed.encoder.manifest import mode_of
from lightning_embed.encoder.options import Pooling
from lightning_embed.errors import CheckpointError

TEXTS = ["the red bird", "a cat", "the big dog runs in the old house near the river", "the red bird"]
POOLINGS = [pooling for pooling in Pooling if pooling is not Pooling.auto]


def their_embeddings(path: Path, **options) -> torch.Tensor:
    return SentenceTransformer(str(path), device="cpu").encode(TEXTS, convert_to_tensor=True, **options)


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("normalize", [True, False])
def test_sentence_transformers_opens_what_we_save(tiny_model, tmp_path, pooling: Pooling, normalize: bool) -> None:
    prompts = {"query": "small ", "sts": "green "}
    options = EncoderOptions(str(tiny_model), pooling=pooling, normalize=normalize, prompts=prompts, max_length=9)
    encoder = Encoder(options)
    encoder.save(tmp_path)
    assert_close(encoder.encode(TEXTS), their_embeddings(tmp_path))
    assert_close(encoder.encode(TEXTS, prompt_name="query"), their_embeddings(tmp_path, prompt_name="query"))
    assert_close(encoder.encode(TEXTS, prompt_name="sts"), their_embeddings(tmp_path, prompt_name="STS"))
    again = load(tmp_path)
    assert torch.equal(again.encode(TEXTS, prompt_name="sts"), encoder.encode(TEXTS, prompt_name="sts"))
    assert (again.manifest.pooling, again.options.normalize, again.tokenizer.max_length) == (pooling, normalize, 9)


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "mpnet", "qwen3"])
def test_sentence_transformers_opens_every_family(build, tmp_path, family: str) -> None:
    encoder = Encoder(EncoderOptions(str(build(family)), pooling=Pooling.last_token))
    encoder.save(tmp_path / "saved")
    assert_close(encoder.encode(TEXTS), their_embeddings(tmp_path / "saved"))


def test_the_same_weights_give_the_same_bytes(tiny_model, tmp_path) -> None:
    encoder = Encoder(EncoderOptions(str(tiny_model)))
    encoder.save(tmp_path / "one")
    encoder.encode(TEXTS)
    encoder.save(tmp_path / "two")
    load(tmp_path / "one").save(tmp_path / "three")
    files = sorted(file.relative_to(tmp_path / "one") for file in (tmp_path / "one").rglob("*.*") if file.is_file())
    assert Path("model.safetensors") in files
    for file in files:
        content = (tmp_path / "one" / file).read_bytes()
        assert content == (tmp_path / "two" / file).read_bytes() == (tmp_path / "three" / file).read_bytes(), file
        assert str(tmp_path).encode() not in content
        assert str(tiny_model).encode() not in content
    assert AutoModel.from_pretrained(tmp_path / "one").dtype is torch.float32


@pytest.mark.parametrize("pooling", POOLINGS)
def test_new_directories_of_sentence_transformers(tiny_model, tmp_path, pooling: Pooling) -> None:
    transformer = modules.Transformer(str(tiny_model), max_seq_length=10)
    parts = [
        transformer,
        modules.Pooling(32, pooling_mode=mode_of(pooling)),
        modules.Normalize(),
    ]
    model = SentenceTransformer(modules=parts, prompts={"query": "small "}, default_prompt_name="query", device="cpu")
    model.save(str(tmp_path))
    assert "base.modules" in (tmp_path / "modules.json").read_text()
    encoder = load(tmp_path)
    assert (encoder.manifest.pooling, encoder.tokenizer.max_length) == (pooling, 10)
    assert_close(encoder.encode(TEXTS), their_embeddings(tmp_path))
    assert_close(encoder.encode(TEXTS, prompt=""), their_embeddings(tmp_path, prompt=""))


@pytest.fixture
def old(tiny_model, tmp_path) -> Path:
    """A directory as the first releases of sentence-transformers wrote it, pooled by cls, without normalisation."""
    shutil.copytree(tiny_model, tmp_path / "old" / "0_Transformer")
    (tmp_path / "old" / "1_Pooling").mkdir()
    kinds = {"0_Transformer": "Transformer", "1_Pooling": "Pooling"}
    write(
        tmp_path / "old/modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(kinds.items())
        ],
    )
    write(tmp_path / "old/0_Transformer/sentence_bert_config.json", {"max_seq_length": 7, "do_lower_case": True})
    write(
        tmp_path / "old/1_Pooling/config.json",
        {
            "word_embedding_dimension": 32,
            "pooling_mode_cls_token": True,
            "pooling_mode_mean_tokens": False,
        },
    )
    return tmp_path / "old"


def write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content))


def test_old_directories_of_sentence_transformers(old: Path) -> None:
    encoder = load(old)
    assert (encoder.manifest.pooling, encoder.tokenizer.max_length, encoder.options.normalize) == (
        Pooling.cls,
        7,
        False,
    )
    assert_close(encoder.encode(TEXTS), their_embeddings(old))
    trained = Encoder(EncoderOptions(str(old), pooling=Pooling.mean, max_length=12))
    assert trained.head.steps[0].pooling_mode == "mean"
    assert (trained.tokenizer.max_length, trained.options.normalize) == (12, True)
    assert torch.equal(encoder.encode(["THE RED Bird"]), encoder.encode(["the red bird"]))


def test_what_we_cannot_represent_is_refused(old: Path) -> None:
    write(old / "1_Pooling/config.json", {"pooling_mode": "median"})
    with pytest.raises(CheckpointError, match=r"expected one pooling of mean, cls, .*, got median"):
        load(old)
    (old / "modules.json").write_text("[")
    with pytest.raises(CheckpointError, match=r"modules.json: expected JSON, "):
        load(old)


def test_a_directory_without_a_model_is_refused(tmp_path, tiny_model) -> None:
    with pytest.raises(CheckpointError, match=r"nothing': expected a directory, found none"):
        load(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"expected a hub name, or a directory"):
        load(tmp_path / "empty")
    shutil.copytree(tiny_model, tmp_path / "weightless", ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(CheckpointError, match=r"AutoModelForTextEncoding reports"):
        load(tmp_path / "weightless")


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path, tiny_model) -> None:
    shutil.copytree(tiny_model, tmp_path / "x")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_tokens(["jabberwock"])
    tokenizer.save_pretrained(tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"one with 97 tokens for 96 embeddings"):
        load(tmp_path / "x")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    for file in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "x" / file).unlink(missing_ok=True)
    with pytest.raises(CheckpointError):
        load(tmp_path / "x")


def test_missing_weights_are_refused_unless_unused(tmp_path, tiny_model) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_model, tmp_path / "x")
    weights = load_file(tmp_path / "x/model.safetensors")
    save_file(
        {n: w for n, w in weights.items() if "pooler" not in n}, tmp_path / "x/model.safetensors", {"format": "pt"}
    )
    one, two = load(tmp_path / "x"), load(tmp_path / "x")
    assert torch.equal(one.backbone.pooler.dense.weight, two.backbone.pooler.dense.weight)
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, tmp_path / "x/model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 weights are not in the directory \(encoder.layer.1.output"):
        load(tmp_path / "x")


def test_a_tokenizer_without_a_padding_token(build, tmp_path) -> None:
    """As those of language models: the end of a text pads, and what we save says so."""
    folder = build("llama")
    tokenizer = AutoTokenizer.from_pretrained(folder, pad_token=None, eos_token="[SEP]")
    tokenizer.save_pretrained(folder)
    encoder = load(folder)
    encoder.save(tmp_path / "saved")
    assert_close(encoder.encode(TEXTS), their_embeddings(tmp_path / "saved"))
    AutoTokenizer.from_pretrained(folder, pad_token=None, eos_token=None, unk_token=None).save_pretrained(folder)
    with pytest.raises(CheckpointError, match=r"one with no padding token"):
        load(folder)


def test_an_encoder_decoder_without_an_encoder_alone_is_refused(build) -> None:
    with pytest.raises(CheckpointError, match=r"got an encoder-decoder \(bart\) whose encoder transformers does not"):
        load(build("bart", d_model=32, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=32, decoder_ffn_dim=32))


@pytest.mark.parametrize("family", ["t5", "mt5", "umt5"])
def test_the_encoder_of_an_encoder_decoder(family: str, build, tmp_path) -> None:
    encoder = load(build(family, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4))
    encoder.save(tmp_path / "saved")
    assert_close(encoder.encode(TEXTS), their_embeddings(tmp_path / "saved"))
    assert_close(load(tmp_path / "saved").encode(TEXTS), encoder.encode(TEXTS))


@pytest.mark.parametrize("family", ["qwen3", "mistral", "bert", "roberta", "t5"])
def test_texts_are_padded_on_the_right_by_who_opens_it(family: str, build, tmp_path) -> None:
    """As they ran here. Left padding would shift learned positions."""
    folder = build(family)
    AutoTokenizer.from_pretrained(folder, padding_side="left").save_pretrained(folder)
    encoder = Encoder(EncoderOptions(str(folder), pooling=Pooling.last_token))
    encoder.save(tmp_path / "saved")
    assert AutoTokenizer.from_pretrained(tmp_path / "saved").padding_side == "right"
    assert_close(encoder.encode(TEXTS), their_embeddings(tmp_path / "saved"))


@pytest.mark.parametrize("family", ["mpnet", "roberta", "bert", "modernbert"])
def test_a_text_of_the_full_length(family: str, build) -> None:
    """RoBERTa and MPNet have learned positions behind the padding id: two fewer than their table has rows."""
    encoder = load(build(family))
    assert encoder.encode("the red bird " * 60).isfinite().all()
    assert len(encoder.tokenizer(["the red bird " * 60]).ids) == encoder.tokenizer.max_length


def test_loading_is_silent(tiny_model, capfd) -> None:
    load(tiny_model)
    assert capfd.readouterr() == ("", "")


def test_an_exported_model_is_whole_or_absent(tiny_model, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(EncoderOptions(str(tiny_model)))
    target = tmp_path / "models" / "joint"

    def break_off(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(encoder.tokenizer, "save", break_off)
        with pytest.raises(OSError, match="no space"):
            encoder.export(target)
    assert not list((tmp_path / "models").iterdir())
    encoder.export(target)
    before = (target / "model.safetensors").stat().st_mtime_ns
    encoder.export(target)
    assert (target / "model.safetensors").stat().st_mtime_ns == before, "a finished model stays as it is"
    assert [file.name for file in (tmp_path / "models").iterdir()] == ["joint"]
    assert torch.equal(load(target).encode(TEXTS), encoder.encode(TEXTS))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e38])
@pytest.mark.parametrize(
    "name",
    [
        "embeddings.word_embeddings.weight",
        "encoder.layer.1.output.dense.bias",
        "encoder.layer.0.attention.self.query.weight",
    ],
)
def test_a_model_that_is_not_finite_is_neither_opened_nor_saved(tiny_model, tmp_path, name: str, bad: float) -> None:
    """1e38 is finite, and its embeddings are not."""
    encoder = Encoder(EncoderOptions(str(tiny_model)))
    weights = encoder.backbone.get_parameter(name).data
    weights.flatten()[: 1 if abs(bad) != 1e38 else None] = bad
    problem = "its embeddings of plain words have" if bad == 1e38 else f"{name} has"
    with pytest.raises(CheckpointError, match=rf"is not written: {problem} NaN or infinity"):
        encoder.export(tmp_path / "models" / "joint")
    assert list((tmp_path / "models").iterdir()) == []
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    save_file(encoder.backbone.state_dict(), copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"{copy}: expected finite weights and embeddings, but {problem} NaN"):
        load(copy)
