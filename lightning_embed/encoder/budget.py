"""`max_tokens=auto`: the number of tokens of a chunk that suits a device."""

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
_MOST_TOKENS = 131072
_SHARE = 0.25  # of a GPU's memory: the activations of one chunk at most


@runtime_checkable
class RunsChunks(Protocol):
    """The part of an `Encoder` that this module uses; it is an `nn.Module` too."""

    tokenizer: TextTokenizer

    @property
    def device(self) -> torch.device:
        """Device of the weights."""

    def forward_chunk(self, tokens: Tokens, chunk: Int[Tensor, " texts"]) -> Embeddings:
        """Embed the texts of one chunk."""


class SavedBytes:
    """Counts the bytes that autograd saves: each storage once, without weights.

    Weights are known by their class, not by their address: those of a sharded model are elsewhere in each forward pass.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._seen: set[int] = set()

    @contextmanager
    def count(self) -> Iterator[None]:
        """Count the tensors saved in this context."""
        with saved_tensors_hooks(self._count, lambda saved: saved):
            yield

    def _count(self, saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        is_weight = isinstance(saved if saved._base is None else saved._base, nn.Parameter)
        if not is_weight and storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return saved


def fitting_tokens(encoder: RunsChunks) -> int:
    """Tokens of a chunk that suit the encoder's device.

    On a GPU, the power of two from 4,096 to 131,072 whose activations fit a quarter of its memory: of the total memory,
    not of the free memory, so that a resumed run gets the same number. The bytes per token are measured on one text of
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
    """Activations saved per token in training mode, even if the encoder is used for inference first."""
    assert isinstance(encoder, nn.Module)
    length, saved, training = min(encoder.tokenizer.max_length, CPU_TOKENS), SavedBytes(), encoder.training
    devices = [encoder.device] if encoder.device.type == "cuda" else []
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices), saved.count():
        text = Tokens.of([[encoder.tokenizer.padding] * length])
        encoder.train().forward_chunk(text, torch.tensor([0]))
    encoder.train(training)
    return saved.bytes / length
