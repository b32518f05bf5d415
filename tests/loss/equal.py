"""What it means that a loss equals its slow version."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lightning_embed.loss import Loss, blocks
from lightning_embed.types import LossInput, LossOutput


def texts(batch: LossInput) -> tuple[list[Tensor], list[Tensor]]:
    """Embeddings of the first and the second text of every pair."""
    embeddings = batch.embeddings.final
    return list(embeddings[batch.query]), list(embeddings[batch.positives[:, 0]])


def triplets(batch: LossInput, negatives: int = 1) -> tuple[LossInput, list[Tensor]]:
    """Five rows of distinct texts, one positive and some negatives each, and their columns as sentence-transformers has them."""
    rows, e = torch.arange(5), batch.embeddings.final
    e = torch.cat([e, e[:3]]) if negatives > 1 else e  # 17 texts are not enough
    columns = [e[start : start + 5] for start in range(0, 10 + 5 * negatives, 5)]
    hard = rows[:, None] + 10 + 5 * torch.arange(negatives)
    made = replace(
        batch, embeddings=replace(batch.embeddings, final=e), hashes=torch.arange(len(e)), query=rows,
        positives=rows[:, None] + 5, negatives=hard, score=None, rows=slice(0, 5),
    )  # fmt: skip
    return made, columns


def assert_equal(ours: Tensor, theirs: Tensor, batch: LossInput) -> None:
    """Value and gradient at all embeddings."""
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(*(_gradients(value, batch) for value in (ours, theirs)), rtol=1e-9, atol=1e-12)


def assert_parity(ours: Tensor, theirs: Tensor, final: Tensor) -> None:
    """Value and gradient; theirs divides by the norm, so that its gradient lies across the unit vectors."""
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    gradients = [torch.autograd.grad(value, final, retain_graph=True)[0] for value in (ours, theirs)]
    across = [gradient - (gradient * final).sum(1, keepdim=True) * final for gradient in gradients]
    torch.testing.assert_close(*across, rtol=1e-6, atol=1e-9)


def in_small_blocks(loss: Loss, batch: LossInput, monkeypatch: pytest.MonkeyPatch) -> LossOutput:
    """The loss of five rows in blocks of three candidates; no more than a block of a matrix is kept for the gradient."""
    monkeypatch.setattr(blocks, "MAX_LOGITS", 15)
    kept: list[torch.Size] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.shape), t)[1], lambda t: t):
        output = loss(batch)
    assert not [shape for shape in kept if len(shape) == 2 and shape[0] == 5 and 8 != shape[1] > 5]
    return output


def _gradients(value: Tensor, batch: LossInput) -> Sequence[Tensor]:
    leaves = [e for e in (batch.embeddings.final, batch.embeddings.middle) if e is not None]
    return torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True, materialize_grads=True)
