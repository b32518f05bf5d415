"""CoSENT against loops written from the formula, against sentence-transformers, and its laws and refusals."""

from dataclasses import replace

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import CoSENTLoss

from lightning_embed.errors import ConfigError
from lightning_embed.loss.cosent import CoSENT
from lightning_embed.types import LossInput
from tests.reference import losses as reference


def _texts(batch: LossInput) -> tuple[torch.Tensor, torch.Tensor]:
    return batch.embeddings.final[batch.query], batch.embeddings.final[batch.positives[:, 0]]


def test_reference(loss_input: LossInput) -> None:
    text1, text2 = _texts(loss_input)
    ours = CoSENT(temperature=0.05)(loss_input).value
    theirs = reference.cosent(list(text1), list(text2), loss_input.score.tolist(), 0.05)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(v, loss_input.embeddings.final, retain_graph=True)[0] for v in (ours, theirs)]
    # The slow version divides by norms; along a text's own direction only that one has a gradient.
    tangent = [g - (g * e).sum(1, keepdim=True) * e for g in gradients for e in [loss_input.embeddings.final.detach()]]
    torch.testing.assert_close(*tangent, rtol=1e-10, atol=1e-12)


def test_parity_sentence_transformers(loss_input: LossInput) -> None:
    theirs = CoSENTLoss(None, scale=20.0).compute_loss_from_embeddings(list(_texts(loss_input)), loss_input.score)
    torch.testing.assert_close(CoSENT(temperature=0.05)(loss_input).value, theirs)


def test_positives_stand_above_negatives(loss_input: LossInput) -> None:
    """Rows without a score: every positive of every row is a pair of score 1, every negative one of score 0."""
    embeddings, pairs = loss_input.embeddings.final, []
    for documents, score in ((loss_input.positives, 1.0), (loss_input.negatives, 0.0)):
        pairs += [(q, d, score) for q, row in zip(loss_input.query, documents, strict=True) for d in row if d >= 0]
    query, document, score = zip(*pairs, strict=True)
    assert (score.count(1.0), score.count(0.0)) == (7, 7)
    theirs = reference.cosent([embeddings[q] for q in query], [embeddings[d] for d in document], score, 0.05)
    ours = CoSENT(temperature=0.05)(replace(loss_input, score=None)).value
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_only_the_order_of_scores_counts(loss_input: LossInput) -> None:
    stretched = replace(loss_input, score=loss_input.score**3)
    torch.testing.assert_close(CoSENT()(stretched).value, CoSENT()(loss_input).value)


def test_equal_scores_have_no_loss(loss_input: LossInput) -> None:
    assert CoSENT()(replace(loss_input, score=torch.full_like(loss_input.score, 0.5))).value == 0


def test_refusal() -> None:
    with pytest.raises(ConfigError, match="temperature must be positive, got -1"):
        CoSENT(temperature=-1.0)
