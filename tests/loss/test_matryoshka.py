"""Matryoshka against loops, against sentence-transformers, its laws and refusals."""

from dataclasses import replace

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss, MultipleNegativesRankingLoss

from lightning_embed.errors import ConfigError
from lightning_embed.loss.codiemb import CoDiEmb
from lightning_embed.loss.cosent import CoSENT
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.loss.matryoshka import Matryoshka
from lightning_embed.types import LossInput, Task
from tests.loss.equal import assert_equal
from tests.reference import losses, wrappers

OPTIONS = {"dims": [8, 4], "loss": {"name": "codiemb"}}  # for the laws, whose embeddings are shorter than the default


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("weights", [[], [1.0, 0.5, 0.25]])
def test_reference(loss_input: LossInput, weights: list[float], normalize: bool) -> None:
    query, document = loss_input.query.tolist(), loss_input.positives[:, 0].tolist()

    def infonce(texts: list[torch.Tensor]) -> torch.Tensor:
        return losses.infonce([texts[i] for i in query], [[texts[i]] for i in document], [[]] * 5, 0.05)

    batch = replace(loss_input, positives=loss_input.positives[:, :1], negatives=torch.empty(5, 0).long(), score=None)
    ours = Matryoshka(InfoNCE(), [8, 4, 2], weights, normalize)(batch)
    texts = list(loss_input.embeddings.final)
    theirs = wrappers.matryoshka(infonce, texts, [8, 4, 2], weights or [1.0, 1.0, 1.0], normalize)
    assert_equal(ours.value, theirs, batch)
    assert ours.logs.keys() == {"masked", "loss_8", "loss_4", "loss_2"}


class _Columns(torch.nn.Module):
    """A sentence-transformers model that has embedded its columns before."""

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return dict(features)

    def get_embedding_dimension(self) -> int:
        return 8


@pytest.mark.parametrize("weights", [[], [1.0, 0.5]])
def test_parity_sentence_transformers(loss_input: LossInput, weights: list[float]) -> None:
    rows = torch.arange(5)
    batch = replace(loss_input, query=rows, positives=rows[:, None] + 5, negatives=rows[:, None] + 10, score=None)
    e, model = batch.embeddings.final, _Columns()
    theirs = MatryoshkaLoss(model, MultipleNegativesRankingLoss(model, scale=20.0), [8, 4], weights or None)  # type: ignore[arg-type]
    columns = [{"sentence_embedding": e[start : start + 5]} for start in (0, 5, 10)]
    ours = Matryoshka(InfoNCE(0.05), [8, 4], weights)(batch).value
    torch.testing.assert_close(ours, theirs(columns, None))


def test_the_whole_length_is_the_wrapped_loss(loss_input: LossInput) -> None:
    torch.testing.assert_close(Matryoshka(CoSENT(), [8])(loss_input).value, CoSENT()(loss_input).value)


def test_cuts_the_middle_layer_too(loss_input: LossInput) -> None:
    value = Matryoshka(CoDiEmb(), [4])(loss_input).value
    middle = torch.autograd.grad(value, loss_input.embeddings.middle)[0]
    assert middle[:, :4].abs().sum() > 0
    assert middle[:, 4:].abs().sum() == 0


def test_answers_for_the_wrapped_loss() -> None:
    loss = Matryoshka(CoDiEmb(cross_device=False))
    assert (loss.tasks, loss.cross_device, loss.needs_middle, loss.needs_teacher) == ({Task.sts}, False, True, False)
    assert Matryoshka({"name": "cosent", "temperature": 0.1}).loss == CoSENT(0.1)


def test_refusals(loss_input: LossInput) -> None:
    for dims in ([], [0], [4, 8], [8, 8]):
        with pytest.raises(ConfigError, match="dims must be positive and descending, got"):
            Matryoshka(dims=dims)
    with pytest.raises(ConfigError, match=r"weights=\[1.0\] are 1 numbers for 2 dims"):
        Matryoshka(dims=[8, 4], weights=[1.0])
    with pytest.raises(ConfigError, match=r"dims=\[9, 4\] of embeddings with 8 dimensions"):
        Matryoshka(dims=[9, 4])(loss_input)
    with pytest.raises(ConfigError, match="loss must be a loss, or its options with a name"):
        Matryoshka(loss="infonce")
