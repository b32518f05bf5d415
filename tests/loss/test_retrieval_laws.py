"""Laws of every registered loss of queries and documents, in float32 and at its default options."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from lightning_embed import registry
from lightning_embed.loss import Loss
from lightning_embed.types import Embeddings, LossInput, Task
from tests.words import options

LOSSES = {entry.name: entry.cls(**options("loss", entry.name)) for entry in registry.entries("loss")}
LOSSES = {word: loss for word, loss in LOSSES.items() if Task.retrieval in loss.tasks}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def _batch(final: torch.Tensor, middle: torch.Tensor) -> LossInput:
    """Six queries with a positive and two hard negatives each; the second is missing in every other row."""
    negatives = torch.arange(12, 24).reshape(6, 2)
    negatives[::2, 1] = -1
    draw = torch.Generator().manual_seed(3)
    teacher = torch.rand(6, 3, generator=draw)
    return LossInput(
        embeddings=Embeddings(normalize(final, dim=1).requires_grad_(), normalize(middle, dim=1).requires_grad_()),
        hashes=torch.arange(24),
        query=torch.arange(6),
        positives=torch.arange(6, 12)[:, None],
        negatives=negatives,
        score=None,
        rows=slice(0, 6),
        positive_scores=teacher[:, :1] + 1.0,
        negative_scores=teacher[:, 1:].masked_fill(negatives < 0, torch.nan),
        teacher=normalize(_random(7), dim=1),
    )


def _random(seed: int) -> torch.Tensor:
    return torch.randn(24, 8, generator=torch.Generator().manual_seed(seed))


BATCH = _batch(_random(5), _random(6))
ALIKE = _batch(torch.ones(24, 8), torch.ones(24, 8))


@every_loss
@pytest.mark.parametrize("batch", [BATCH, ALIKE], ids=["random", "all texts alike"])
def test_value_and_gradient_are_finite(loss: Loss, batch: LossInput) -> None:
    value = loss(batch).value
    assert value.dtype == torch.float32
    assert value.isfinite()
    layers = [batch.embeddings.final, batch.embeddings.middle]
    for gradient in torch.autograd.grad(value, layers, allow_unused=True, materialize_grads=True):
        assert gradient.isfinite().all()


@every_loss
def test_order_of_rows_does_not_count(loss: Loss) -> None:
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    mixed = {name: getattr(BATCH, name)[order] for name in ("query", "positives", "negatives")}
    teacher = {name: getattr(BATCH, name)[order] for name in ("positive_scores", "negative_scores")}
    torch.testing.assert_close(loss(replace(BATCH, **mixed, **teacher)).value, loss(BATCH).value)


@every_loss
def test_a_step_along_the_gradient_lowers_it(loss: Loss) -> None:
    layers = [BATCH.embeddings.final, BATCH.embeddings.middle]
    value = loss(BATCH).value
    gradients = torch.autograd.grad(value, layers, allow_unused=True, materialize_grads=True)
    length = sum(gradient.square().sum() for gradient in gradients).sqrt()
    moved = [layer.detach() - 1e-3 * gradient / length for layer, gradient in zip(layers, gradients, strict=True)]
    assert loss(replace(BATCH, embeddings=Embeddings(*moved))).value < value


@every_loss
def test_ranks_average_to_the_whole(loss: Loss) -> None:
    parts = [loss(replace(BATCH, rows=slice(start, start + 3))).value for start in (0, 3)]
    torch.testing.assert_close(sum(parts) / 2, loss(BATCH).value)


@every_loss
def test_never_waits_for_the_device(loss: Loss) -> None:
    meta = {name: value.to("meta") for name, value in vars(BATCH).items() if isinstance(value, torch.Tensor)}
    embeddings = Embeddings(BATCH.embeddings.final.to("meta"), BATCH.embeddings.middle.to("meta"))
    output = loss(replace(BATCH, embeddings=embeddings, **meta))
    assert output.value.is_meta
    assert output.value.shape == ()
    assert all(log.shape == () and not log.requires_grad for log in output.logs.values())
