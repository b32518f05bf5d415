"""`max_tokens=auto`: how many tokens go through the backbone at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from lightning_embed.encoder.tokenize import TextTokenizer
from lightning_embed.types import Embeddings, Tokens

CPU_TOKENS = 4096  # the activations between two layers stay in the cache (benchmarks/growth.py)
_MOST_TOKENS = 65536
_SHARE = 0.25  # of a GPU's memory that the activations of one chunk may take


@runtime_checkable
class RunsChunks(Protocol):
    """The part of an `Encoder` that is measured here; it is an `nn.Module` too."""

    tokenizer: TextTokenizer

    @property
    def device(self) -> torch.device:
        """Where the weights are."""

    def forward_chunk(self, tokens: Tokens, chunk: Int[Tensor, " texts"]) -> Embeddings:
        """Embed the texts of one chunk."""


class SavedBytes:
    """Counts what autograd saves, each storage once, the module's weights not."""

    def __init__(self, module: nn.Module) -> None:
        self.bytes = 0
        self._seen = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}

    @contextmanager
    def count(self) -> Iterator[None]:
        """Count what is saved inside."""
        with saved_tensors_hooks(self._count, lambda saved: saved):
            yield

    def _count(self, saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return saved


def fitting_tokens(encoder: RunsChunks) -> int:
    """Tokens of a chunk that suit the encoder's device.

    On a GPU as many as a quarter of its memory holds with all activations, as a power of two from 4,096 to 65,536: of all
    its memory, not of what is free, so that a resumed run finds the same. What a token needs is read off one text of
    full length. On other devices 4,096, which suit the cache of a CPU.
    """
    if encoder.device.type != "cuda":
        return CPU_TOKENS
    _, total = torch.cuda.mem_get_info(encoder.device)
    return tokens_within(total * _SHARE, _bytes_per_token(encoder))


def tokens_within(memory: float, bytes_per_token: float) -> int:
    """The power of two of tokens that fits `memory`, within limits."""
    tokens = CPU_TOKENS
    while 2 * tokens * bytes_per_token <= memory and tokens < _MOST_TOKENS:
        tokens *= 2
    return tokens


def _bytes_per_token(encoder: RunsChunks) -> float:
    """In training, whatever the encoder is asked to do first."""
    assert isinstance(encoder, nn.Module)
    length, saved, training = min(encoder.tokenizer.max_length, CPU_TOKENS), SavedBytes(encoder), encoder.training
    devices = [encoder.device] if encoder.device.type == "cuda" else []
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices), saved.count():
        text = Tokens.of([[encoder.tokenizer.padding] * length])
        encoder.train().forward_chunk(text, torch.tensor([0]))
    encoder.train(training)
    return saved.bytes / length
