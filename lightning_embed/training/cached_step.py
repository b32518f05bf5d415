"""The cached step (gradient caching): the exact gradient of a large batch, with the activations of one chunk at a time.

Gao et al. 2021, arXiv 2101.06983. Embeddings first, without a graph; then the loss and its gradient at the embeddings;
then every chunk again, with a graph, through which its part of that gradient is propagated. Chunks and their seeds are
those of the plain step, so dropout is replayed. It costs one more forward pass.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.encoder import Encoder
from lightning_embed.encoder.budget import SavedBytes
from lightning_embed.types import Embeddings, LossOutput, Tokens


def cached_backward(
    encoder: Encoder,
    tokens: Tokens,
    loss: Callable[[Embeddings], LossOutput],
    backward: Callable[[Float[Tensor, ""], bool], None],
    learned: Sequence[Tensor] = (),
    *,
    seed: int | None = None,
    middle: bool = False,
    memory: int = 0,
) -> LossOutput:
    """Add the gradient of a loss of all texts to the encoder's parameters.

    Args:
        encoder: runs the chunks.
        tokens: the texts.
        loss: loss of their embeddings.
        backward: runs the backward pass of a scalar; its second argument is True for the last scalar of the batch.
        learned: parameters of the loss itself, whose gradient is added with that of the last chunk.
        seed: seed of dropout, as in `Encoder.forward`.
        middle: whether the loss uses the middle layer.
        memory: bytes of activations to keep from the first pass at most; chunks that fit run only once.
    """
    chunks = encoder.chunks(tokens)
    seeds = encoder.chunk_seeds(seed, len(chunks))

    def run(number: int) -> Embeddings:
        return encoder.forward_chunk(tokens, chunks[number], seed=seeds[number], middle=middle)

    budget, lengths, parts = _Budget(encoder, memory), tokens.lengths, []
    for number, chunk in enumerate(chunks):
        with budget.graph(int(lengths[chunk].sum())):
            parts.append(run(number))
    leaves = [Embeddings(*(_leaf(layer) for layer in _layers(part))) for part in parts]
    output = loss(encoder.join(chunks, leaves))
    wanted = [*chain.from_iterable(map(_layers, leaves)), *learned]
    gradients = iter(torch.autograd.grad(output.value, wanted, allow_unused=True, materialize_grads=True))
    for number in range(len(chunks)):
        part = parts.pop(0)
        layers = _layers(part if part.final.requires_grad else run(number))
        last = number == len(chunks) - 1
        product = sum((layer * next(gradients)).sum() for layer in (*layers, *(learned if last else ())))
        assert isinstance(product, Tensor)
        backward(product, last)
        del part, layers, product  # the graph of this chunk, before the next one is built
    return output


def _layers(embeddings: Embeddings) -> list[Tensor]:
    return [embeddings.final] if embeddings.middle is None else [embeddings.final, embeddings.middle]


def _leaf(layer: Tensor) -> Tensor:
    return layer.detach().requires_grad_()


class _Budget:
    """Memory budget for the graphs that are kept."""

    def __init__(self, encoder: Encoder, memory: int) -> None:
        self.memory = memory
        self.agree = encoder.agree
        self.saved = SavedBytes()
        self.bytes_per_token = 0.0

    @contextmanager
    def graph(self, num_tokens: int) -> Iterator[None]:
        """Keep the graph of a chunk if it should fit, by the bytes per token of the chunk before; else build none.

        Ranks that run the model together keep it if it fits on all of them: the others run the chunk once more.
        """
        before = self.saved.bytes
        if not self.memory or self.agree(before + num_tokens * self.bytes_per_token >= self.memory):
            with torch.no_grad():
                yield
            return
        with self.saved.count():
            yield
        self.bytes_per_token = (self.saved.bytes - before) / max(1, num_tokens)
