"""Small sentence-transformers models with weights in several modules, on disk."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    CNN,
    LSTM,
    Dense,
    LayerNorm,
    Normalize,
    Pooling,
    Router,
    StaticEmbedding,
    Transformer,
    WeightedLayerPooling,
    WordEmbeddings,
)
from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer
from torch import Tensor
from transformers import AutoTokenizer

DIM = 32


def _layers(path: Path) -> list[Any]:
    body = Transformer(str(path), config_kwargs={"output_hidden_states": True})
    return [body, WeightedLayerPooling(DIM, num_hidden_layers=2, layer_start=1), Pooling(DIM), Normalize()]


def _words() -> WordEmbeddings:
    words = ["the", "red", "cat", "dog", "sees"]
    return WordEmbeddings(WhitespaceTokenizer(words), torch.randn(5, 8).numpy(), update_embeddings=True)


def _static(path: Path) -> StaticEmbedding:
    return StaticEmbedding(AutoTokenizer.from_pretrained(path), embedding_dim=16)


def _two_routes(path: Path) -> Router:
    return Router.for_query_document(
        query_modules=[_static(path), Dense(16, 8)],
        document_modules=[Transformer(str(path)), Pooling(DIM), Dense(DIM, 8)],
    )


CHAINS: dict[str, Callable[[Path], list[Any]]] = {
    "dense": lambda path: [Transformer(str(path)), Pooling(DIM), Dense(DIM, 16), Normalize()],
    "two-dense": lambda path: [Transformer(str(path)), Pooling(DIM), Dense(DIM, 24), Dense(24, 8, bias=False)],
    "layer-norm": lambda path: [Transformer(str(path)), Pooling(DIM, pooling_mode="cls"), LayerNorm(DIM), Dense(DIM, 8)],
    "cnn": lambda path: [Transformer(str(path)), CNN(DIM, 8), Pooling(24)],
    "lstm": lambda path: [_words(), LSTM(8, 8), Pooling(16)],
    "word-embeddings": lambda path: [_words(), Pooling(8), Dense(8, 4)],
    "layer-pooling": _layers,
    "static": lambda path: [_static(path), Normalize()],
    "static-dense": lambda path: [_static(path), Dense(16, 8)],
    "router": lambda path: [_two_routes(path), Normalize()],
}  # fmt: skip
"""Word -> modules over the Transformer in a directory."""


def make(chain: str, path: Path, folder: Path, seed: int) -> Path:
    """A random model of a chain, all of its weights too."""
    model = SentenceTransformer(modules=CHAINS[chain](path), device="cpu")
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    model.save(str(folder))
    return folder


def tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a directory, by folder and name."""
    return {
        f"{file.parent.relative_to(folder)}:{name}": tensor
        for file in sorted(folder.rglob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def mean(folders: list[Path]) -> dict[str, Tensor]:
    """The float64 mean of the tensors of directories."""
    found = [tensors(folder) for folder in folders]
    return {name: sum(each[name].double() for each in found) / len(found) for name in found[0]}  # type: ignore[misc]


def close(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> None:
    """Assert that two models have the same names, and the same values up to float32 rounding."""
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name].double(), right[name].double(), rtol=0, atol=2e-7, msg=name)


def encode(folder: Path, texts: list[str]) -> Tensor:
    """The embeddings of a directory by SentenceTransformer, of queries and of documents."""
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    found = [model.encode_query(texts, convert_to_tensor=True), model.encode_document(texts, convert_to_tensor=True)]
    return torch.cat(found).cpu()
