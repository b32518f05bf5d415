"""Random inputs for losses."""

import pytest
import torch
from torch.nn.functional import normalize

from lightning_embed.types import Embeddings, LossInput


@pytest.fixture
def loss_input() -> LossInput:
    """Five rows, 17 distinct texts in float64: ragged positives and negatives, one document in two rows, graded scores."""
    generator = torch.Generator().manual_seed(3)
    embeddings = normalize(torch.randn(17, 8, generator=generator, dtype=torch.float64), dim=1).requires_grad_()
    return LossInput(
        embeddings=Embeddings(embeddings),
        hashes=torch.arange(100, 117),
        query=torch.tensor([0, 1, 2, 3, 4]),
        positives=torch.tensor([[5, 6], [7, -1], [8, 9], [10, -1], [11, -1]]),
        negatives=torch.tensor([[12, 13], [13, -1], [5, 14], [-1, -1], [15, 16]]),  # 5 is row 0's positive
        score=torch.tensor([0.0, 0.5, 0.5, 1.0, 0.2], dtype=torch.float64),
        rows=slice(0, 5),
    )
