"""Stable ranks: the approximate number of directions in the change of a matrix."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.merge.blocks.stream import for_each_parameter, read_blocks
from lightning_embed.merge.contract import Cut, Model
from lightning_embed.runtime.seeding import derive_seed

# Error on the matrices of two fine-tuned MiniLM, compared with all singular values: at most 1.2 %, on average 0.02 %.
_PASSES, _VECTORS = 6, 8


def stable_ranks(sources: Sequence[Model], base: Model | None) -> dict[str, list[float]]:
    """|A|_F^2 / |A|_2^2 of the delta A of each source, for every matrix that all sources have changed.

    From 1 (all rows are multiples of one row) to the rank. Small changes count little, so the number is informative
    even for full rank. The largest singular value comes from power iteration on several vectors at once. Each pass
    reads the models again, so that no matrix is kept in memory.
    """
    matrices = {name: shape for name, shape in sources[0].parameters.items() if len(shape) == 2 and shape.numel()}
    found = for_each_parameter(matrices, lambda name: _stable_ranks(name, sources, base))
    return {name: ranks.tolist() for name, ranks in found.items() if ranks.isfinite().all()}


def _stable_ranks(name: str, sources: Sequence[Model], base: Model | None) -> Float[Tensor, " sources"]:
    """The stable ranks of one matrix; NaN for a delta of zeros."""
    width = sources[0].parameters[name][1]
    generator = torch.Generator().manual_seed(derive_seed("stable rank", name))
    vectors = torch.randn(len(sources), width, min(_VECTORS, width), generator=generator)
    for _ in range(_PASSES):
        vectors = torch.linalg.qr(vectors).Q
        previous, vectors, squares = vectors, torch.zeros_like(vectors), torch.zeros(len(sources), dtype=torch.float64)
        for block in read_blocks(name, sources, base, Cut.row):
            deltas = block.deltas
            vectors += deltas.mT @ (deltas @ previous)
            squares += torch.linalg.vector_norm(deltas, dim=(1, 2), dtype=torch.float64) ** 2
    largest = torch.linalg.eigvalsh((previous.mT @ vectors).double())[:, -1]
    return squares / torch.where(squares > 0, largest, 0.0)
