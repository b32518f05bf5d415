"""Inner products and cosines of deltas, parameter by parameter."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.merge.blocks.stream import for_each_parameter, read_blocks
from lightning_embed.merge.contract import Model


def cosine_matrix(gram: Float[Tensor, "*rows vectors vectors"]) -> Float[Tensor, "*rows vectors vectors"]:
    """Cosines of vectors from their inner products; 0 for a zero vector, also with itself."""
    norms = gram.diagonal(dim1=-2, dim2=-1).sqrt()
    return _cosines(gram, norms[..., :, None] * norms[..., None, :])


def _cosines(products: Float[Tensor, "*shape"], norms: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return torch.where(norms > 0, products / torch.where(norms > 0, norms, 1), 0.0).clamp(-1, 1)


def gram_matrix(vectors: Float[Tensor, "*rows sources elements"]) -> Float[Tensor, "*rows sources sources"]:
    """Inner products of all pairs, in float64: float32 is too coarse for the angle between fine-tunes of one base."""
    exact = vectors.double()
    return exact @ exact.mT


def gram_matrices(sources: Sequence[Model], base: Model | None) -> dict[str, Float[Tensor, "sources sources"]]:
    """The inner products of the deltas (without a base, of the sources) for every parameter, in float64."""
    zero = torch.zeros(len(sources), len(sources), dtype=torch.float64)

    def gram(name: str) -> Float[Tensor, "sources sources"]:
        return sum((gram_matrix(block.deltas.flatten(1)) for block in read_blocks(name, sources, base)), zero)

    return for_each_parameter(sources[0].parameters, gram)
