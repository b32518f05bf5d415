"""Focal weights against loops, their limits, their derivative and refusals."""

from dataclasses import replace

import pytest
import torch

from lightning_embed.errors import ConfigError
from lightning_embed.loss import blocks
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.loss.infonce_focal import InfoNCEFocal
from lightning_embed.types import LossInput
from tests.loss.equal import assert_equal
from tests.reference import losses as reference


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_reference(loss_input: LossInput, gamma: float, temperature: float) -> None:
    batch = replace(loss_input, positives=loss_input.positives[:, :1], score=None)
    e = batch.embeddings.final
    positives, negatives = (
        [[e[i] for i in row if i >= 0] for row in of.tolist()] for of in (batch.positives, batch.negatives)
    )
    each = [reference.infonce(list(e[batch.query]), positives, negatives, temperature, rows=[row]) for row in range(5)]
    ours = InfoNCEFocal(temperature=temperature, mask_equal=False, gamma=gamma)(batch).value
    assert_equal(ours, reference.infonce_focal(each, gamma), batch)


@pytest.mark.parametrize("options", [{}, {"symmetric": True}, {"in_batch": False}])
def test_gamma_of_0_is_infonce(loss_input: LossInput, options: dict) -> None:
    assert_equal(InfoNCEFocal(gamma=0.0, **options)(loss_input).value, InfoNCE(**options)(loss_input).value, loss_input)


@pytest.mark.parametrize("options", [{}, {"symmetric": True}, {"in_batch": False}])
def test_never_above_infonce(loss_input: LossInput, options: dict) -> None:
    batch = replace(loss_input, score=None)
    assert InfoNCEFocal(gamma=2.0, **options)(batch).value < InfoNCEFocal(gamma=1.0, **options)(batch).value
    assert InfoNCEFocal(gamma=1.0, **options)(batch).value < InfoNCE(**options)(batch).value


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_a_pair_that_is_certain_teaches_nothing_and_is_finite(loss_input: LossInput, gamma: float) -> None:
    """A loss of exactly 0, at which the derivative of the weight itself is infinite for gamma below 1."""
    alone = replace(loss_input, negatives=torch.full((5, 1), -1), score=None)
    value = InfoNCEFocal(in_batch=False, gamma=gamma)(alone).value
    assert value == 0
    assert torch.autograd.grad(value, alone.embeddings.final)[0].abs().max() == 0


def test_rows_average_to_the_whole_and_blocks_change_nothing(
    four_rows: LossInput, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, loss = replace(four_rows, score=None), InfoNCEFocal(temperature=0.1)
    parts = [loss(replace(batch, rows=slice(start, start + 2))).value for start in (0, 2)]
    whole = loss(batch).value
    torch.testing.assert_close(sum(parts) / 2, whole, rtol=1e-12, atol=1e-12)
    monkeypatch.setattr(blocks, "MAX_LOGITS", 12)
    assert_equal(loss(batch).value, whole, batch)


def test_refusal() -> None:
    with pytest.raises(ConfigError, match="infonce_focal: gamma must be at least 0, got -1"):
        InfoNCEFocal(gamma=-1.0)
