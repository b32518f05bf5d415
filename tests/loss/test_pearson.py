"""Pearson against loops, its laws and refusals."""

from dataclasses import replace

import pytest
import torch

from lightning_embed.errors import ConfigError
from lightning_embed.loss.pearson import Pearson
from lightning_embed.types import LossInput
from tests.loss.equal import assert_equal, texts
from tests.reference import sts_losses as reference


@pytest.mark.parametrize("epsilon", [1e-8, 0.1])
def test_reference(loss_input: LossInput, epsilon: float) -> None:
    theirs = reference.pearson(reference.cosines(*texts(loss_input)), loss_input.score.tolist(), epsilon)
    assert_equal(Pearson(epsilon)(loss_input).value, theirs, loss_input)


def test_is_the_correlation_of_torch(loss_input: LossInput) -> None:
    cosine = torch.stack(reference.cosines(*texts(loss_input)))
    expected = 1 - torch.corrcoef(torch.stack([cosine, loss_input.score]))[0, 1]
    torch.testing.assert_close(Pearson(1e-14)(loss_input).value, expected)


def test_scale_and_origin_of_scores_do_not_count(loss_input: LossInput) -> None:
    stretched = replace(loss_input, score=loss_input.score * 0.3 + 0.1)
    torch.testing.assert_close(Pearson()(stretched).value, Pearson()(loss_input).value)


def test_equal_scores_have_no_loss(loss_input: LossInput) -> None:
    assert Pearson()(replace(loss_input, score=torch.full_like(loss_input.score, 0.3))).value == 0


def test_equal_cosines_correlate_with_nothing(loss_input: LossInput) -> None:
    same = replace(loss_input, query=torch.full((5,), 0), positives=torch.full((5, 1), 5))
    torch.testing.assert_close(Pearson()(same).value, torch.ones((), dtype=torch.float64))


def test_refusal() -> None:
    with pytest.raises(ConfigError, match="pearson: epsilon must be positive, got 0"):
        Pearson(epsilon=0.0)
