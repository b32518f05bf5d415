"""Global orthogonal regularisation against loops, against sentence-transformers, its laws and refusals."""

from dataclasses import replace

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import GlobalOrthogonalRegularizationLoss

from lightning_embed.errors import ConfigError
from lightning_embed.loss.codiemb import CoDiEmb
from lightning_embed.loss.cosent import CoSENT
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.loss.spread_out import SpreadOut
from lightning_embed.types import Embeddings, LossInput, Task
from tests.loss.equal import assert_equal, assert_parity, triplets
from tests.reference import wrappers as reference

OPTIONS = {"loss": {"name": "cosent"}}  # trains every task: the laws of all
WEIGHTS = [(1.0, 1.0), (0.0, 1.0), (2.0, 0.5)]


@pytest.mark.parametrize(("mean", "moment"), WEIGHTS)
def test_reference(loss_input: LossInput, mean: float, moment: float) -> None:
    """The query of rows 1 and 4 is one text, as are the first positives of rows 0 and 3."""
    batch = replace(
        loss_input, query=torch.tensor([0, 1, 2, 3, 1]), positives=torch.tensor([[5, 6], [7, -1], [8, 9], [5, 10], [11, -1]])
    )  # fmt: skip
    e = batch.embeddings.final
    theirs = reference.spread_out([[e[i] for i in (0, 1, 2, 3)], [e[i] for i in (5, 7, 8, 11)]], mean, moment, 8)
    inner = CoSENT()(batch).value
    ours = SpreadOut(CoSENT(), mean, moment)(batch)
    assert_equal(ours.value, inner + theirs, batch)
    torch.testing.assert_close(ours.logs["spread"], theirs.detach())


@pytest.mark.parametrize(("mean", "moment"), WEIGHTS)
@pytest.mark.parametrize("alike", [0.0, 2.0])
def test_parity_sentence_transformers(loss_input: LossInput, mean: float, moment: float, alike: float) -> None:
    """Of the random texts the second moment is near 1 / dim; with a common part it is far beyond."""
    batch, _ = triplets(loss_input)
    final = torch.nn.functional.normalize(batch.embeddings.final + alike, dim=1).detach().requires_grad_()
    batch = replace(batch, embeddings=Embeddings(final))
    peer = GlobalOrthogonalRegularizationLoss(None, mean_weight=mean, second_moment_weight=moment, aggregation="sum")  # type: ignore[arg-type]
    theirs = sum(peer.compute_loss_from_embeddings([final[:5], final[5:10]]).values())
    ours = SpreadOut(InfoNCE(), mean, moment)(batch).value - InfoNCE()(batch).value
    assert_parity(ours, theirs, final)


def test_gradcheck(loss_input: LossInput) -> None:
    def value(embeddings: torch.Tensor) -> torch.Tensor:
        batch = replace(loss_input, embeddings=Embeddings(embeddings + 1))
        return SpreadOut(CoSENT())(batch).value

    assert torch.autograd.gradcheck(value, loss_input.embeddings.final)


def test_orthogonal_texts_and_one_row_cost_nothing(loss_input: LossInput) -> None:
    unit = torch.eye(8, dtype=torch.float64)[torch.arange(17) % 8].requires_grad_()
    orthogonal = replace(loss_input, embeddings=Embeddings(unit))  # queries 0 to 4, positives 5, 6, 7, 0, 1: mod 8
    orthogonal = replace(orthogonal, positives=torch.tensor([5, 6, 7, 8, 9])[:, None])
    assert SpreadOut(CoSENT())(orthogonal).logs["spread"] == 0
    one = replace(
        loss_input, query=loss_input.query[:1], positives=loss_input.positives[:1], negatives=loss_input.negatives[:1],
        score=None, rows=slice(0, 1),
    )  # fmt: skip
    output = SpreadOut(InfoNCE())(one)
    assert output.logs["spread"] == 0
    assert torch.autograd.grad(output.value, one.embeddings.final)[0].isfinite().all()


def test_answers_for_the_wrapped_loss(loss_input: LossInput) -> None:
    loss = SpreadOut(CoDiEmb(cross_device=False))
    assert (loss.tasks, loss.cross_device, loss.needs_middle, loss.needs_teacher) == ({Task.sts}, False, True, False)
    assert loss(loss_input).logs.keys() == CoDiEmb()(loss_input).logs.keys() | {"spread"}


def test_refusals() -> None:
    for weights in ((0.0, 0.0), (-1.0, 1.0)):
        with pytest.raises(ConfigError, match="spread_out: mean_weight and moment_weight must be at least 0"):
            SpreadOut(CoSENT(), *weights)
