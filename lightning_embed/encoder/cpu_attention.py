"""Attention of packed texts on a CPU, with dropout and its own backward pass.

torch's attention on the CPU supports dropout only in a slow path of many small steps, and its backward pass is slow in
bfloat16. Here every step is one batched product, or one pass over the probabilities of a group while they are in the
cache. Saved for the backward pass: the probabilities, the dropped ones with a minus sign. As in torch's path with
dropout, scores and probabilities have the dtype of the query; the softmax itself is computed in float32.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_embed.encoder.dropout import Dropped

Groups = Sequence[tuple[int, int]]
Row = Float[Tensor, "total heads head_dim"]

_CACHED = 2**20  # probabilities
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of an element


class CpuAttention(torch.autograd.Function):
    """softmax(q k^T) v inside each text, with dropout of the probabilities; the caller scales query and value."""

    @staticmethod
    def forward(
        ctx: Any, query: Row, key: Row, value: Row, groups: Groups, masks: Sequence[Tensor | None], p: float
    ) -> Row:
        """Attend. `masks`: for each group, the mask of keys for every query; None: all keys."""
        dropped = Dropped(p) if p else None
        groups, masks = _pieces(groups, masks, query.shape[1])
        keep = any(ctx.needs_input_grad)
        sizes = [texts * query.shape[1] * length**2 for texts, length in groups]
        probabilities = query.new_empty(sum(sizes) if keep else max(sizes))
        output = torch.empty_like(query, memory_format=torch.contiguous_format)
        with torch.autocast("cpu", enabled=False):
            for (place, probability), mask in zip(_parts(groups, query, probabilities, keep), masks, strict=True):
                q, k, v = (_texts(row, place) for row in (query, key, value))
                scores = torch.bmm(q, k.mT)
                if mask is not None:
                    scores.masked_fill_(~mask, -torch.inf)
                kept = torch.softmax(scores, -1, out=probability)
                if dropped is not None:
                    _negate(probability, dropped(probability.numel()))
                    kept = torch.relu(probability)
                _put(output, place, torch.bmm(kept, v))
        if keep:
            ctx.save_for_backward(query, key, value, probabilities)
        ctx.groups, ctx.p = groups, p
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Row) -> tuple[Tensor | None, ...]:
        """The gradients of query, key and value."""
        query, key, value, probabilities = ctx.saved_tensors
        outputs = [torch.empty_like(query, memory_format=torch.contiguous_format) for _ in range(3)]
        with torch.autocast("cpu", enabled=False):
            for place, probability in _parts(ctx.groups, query, probabilities, keep=True):
                q, k, v, g = (_texts(row, place) for row in (query, key, value, gradient))
                kept, inner = probability, torch.bmm(g, v.mT)
                if ctx.p:
                    kept, inner = torch.relu(probability), torch.ops.aten.threshold_backward(inner, probability, 0)
                    probability = probability.abs()
                scores = torch._softmax_backward_data(inner, probability, -1, inner.dtype)
                for output, part in zip(outputs, (scores @ k, scores.mT @ q, kept.mT @ g), strict=True):
                    _put(output, place, part)
        return *outputs, None, None, None


def _pieces(
    groups: Groups, masks: Sequence[Tensor | None], heads: int
) -> tuple[list[tuple[int, int]], list[Tensor | None]]:
    """Groups cut so that the probabilities of one fit the cache, unless a single text is too long."""
    pieces: list[tuple[int, int]] = []
    pieces_masks: list[Tensor | None] = []
    for (texts, length), mask in zip(groups, masks, strict=True):
        most = max(1, _CACHED // (heads * length**2))
        cut = [min(most, texts - start) for start in range(0, texts, most)]
        pieces += [(size, length) for size in cut]
        pieces_masks += [mask] * len(cut)
    return pieces, pieces_masks


def _negate(numbers: Tensor, where: Tensor) -> None:
    """Set the sign bit where `where` is 1."""
    integer = _INTEGERS[numbers.itemsize]
    signs = where.to(integer).bitwise_left_shift_(8 * numbers.itemsize - 1)
    numbers.view(integer).bitwise_or_(signs.view(numbers.shape))


def _parts(
    groups: Groups, query: Row, probabilities: Tensor, keep: bool
) -> Iterator[tuple[tuple[int, int, int], Tensor]]:
    """Place of each group in the row, and memory for its probabilities: shared by all groups unless they are kept."""
    heads, start, used = query.shape[1], 0, 0
    for texts, length in groups:
        part = probabilities[used : used + texts * heads * length**2].view(texts * heads, length, length)
        yield (start, texts, length), part
        start += texts * length
        used += part.numel() if keep else 0


def _texts(row: Row, place: tuple[int, int, int]) -> Float[Tensor, "texts_and_heads length head_dim"]:
    """The texts of a group, with heads as a batch dimension."""
    start, texts, length = place
    part = row[start : start + texts * length]
    return part.view(texts, length, *part.shape[1:]).transpose(1, 2).flatten(0, 1)


def _put(row: Row, place: tuple[int, int, int], part: Tensor) -> None:
    """Write a group; the inverse of `_texts`."""
    start, texts, length = place
    rows = row[start : start + texts * length].view(texts, length, *row.shape[1:])
    rows.transpose(1, 2).copy_(part.view(texts, -1, *part.shape[1:]))
