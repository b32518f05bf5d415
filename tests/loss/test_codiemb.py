"""CoDiEmb's sum against the loops of its terms, its laws and refusals."""

import pytest
import torch

from lightning_embed.errors import ConfigError
from lightning_embed.loss.codiemb import CoDiEmb
from lightning_embed.types import LossInput
from tests.loss.equal import assert_equal, texts
from tests.reference import sts_losses as reference


def _terms(batch: LossInput, temperatures: tuple[float, float, float]) -> dict[str, torch.Tensor]:
    cosine, score = reference.cosines(*texts(batch)), batch.score.tolist()
    middle = batch.embeddings.middle
    return {
        "mid_nce": reference.mid_nce(
            list(middle[batch.query]), list(middle[batch.positives[:, 0]]), score, temperatures[0], 1.0
        ),
        "pearson": reference.pearson(cosine, score, 1e-8),
        "pro": reference.pro(cosine, score, temperatures[1]),
        "rank_kl": reference.rank_kl(cosine, score, temperatures[2], True),
    }


def test_reference(loss_input: LossInput) -> None:
    """papers.md 3.1.3: L_MidNCE + 2 L_Pearson + 0.5 L_PRO + 5 L_RankKL."""
    terms = _terms(loss_input, (0.02, 0.05, 0.05))
    ours = CoDiEmb()(loss_input)
    theirs = terms["mid_nce"] + 2 * terms["pearson"] + 0.5 * terms["pro"] + 5 * terms["rank_kl"]
    assert_equal(ours.value, theirs, loss_input)
    assert ours.logs.keys() == terms.keys()
    for name, log in ours.logs.items():
        assert not log.requires_grad
        torch.testing.assert_close(log, terms[name].detach())


def test_weights_and_temperatures(loss_input: LossInput) -> None:
    loss = CoDiEmb(0.3, 0.4, 0.5, 0.6, mid_nce_temperature=0.1, pro_temperature=0.2, rank_kl_temperature=0.3)
    terms = _terms(loss_input, (0.1, 0.2, 0.3))
    theirs = 0.3 * terms["mid_nce"] + 0.4 * terms["pearson"] + 0.5 * terms["pro"] + 0.6 * terms["rank_kl"]
    assert_equal(loss(loss_input).value, theirs, loss_input)


def test_a_weight_of_zero_leaves_its_term_out(loss_input: LossInput) -> None:
    loss = CoDiEmb(mid_nce_weight=0.0, pro_weight=0.0)
    assert not loss.needs_middle
    assert CoDiEmb().needs_middle
    assert loss(loss_input).logs.keys() == {"pearson", "rank_kl"}


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="pro_weight must be at least 0, got -1"):
        CoDiEmb(pro_weight=-1.0)
    with pytest.raises(ConfigError, match="all weights are 0"):
        CoDiEmb(0.0, 0.0, 0.0, 0.0)
    with pytest.raises(ConfigError, match="rank_kl: temperature must be positive"):
        CoDiEmb(rank_kl_temperature=0.0)
