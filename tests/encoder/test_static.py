"""StaticEmbedding as the body: the mean of token embeddings, with and without modules after it."""

from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from tokenizers import Tokenizer

from lightning_embed.encoder import Encoder, EncoderOptions, load
from lightning_embed.encoder.options import Attention, Pooling
from lightning_embed.errors import CheckpointError, ConfigError

TEXTS = ["the red bird", "a cat", "the big dog runs in the old house near the river", "", "the red bird"]
HEADS = {
    "alone": list,
    "normalised": lambda: [modules.Normalize()],
    "dense": lambda: [modules.Dense(16, 8), modules.Normalize()],
}


@pytest.fixture(params=HEADS)
def static(request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    words = Tokenizer.from_file(str(tiny_model / "tokenizer.json"))
    body = modules.StaticEmbedding(words, embedding_dim=16)
    SentenceTransformer(modules=[body, *HEADS[request.param]()], device="cpu").save(str(tmp_path / "static"))
    return tmp_path / "static"


def their(path: Path) -> torch.Tensor:
    return SentenceTransformer(str(path), device="cpu").encode(TEXTS, convert_to_tensor=True)


@pytest.mark.parametrize("max_length", [None, 4])
@pytest.mark.parametrize("attention", [Attention.auto, Attention.eager])
def test_it_trains_and_is_saved(static: Path, attention: Attention, max_length: int | None, tmp_path: Path) -> None:
    torch.testing.assert_close(load(static).encode(TEXTS), their(static), atol=1e-6, rtol=0)
    normalize = load(static).options.normalize
    options = EncoderOptions(str(static), attention=attention, normalize=normalize, max_length=max_length)
    encoder = Encoder(options)
    before = encoder.backbone.embedding.weight.detach().clone()
    encoder(encoder.tokenizer(TEXTS)).final.matmul(torch.arange(1.0, encoder.dim + 1)).sum().backward()
    torch.optim.AdamW(encoder.parameters(), lr=0.01).step()
    assert not torch.equal(encoder.backbone.embedding.weight, before)
    encoder.save(tmp_path / "trained")
    torch.testing.assert_close(encoder.encode(TEXTS), their(tmp_path / "trained"), atol=1e-6, rtol=0)
    assert torch.equal(load(tmp_path / "trained").encode(TEXTS), encoder.encode(TEXTS))
    assert set(encoder.named_weights()) >= {"embedding.weight"}


def test_what_it_cannot_do_is_refused(static: Path) -> None:
    with pytest.raises(ConfigError, match=r"encoder.pooling=cls: a StaticEmbedding takes the mean"):
        Encoder(EncoderOptions(str(static), pooling=Pooling.cls))
    with pytest.raises(ConfigError, match=r"\(static\) attends to earlier tokens only"):
        Encoder(EncoderOptions(str(static), bidirectional=True))
    with pytest.raises(ConfigError, match=r"lora_rank: .* no linear layers"):
        Encoder(EncoderOptions(str(static), lora_rank=4))
    (static / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"its StaticEmbedding does not open"):
        load(static)
