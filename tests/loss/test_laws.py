"""What every registered loss of graded pairs obeys, in float32 and at its default options."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from lightning_embed import registry
from lightning_embed.loss import Loss
from lightning_embed.types import Embeddings, LossInput, Task
from tests.words import options

LOSSES = {entry.name: entry.cls(**options("loss", entry.name)) for entry in registry.entries("loss")}
LOSSES = {word: loss for word, loss in LOSSES.items() if Task.sts in loss.tasks}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def _pairs(
    first: torch.Tensor, second: torch.Tensor, score: list[float], middle: torch.Tensor | None = None
) -> LossInput:
    n = len(score)
    final = normalize(torch.cat([first, second]), dim=1).requires_grad_()
    middle = normalize(torch.cat([second, first]) if middle is None else middle, dim=1).requires_grad_()
    return LossInput(
        embeddings=Embeddings(final, middle), hashes=torch.arange(2 * n), query=torch.arange(n),
        positives=torch.arange(n, 2 * n)[:, None], negatives=torch.empty(n, 0, dtype=torch.int64),
        score=torch.tensor(score), rows=slice(0, n), teacher=normalize(_random(2 * n, 8), dim=1),
    )  # fmt: skip


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


GRADED = [0.0, 0.25, 0.5, 0.5, 1.0, 1.0]
a, b = _random(12, 8).split(6)
DEGENERATE = {
    "all scores 0": _pairs(a, b, [0.0] * 6),
    "all scores 1": _pairs(a, b, [1.0] * 6),
    "all scores 0.3": _pairs(a, b, [0.3] * 6),
    "all cosines 1": _pairs(a, a, GRADED),
    "all cosines -1": _pairs(a, -a, GRADED),
    "all cosines equal": _pairs(a[:1].expand(6, -1), b[:1].expand(6, -1), GRADED),
    "two rows": _pairs(a[:2], b[:2], [0.2, 1.0]),
    "two rows alike": _pairs(a[:1].expand(2, -1), a[:1].expand(2, -1), [1.0, 1.0]),
    "one row": _pairs(a[:1], b[:1], [1.0]),
    "scores that are almost equal": _pairs(a, b, [0.3, 0.3 + 6e-8, 0.3, 0.3, 0.3, 0.3]),
}


@every_loss
@pytest.mark.parametrize("batch", DEGENERATE.values(), ids=DEGENERATE.keys())
def test_finite_where_data_is_degenerate(loss: Loss, batch: LossInput) -> None:
    value = loss(batch).value
    assert value.dtype == torch.float32
    assert value.isfinite()
    gradients = torch.autograd.grad(value, [batch.embeddings.final, batch.embeddings.middle], allow_unused=True)
    assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)


@every_loss
def test_order_of_rows_does_not_count(loss: Loss) -> None:
    batch, order = _pairs(a, b, GRADED), torch.tensor([4, 2, 0, 5, 1, 3])
    mixed = replace(batch, query=batch.query[order], positives=batch.positives[order], score=batch.score[order])
    torch.testing.assert_close(loss(mixed).value, loss(batch).value)


@every_loss
def test_a_step_along_the_gradient_lowers_it(loss: Loss) -> None:
    batch = _pairs(a, b, GRADED)
    layers = [batch.embeddings.final, batch.embeddings.middle]
    value = loss(batch).value
    gradients = torch.autograd.grad(value, layers, allow_unused=True, materialize_grads=True)
    length = sum(gradient.square().sum() for gradient in gradients).sqrt()
    moved = [layer.detach() - 1e-3 * gradient / length for layer, gradient in zip(layers, gradients, strict=True)]
    assert loss(replace(batch, embeddings=Embeddings(*moved))).value < value


@every_loss
def test_ranks_average_to_the_whole(loss: Loss) -> None:
    """A loss of rows gives parts; one that compares all rows gives the whole on every rank."""
    batch = _pairs(a, b, GRADED)
    parts = [loss(replace(batch, rows=slice(start, start + 3))).value for start in (0, 3)]
    torch.testing.assert_close(sum(parts) / 2, loss(batch).value)


@every_loss
def test_never_waits_for_the_device(loss: Loss) -> None:
    """On tensors without content, what would copy a value to the host (item, bool, a shape that depends on data) raises."""
    batch = _pairs(a, b, GRADED)
    meta = {name: value.to("meta") for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    embeddings = Embeddings(batch.embeddings.final.to("meta"), batch.embeddings.middle.to("meta"))
    output = loss(replace(batch, embeddings=embeddings, **meta))
    assert output.value.is_meta
    assert output.value.shape == ()
    assert all(log.shape == () and not log.requires_grad for log in output.logs.values())
