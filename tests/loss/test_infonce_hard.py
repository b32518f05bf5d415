"""Hardened negatives against loops, against sentence-transformers, its limits and refusals."""

from dataclasses import replace

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from lightning_embed.errors import ConfigError
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.loss.infonce_hard import Hardened, InfoNCEHard
from lightning_embed.types import LossInput
from tests.loss.equal import assert_equal, assert_parity, in_small_blocks, triplets
from tests.reference import losses as reference

THEIRS = {
    Hardened.own: "hard_negatives",
    Hardened.others: "in_batch_negatives",
    Hardened.all: "all_negatives",
}
every_mode = pytest.mark.parametrize("hardened", Hardened)


@every_mode
@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_reference(loss_input: LossInput, hardened: Hardened, temperature: float) -> None:
    """One positive a row, ragged negatives; row 0's positive is a negative of row 2, and stays one of row 0."""
    batch = replace(loss_input, positives=loss_input.positives[:, :1], score=None)
    e = batch.embeddings.final
    positives, negatives = (
        [[e[i] for i in row if i >= 0] for row in of.tolist()] for of in (batch.positives, batch.negatives)
    )
    theirs = reference.infonce_hard(list(e[batch.query]), positives, negatives, temperature, 5.0, hardened)
    loss = InfoNCEHard(temperature=temperature, mask_equal=False, hardened=hardened)
    assert_equal(loss(batch).value, theirs, batch)


@every_mode
@pytest.mark.parametrize("symmetric", [False, True])
def test_parity_sentence_transformers(loss_input: LossInput, hardened: Hardened, symmetric: bool) -> None:
    batch, columns = triplets(loss_input)
    directions = ("query_to_doc", "doc_to_query") if symmetric else ("query_to_doc",)
    peer = MultipleNegativesRankingLoss(
        None, directions=directions, partition_mode="per_direction", hardness_mode=THEIRS[hardened], hardness_strength=5.0  # type: ignore[arg-type]
    )  # fmt: skip
    ours = InfoNCEHard(temperature=0.05, symmetric=symmetric, hardened=hardened, strength=5.0)(batch).value
    assert_parity(ours, peer.compute_loss_from_embeddings(columns, None), batch.embeddings.final)


@pytest.mark.parametrize("hardened", [Hardened.own, Hardened.all])
def test_rows_without_in_batch_negatives(loss_input: LossInput, hardened: Hardened) -> None:
    """All of their negatives are their own: each has its weight."""
    batch, (query, positive, negative) = triplets(loss_input)
    logits = torch.stack([(query * text).sum(1) for text in (positive, negative)], 1)
    weight = torch.stack([torch.zeros(5), 3.0 * logits[:, 1].detach()], 1)
    theirs = torch.nn.functional.cross_entropy(logits / 0.1 + weight, torch.zeros(5, dtype=torch.int64))
    assert_equal(InfoNCEHard(0.1, in_batch=False, hardened=hardened, strength=3.0)(batch).value, theirs, batch)


@every_mode
@pytest.mark.parametrize("options", [{}, {"symmetric": True}, {"margin": 0.1}])
def test_no_strength_is_infonce(loss_input: LossInput, hardened: Hardened, options: dict) -> None:
    ours = InfoNCEHard(hardened=hardened, strength=0.0, **options)(loss_input)
    theirs = InfoNCE(**options)(loss_input)
    assert_equal(ours.value, theirs.value, loss_input)
    assert ours.logs == theirs.logs


@every_mode
def test_blocks_change_nothing(loss_input: LossInput, hardened: Hardened, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = InfoNCEHard(temperature=0.1, margin=0.5, hardened=hardened)
    whole = loss(loss_input).value
    assert_equal(in_small_blocks(loss, loss_input, monkeypatch).value, whole, loss_input)


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="infonce_hard: strength must be at least 0, got -1"):
        InfoNCEHard(strength=-1.0)
    with pytest.raises(ConfigError, match=r"hardened=others needs documents of other rows: set in_batch=true"):
        InfoNCEHard(hardened=Hardened.others, in_batch=False)
