"""The head: each pooling against a slow loop in float64, prompts left out, and the modules after it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules

from lightning_embed.encoder import Encoder, EncoderOptions, load
from lightning_embed.encoder.chunk import Chunk
from lightning_embed.encoder.head import Head
from lightning_embed.encoder.manifest import mode_of
from lightning_embed.encoder.options import Attention, Pooling
from lightning_embed.errors import CheckpointError
from lightning_embed.types import Tokens

TEXTS = ["the red bird", "a cat", "the big dog runs in the old house near the river", "the red bird"]
LENGTHS = [5, 3, 3, 1]
SLOW = {
    Pooling.mean: lambda h: sum(h) / len(h),
    Pooling.cls: lambda h: h[0],
    Pooling.last_token: lambda h: h[-1],
    Pooling.weighted_mean: lambda h: sum((i + 1) * x for i, x in enumerate(h)) / sum(range(len(h) + 1)),
    Pooling.max: lambda h: torch.stack(h).amax(0),
    Pooling.mean_sqrt_len: lambda h: sum(h) / len(h) ** 0.5,
}


def chunk(prompts: list[int] | None = None) -> Chunk:
    tokens = Tokens.of([[7] * length for length in LENGTHS])
    tokens.prompts = None if prompts is None else torch.tensor(prompts)
    return Chunk.of(tokens, torch.arange(4), torch.device("cpu"))


def pooled(hidden: torch.Tensor, *poolings: Pooling, prompts: list[int] | None = None) -> torch.Tensor:
    step = modules.Pooling(7, [mode_of(pooling) for pooling in poolings], include_prompt=prompts is None)
    return Head([("1_Pooling", step)])(chunk(prompts), hidden)


def states(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(12, 7, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("pooling", SLOW)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_equals_the_slow_loop(pooling: Pooling, dtype: torch.dtype) -> None:
    hidden = states(dtype)
    expected = torch.stack([SLOW[pooling](list(h)) for h in hidden.double().split(LENGTHS)])
    found = pooled(hidden, pooling)
    assert found.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0)


def test_every_pooling_has_its_loop() -> None:
    assert {*SLOW, Pooling.auto} == set(Pooling)


def test_several_poolings_stand_side_by_side() -> None:
    both = pooled(states(), Pooling.cls, Pooling.mean)
    assert torch.equal(both, torch.cat([pooled(states(), Pooling.cls), pooled(states(), Pooling.mean)], -1))


@pytest.mark.parametrize("pooling", [Pooling.mean, Pooling.max, Pooling.mean_sqrt_len, Pooling.cls])
def test_the_tokens_of_a_prompt_are_left_out_text_by_text(pooling: Pooling) -> None:
    """The prompts of queries and documents have other lengths, and both are in one chunk."""
    prompts = [2, 0, 2, 0]
    expected = [SLOW[pooling](list(h)[p:]) for h, p in zip(states().split(LENGTHS), prompts, strict=True)]
    torch.testing.assert_close(pooled(states(), pooling, prompts=prompts), torch.stack(expected))


def their(path: Path, **options: Any) -> torch.Tensor:
    return SentenceTransformer(str(path), device="cpu").encode(TEXTS, convert_to_tensor=True, **options)


def dense(inputs: int, outputs: int, **options: Any) -> modules.Dense:
    torch.manual_seed(inputs + outputs)
    return modules.Dense(inputs, outputs, **options)


def normed() -> modules.LayerNorm:
    norm = modules.LayerNorm(32)
    norm.norm.weight.data.uniform_(0.5, 2)
    return norm


HEADS = {
    "two poolings": lambda: [modules.Pooling(32, ("cls", "mean")), modules.Normalize()],
    "a dense layer": lambda: [modules.Pooling(32), dense(32, 12), modules.Normalize()],
    "EmbeddingGemma": lambda: [
        modules.Pooling(32),
        dense(32, 48, bias=False, activation_function=torch.nn.Identity()),
        dense(48, 32, bias=False, activation_function=torch.nn.Identity()),
        modules.Normalize(),
    ],
    "instructor": lambda: [modules.Pooling(32, include_prompt=False), dense(32, 16), modules.Normalize()],
    "a norm": lambda: [modules.Pooling(32, "cls"), normed(), modules.Normalize()],
    "all layers": lambda: [
        modules.WeightedLayerPooling(32, 2, layer_start=1),
        modules.Pooling(32),
        modules.Normalize(),
    ],
    "all layers, without a gradient": lambda: [modules.WeightedLayerPooling(32, 2), modules.Pooling(32)],
    "dropout": lambda: [modules.Pooling(32), modules.Dropout(0.3), modules.Normalize()],
    "not normalised": lambda: [modules.Pooling(32), dense(32, 8)],
    "tokens": lambda: [
        dense(32, 16, module_input_name="token_embeddings"),
        modules.Pooling(16, "max"),
        modules.Normalize(),
    ],
}


@pytest.fixture(params=HEADS)
def headed(request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path) -> Path:
    """A directory as sentence-transformers writes it."""
    layers = {"output_hidden_states": True} if request.param == "all layers" else {}
    body = modules.Transformer(str(tiny_model), max_seq_length=20, config_kwargs=layers)
    prompts = {"query": "small green: ", "document": "old: "}
    SentenceTransformer(modules=[body, *HEADS[request.param]()], prompts=prompts, device="cpu").save(
        str(tmp_path / "m")
    )
    return tmp_path / "m"


@pytest.mark.parametrize("attention", [Attention.packed, Attention.eager])
def test_a_head_trains_and_is_saved(headed: Path, attention: Attention, tmp_path: Path) -> None:
    """As it is opened, and after a step of training: sentence-transformers gives the same embeddings."""
    plain = load(headed)
    encoder = Encoder(
        EncoderOptions(str(headed), normalize=plain.options.normalize, attention=attention, max_tokens=16)
    )
    for prompt in (None, "query"):
        torch.testing.assert_close(plain.encode(TEXTS, prompt), their(headed, prompt_name=prompt), atol=1e-5, rtol=0)
        torch.testing.assert_close(encoder.encode(TEXTS, prompt), plain.encode(TEXTS, prompt), atol=1e-5, rtol=0)
    before = {name: p.detach().clone() for name, p in encoder.named_weights().items() if p.requires_grad}
    tokens = encoder.tokenizer(TEXTS, ["small green: ", "old: ", "", "small green: "])
    encoder(tokens, seed=1).final.matmul(torch.arange(1.0, encoder.dim + 1)).sum().backward()
    torch.optim.AdamW(encoder.parameters(), lr=0.01).step()
    unmoved = [n for n, p in encoder.named_weights().items() if n in before and torch.equal(p, before[n])]
    assert unmoved == []
    encoder.save(tmp_path / "trained")
    for prompt in (None, "query"):
        ours = encoder.encode(TEXTS, prompt)
        torch.testing.assert_close(ours, their(tmp_path / "trained", prompt_name=prompt), atol=1e-5, rtol=0)
        torch.testing.assert_close(ours, load(tmp_path / "trained").encode(TEXTS, prompt), atol=1e-5, rtol=0)


def test_weights_have_the_names_of_a_merge(tiny_model: Path, tmp_path: Path) -> None:
    parts = [modules.Transformer(str(tiny_model)), modules.Pooling(32), dense(32, 12)]
    SentenceTransformer(modules=parts, device="cpu").save(str(tmp_path))
    assert {"2_Dense.linear.weight", "2_Dense.linear.bias"} < set(load(tmp_path).named_weights())


def test_what_the_directory_says_is_kept(tiny_model: Path, tmp_path: Path) -> None:
    parts = [modules.Transformer(str(tiny_model)), modules.Pooling(32)]
    model = SentenceTransformer(modules=parts, similarity_fn_name="dot", truncate_dim=8, device="cpu")
    model.save(str(tmp_path / "theirs"))
    encoder = load(tmp_path / "theirs")
    encoder.save(tmp_path / "ours")
    again = SentenceTransformer(str(tmp_path / "ours"), device="cpu")
    assert (again.similarity_fn_name, again.truncate_dim) == ("dot", 8)
    found = encoder.encode(TEXTS)
    assert found.shape == (4, 8)
    torch.testing.assert_close(found, torch.from_numpy(again.encode(TEXTS)), atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder.similarity(found, found), again.similarity(found, found))


@pytest.mark.parametrize(
    "kind", ["Router", "Asym", "CNN", "LSTM", "BoW", "WordEmbeddings", "StaticEmbedding", "CLIPModel"]
)
def test_other_modules_are_refused_by_name(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    load(tiny_model).save(tmp_path / "m")
    file = tmp_path / "m/modules.json"
    file.write_text(file.read_text().replace("models.Normalize", f"models.{kind}"))
    with pytest.raises(CheckpointError, match=rf"got Transformer, Pooling, {kind}. Use a model without"):
        load(tmp_path / "m")


def test_a_module_that_is_code_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    load(tiny_model).save(tmp_path / "m")
    file = tmp_path / "m/modules.json"
    file.write_text(file.read_text().replace("sentence_transformers.models.Normalize", "my_module.Latent"))
    with pytest.raises(CheckpointError, match=r"module my_module.Latent is code in the directory, which is not run"):
        load(tmp_path / "m")


def test_a_module_without_its_weights(tiny_model: Path, tmp_path: Path) -> None:
    parts = [modules.Transformer(str(tiny_model)), modules.Pooling(32), dense(32, 12)]
    SentenceTransformer(modules=parts, device="cpu").save(str(tmp_path))
    (tmp_path / "2_Dense/model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"2_Dense: the module Dense does not open .*Copy or download it again"):
        load(tmp_path)
