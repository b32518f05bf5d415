"""What the other ranks do while rank zero merges and evaluates: they run their share of the texts that it embeds.

Rank zero alone merges, reads the data of tests, computes metrics and writes files. It cuts the texts of an evaluation into
the same chunks as a process that is alone, so that every embedding has the same bits, and deals them out in turn.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from weakref import WeakSet

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_embed.encoder import Encoder
from lightning_embed.runtime import distributed
from lightning_embed.types import Tokens

_ROUND = 32  # chunks of each rank that are under way together

Load = Callable[[Path], Encoder]
Chunks = Sequence[Int[Tensor, " _"]]

_numbers = count()
_shared: "WeakSet[Shares]" = WeakSet()
_leads = False


@dataclass
class _Order:
    """Work for a rank.

    Args:
        number: of the model.
        load: opens it.
        path: its directory.
        kept: numbers of the models that will be needed again.
        tokens: texts to embed.
        chunks: the texts of each chunk.
        weights: other weights for the model.
    """

    number: int
    load: Load
    path: Path
    kept: list[int]
    tokens: Tokens | None = None
    chunks: Chunks = ()
    weights: dict[str, Tensor] | None = None


@contextmanager
def lead() -> Iterator[None]:
    """In the block, the models that rank zero opens share their work with the other ranks, which `serve`."""
    global _leads
    distributed.ready_to_wait()
    _leads = distributed.world_size() > 1
    try:
        yield
        if _leads:
            distributed.dealt([None] * distributed.world_size())
    finally:
        _leads = False


def serve() -> None:
    """Work for rank zero, until it has finished."""
    distributed.ready_to_wait()
    models: dict[int, Encoder] = {}
    while (order := distributed.dealt()) is not None:
        models = {number: model for number, model in models.items() if number in order.kept}
        if order.number not in models:
            models[order.number] = order.load(order.path)
        model = models[order.number]
        if order.weights is not None:
            _hold(model, order.weights)
        if order.tokens is not None:
            distributed.collected(model.infer(order.tokens, order.chunks))


def shared(model: Encoder, load: Load, path: Path) -> Encoder:
    """The model in `path`, which shares its work in the block of `lead`."""
    if _leads:
        model.shares = Shares(load, path)
    return model


class Shares:
    """Shares the chunks of a model with the other ranks; see `Encoder.shares`."""

    def __init__(self, load: Load, path: Path) -> None:
        self.load, self.path, self.number = load, path, next(_numbers)
        _shared.add(self)

    def __call__(self, model: Encoder, tokens: Tokens, chunks: Chunks) -> list[Float[Tensor, "_ dim"]]:
        """The embeddings of the chunks, in their order."""
        ranks = distributed.world_size()
        if len(chunks) < ranks:
            return model.infer(tokens, chunks)
        found: list[Tensor] = []
        for start in range(0, len(chunks), _ROUND * ranks):
            part = chunks[start : start + _ROUND * ranks]
            dealt = [part[rank::ranks] for rank in range(ranks)]
            own, *_ = dealt
            distributed.dealt([None, *(self._order(**_picked(tokens, each)) for each in dealt[1:])])
            results = distributed.collected(model.infer(tokens, own))
            found += [results[number % ranks][number // ranks] for number in range(len(part))]
        return found

    def send_weights(self, model: Encoder) -> None:
        """Give the other ranks the weights that a model has now."""
        weights = {name: parameter.detach().cpu() for name, parameter in model.named_parameters()}
        distributed.dealt([None, *[self._order(weights=weights)] * (distributed.world_size() - 1)])

    def _order(self, **work: Any) -> _Order:
        return _Order(self.number, self.load, self.path, [each.number for each in _shared], **work)


def _picked(tokens: Tokens, chunks: Chunks) -> dict[str, Any]:
    """The texts of some chunks, with new numbers."""
    if not chunks:
        return {"tokens": Tokens.of([]), "chunks": []}
    texts = torch.cat(list(chunks))
    lengths = tokens.lengths[texts]
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    place = torch.arange(int(offsets[-1])) + torch.repeat_interleave(tokens.offsets[texts] - offsets[:-1], lengths)
    prompts = None if tokens.prompts is None else tokens.prompts[texts]
    numbers = torch.split(torch.arange(len(texts)), [len(chunk) for chunk in chunks])
    return {"tokens": Tokens(tokens.ids[place], offsets, prompts), "chunks": list(numbers)}


@torch.no_grad()
def _hold(model: Encoder, weights: dict[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        parameter.data = weights[name].to(parameter.device)
