"""AnglE against loops over complex numbers, against sentence-transformers, its laws and refusals."""

from dataclasses import replace

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import AnglELoss

from lightning_embed.errors import ConfigError
from lightning_embed.loss.angle import AnglE
from lightning_embed.types import Embeddings, LossInput
from tests.loss.equal import assert_equal, texts
from tests.reference import sts_losses as reference


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_reference(loss_input: LossInput, temperature: float) -> None:
    theirs = reference.angle(*texts(loss_input), loss_input.score.tolist(), temperature)
    assert_equal(AnglE(temperature)(loss_input).value, theirs, loss_input)


def test_parity_sentence_transformers(loss_input: LossInput) -> None:
    pair = [torch.stack(side) for side in texts(loss_input)]
    theirs = AnglELoss(None, scale=20.0).compute_loss_from_embeddings(pair, loss_input.score)
    torch.testing.assert_close(AnglE(temperature=0.05)(loss_input).value, theirs)


def test_only_the_order_of_scores_counts(loss_input: LossInput) -> None:
    torch.testing.assert_close(AnglE()(replace(loss_input, score=loss_input.score**3)).value, AnglE()(loss_input).value)


def test_refusals(loss_input: LossInput) -> None:
    with pytest.raises(ConfigError, match="angle: temperature must be positive, got 0"):
        AnglE(temperature=0.0)
    odd = replace(loss_input, embeddings=Embeddings(loss_input.embeddings.final[:, :7]))
    with pytest.raises(ConfigError, match="even number of dimensions, got 7"):
        AnglE()(odd)
