"""The cached step: the plain step's gradient, with dropout, at any budget; and what it keeps."""

from functools import partial
from pathlib import Path

import pytest
import torch

from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.encoder.options import Dtype
from lightning_embed.training.cached_step import cached_backward
from lightning_embed.types import Embeddings, LossOutput, Tokens

TEXTS = [f"the {a} {b} {c}" for a in ("red", "big cat near the old") for b in ("dog", "king") for c in ("runs", "eats")]


@pytest.fixture
def encoder(tiny_model: Path) -> Encoder:
    """In float64, with its dropout of 0.1; chunks of a few texts."""
    return Encoder(EncoderOptions(str(tiny_model), dtype=Dtype.float32, max_tokens=16)).double().train()


def _loss(embeddings: Embeddings) -> LossOutput:
    """Every text with every other, and both layers."""
    similar = torch.logsumexp((embeddings.final @ embeddings.final.T / 0.1).flatten(), 0)
    return LossOutput(similar if embeddings.middle is None else similar + (embeddings.middle**3).sum(), {})


def _gradient(encoder: Encoder) -> torch.Tensor:
    gradient = torch.cat([p.grad.flatten() for p in encoder.parameters() if p.grad is not None])
    encoder.zero_grad()
    return gradient


@pytest.mark.parametrize("middle", [False, True])
@pytest.mark.parametrize("memory", [0, 100_000, 10**9])
def test_equals_the_plain_step(encoder: Encoder, memory: int, middle: bool) -> None:
    tokens = encoder.tokenizer(TEXTS)
    plain = _loss(encoder(tokens, seed=5, middle=middle)).value
    plain.backward()
    expected = _gradient(encoder)
    last: list[bool] = []

    def backward(value: torch.Tensor, is_last: bool) -> None:
        value.backward()
        last.append(is_last)

    output = cached_backward(encoder, tokens, _loss, backward, seed=5, middle=middle, memory=memory)
    torch.testing.assert_close(output.value, plain, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(_gradient(encoder), expected, rtol=1e-9, atol=1e-12)
    assert last == [False] * (len(encoder.chunks(tokens)) - 1) + [True]
    assert len(last) > 3


@pytest.mark.parametrize(("memory", "twice"), [(0, "all"), (10**9, "none"), (100_000, "some")])
def test_budget_decides_which_chunks_run_twice(
    encoder: Encoder, memory: int, twice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    forward = encoder.forward_chunk

    def counted(tokens: Tokens, chunk: torch.Tensor, **options: object) -> Embeddings:
        runs.append(tuple(chunk.tolist()))
        return forward(tokens, chunk, **options)

    monkeypatch.setattr(encoder, "forward_chunk", counted)
    tokens = encoder.tokenizer(TEXTS)
    cached_backward(encoder, tokens, _loss, lambda value, last: value.backward(), seed=5, memory=memory)
    repeated = len(runs) - len(set(runs))
    assert {"all": repeated == len(set(runs)), "none": repeated == 0, "some": 0 < repeated < len(set(runs))}[twice]


def test_never_more_than_one_graph(encoder: Encoder) -> None:
    """At the end of every backward pass nothing of an earlier chunk's graph is alive."""
    alive, most = set(), 0

    class Kept:
        def __init__(self, tensor: torch.Tensor) -> None:
            nonlocal most
            self.tensor = tensor
            alive.add(id(self))
            most = max(most, len(alive))

        def __del__(self) -> None:
            alive.discard(id(self))

    def measured(run: partial) -> int:
        nonlocal most
        most = 0
        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
            run()
        return most

    def plain() -> None:
        _loss(encoder(tokens, seed=1)).value.backward()

    tokens = encoder.tokenizer(TEXTS)
    chunks = len(encoder.chunks(tokens))
    whole = measured(partial(plain))
    cached = measured(partial(cached_backward, encoder, tokens, _loss, lambda value, last: value.backward(), seed=1))
    assert cached < 2 * whole / chunks
