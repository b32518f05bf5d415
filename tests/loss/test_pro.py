"""PRO against the loop over sorted pairs, its laws and refusals."""

from dataclasses import replace

import pytest
import torch

from lightning_embed.errors import ConfigError
from lightning_embed.loss.pro import PRO
from lightning_embed.types import LossInput
from tests.loss.equal import assert_equal, texts
from tests.reference import sts_losses as reference


@pytest.mark.parametrize(
    "score", [[0.0, 0.5, 0.5, 1.0, 0.2], [1.0, 0.0, 1.0, 1.0, 0.0], [0.4, 0.4 + 1e-9, 0.1, 0.1, 0.4]]
)
@pytest.mark.parametrize("temperature", [0.05, 0.7])
def test_reference(loss_input: LossInput, temperature: float, score: list[float]) -> None:
    batch = replace(loss_input, score=torch.tensor(score, dtype=torch.float64))
    theirs = reference.pro(reference.cosines(*texts(batch)), score, temperature)
    assert_equal(PRO(temperature)(batch).value, theirs, batch)


def test_equal_scores_have_no_loss(loss_input: LossInput) -> None:
    assert PRO()(replace(loss_input, score=torch.full_like(loss_input.score, 0.3))).value == 0


def test_scale_of_scores_acts_as_a_temperature(loss_input: LossInput) -> None:
    halved = replace(loss_input, score=loss_input.score / 2)
    torch.testing.assert_close(PRO(0.05)(halved).value, PRO(0.1)(loss_input).value)


def test_refusal() -> None:
    with pytest.raises(ConfigError, match="pro: temperature must be positive, got 0"):
        PRO(temperature=0.0)
