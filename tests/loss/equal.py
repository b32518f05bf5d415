"""What it means that a loss equals its slow version."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_embed.types import LossInput


def texts(batch: LossInput) -> tuple[list[Tensor], list[Tensor]]:
    """Embeddings of the first and the second text of every pair."""
    embeddings = batch.embeddings.final
    return list(embeddings[batch.query]), list(embeddings[batch.positives[:, 0]])


def assert_equal(ours: Tensor, theirs: Tensor, batch: LossInput) -> None:
    """Value and gradient at all embeddings."""
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(*(_gradients(value, batch) for value in (ours, theirs)), rtol=1e-9, atol=1e-12)


def _gradients(value: Tensor, batch: LossInput) -> Sequence[Tensor]:
    leaves = [e for e in (batch.embeddings.final, batch.embeddings.middle) if e is not None]
    return torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True, materialize_grads=True)
