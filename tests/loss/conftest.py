"""Random inputs for losses."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from lightning_embed.types import Embeddings, LossInput


@pytest.fixture
def loss_input() -> LossInput:
    """Five rows, 17 distinct texts in float64: ragged positives and negatives, one document in two rows, graded scores."""
    generator = torch.Generator().manual_seed(3)
    final, middle = (
        normalize(torch.randn(17, 8, generator=generator, dtype=torch.float64), dim=1).requires_grad_()
        for _ in range(2)
    )
    return LossInput(
        embeddings=Embeddings(final, middle),
        hashes=torch.arange(100, 117),
        query=torch.tensor([0, 1, 2, 3, 4]),
        positives=torch.tensor([[5, 6], [7, -1], [8, 9], [10, -1], [11, -1]]),
        negatives=torch.tensor([[12, 13], [13, -1], [5, 14], [-1, -1], [15, 16]]),  # 5 is row 0's positive
        score=torch.tensor([0.0, 0.5, 0.5, 1.0, 0.2], dtype=torch.float64),
        rows=slice(0, 5),
    )


@pytest.fixture
def taught_input(loss_input: LossInput) -> LossInput:
    """The same rows with a teacher's scores: one document of row 4 has none, rows 1 and 3 have fewer than two documents scored."""
    nan = torch.nan
    return replace(
        loss_input,
        positive_scores=torch.tensor([[4.0, 3.5], [2.0, nan], [5.0, 1.0], [3.0, nan], [2.5, nan]]).double(),
        negative_scores=torch.tensor([[1.0, -2.0], [nan, nan], [0.5, 3.0], [nan, nan], [-1.0, nan]]).double(),
    )


@pytest.fixture
def four_rows(taught_input: LossInput) -> LossInput:
    """The first four of those rows: two ranks can share them equally."""
    cut = {name: getattr(taught_input, name)[:4] for name in PER_ROW}
    return replace(taught_input, rows=slice(0, 4), **cut)


PER_ROW = ("query", "positives", "negatives", "score", "positive_scores", "negative_scores")
