"""InfoNCE at the middle layer against loops, its laws and refusals."""

from dataclasses import replace

import pytest
import torch

from lightning_embed.errors import ConfigError
from lightning_embed.loss.mid_nce import MidNCE
from lightning_embed.types import LossInput
from tests.loss.equal import assert_equal
from tests.reference import sts_losses as reference


def _middle(batch: LossInput) -> tuple[list, list]:
    assert batch.embeddings.middle is not None
    return list(batch.embeddings.middle[batch.query]), list(batch.embeddings.middle[batch.positives[:, 0]])


@pytest.mark.parametrize("min_score", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("temperature", [0.02, 0.5])
def test_reference(loss_input: LossInput, temperature: float, min_score: float) -> None:
    theirs = reference.mid_nce(*_middle(loss_input), loss_input.score.tolist(), temperature, min_score)
    assert_equal(MidNCE(temperature, min_score)(loss_input).value, theirs, loss_input)


def test_reference_without_equal_passages(loss_input: LossInput) -> None:
    """Row 1's passage reads the same as row 0's anchor, row 3's the same as row 2's passage."""
    hashes = loss_input.hashes.clone()
    hashes[7], hashes[10] = hashes[0], hashes[8]
    batch = replace(loss_input, hashes=hashes)
    pairs = {(0, 1), (2, 3), (3, 2)}
    theirs = reference.mid_nce(*_middle(batch), batch.score.tolist(), 0.1, 0.0, lambda i, j: (i, j) in pairs)
    assert_equal(MidNCE(0.1, 0.0, mask_equal=True)(batch).value, theirs, batch)
    assert MidNCE(0.1, 0.0)(batch).value > theirs


def test_no_pair_means_the_same(loss_input: LossInput) -> None:
    assert MidNCE()(replace(loss_input, score=loss_input.score * 0.9)).value == 0


def test_looks_at_the_middle_layer_alone(loss_input: LossInput) -> None:
    value = MidNCE(min_score=0.5)(loss_input).value
    final, middle = torch.autograd.grad(
        value, [loss_input.embeddings.final, loss_input.embeddings.middle], allow_unused=True
    )
    assert MidNCE().needs_middle
    assert final is None
    assert middle.abs().sum() > 0


def test_refusal() -> None:
    with pytest.raises(ConfigError, match="mid_nce: temperature must be positive, got 0"):
        MidNCE(temperature=0.0)
