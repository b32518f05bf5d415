"""CosineMSE against a loop, against sentence-transformers, and its law."""

from dataclasses import replace

import torch
from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

from lightning_embed.loss.cosine_mse import CosineMSE
from lightning_embed.types import LossInput
from tests.loss.equal import assert_equal, texts
from tests.reference import sts_losses as reference


def test_reference(loss_input: LossInput) -> None:
    theirs = reference.cosine_mse(reference.cosines(*texts(loss_input)), loss_input.score.tolist())
    assert_equal(CosineMSE()(loss_input).value, theirs, loss_input)


def test_parity_sentence_transformers(loss_input: LossInput) -> None:
    pair = [torch.stack(side).float() for side in texts(loss_input)]  # it casts scores to float32
    theirs = CosineSimilarityLoss(None).compute_loss_from_embeddings(pair, loss_input.score)
    torch.testing.assert_close(CosineMSE()(loss_input).value.float(), theirs)


def test_rows_average_to_the_whole(four_rows: LossInput) -> None:
    parts = [CosineMSE()(replace(four_rows, rows=slice(start, start + 2))).value for start in (0, 2)]
    torch.testing.assert_close(sum(parts) / 2, CosineMSE()(four_rows).value, rtol=1e-12, atol=1e-12)
