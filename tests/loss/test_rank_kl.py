"""RankKL against loops, its laws and refusals."""

from dataclasses import replace

import pytest
import torch

from lightning_embed.errors import ConfigError
from lightning_embed.loss.rank_kl import RankKL
from lightning_embed.types import LossInput
from tests.loss.equal import assert_equal, texts
from tests.reference import sts_losses as reference


@pytest.mark.parametrize("divide_by_rows", [True, False])
@pytest.mark.parametrize("temperature", [0.05, 0.7])
def test_reference(loss_input: LossInput, temperature: float, divide_by_rows: bool) -> None:
    """Two scores of the input are equal: they share their ranks."""
    cosine = reference.cosines(*texts(loss_input))
    theirs = reference.rank_kl(cosine, loss_input.score.tolist(), temperature, divide_by_rows)
    assert_equal(RankKL(temperature, divide_by_rows)(loss_input).value, theirs, loss_input)


def test_only_the_order_of_scores_counts(loss_input: LossInput) -> None:
    torch.testing.assert_close(
        RankKL()(replace(loss_input, score=loss_input.score**3)).value, RankKL()(loss_input).value
    )


def test_binary_scores_are_uniform_within_a_label(loss_input: LossInput) -> None:
    """papers.md 3.8: the target depends on the label alone."""
    binary = replace(loss_input, score=torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0]).double())
    theirs = reference.rank_kl(reference.cosines(*texts(binary)), binary.score.tolist(), 0.05, True)
    assert_equal(RankKL()(binary).value, theirs, binary)


def test_is_zero_where_the_cosines_are_the_ranks(loss_input: LossInput) -> None:
    """Three pairs with cosines 1, 1/2, 0, in the order of their scores."""
    end = [[1.0, 0.0], [0.5, 0.75**0.5], [0.0, 1.0]]
    final = torch.tensor([[1.0, 0.0], *end], dtype=torch.float64)
    batch = replace(
        loss_input, embeddings=type(loss_input.embeddings)(final), hashes=torch.arange(4),
        query=torch.zeros(3, dtype=torch.int64), positives=torch.tensor([[1], [2], [3]]), negatives=torch.empty(3, 0).long(),
        score=torch.tensor([0.9, 0.8, 0.1]), rows=slice(0, 3),
    )  # fmt: skip
    torch.testing.assert_close(RankKL()(batch).value, torch.zeros((), dtype=torch.float64), atol=1e-12, rtol=0)


def test_refusal() -> None:
    with pytest.raises(ConfigError, match="rank_kl: temperature must be positive, got 0"):
        RankKL(temperature=0.0)
