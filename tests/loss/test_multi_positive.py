"""The sum over positives against loops over sets of texts, against its relatives, its laws and refusals."""

from dataclasses import replace

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from lightning_embed.errors import ConfigError
from lightning_embed.loss import multi_positive
from lightning_embed.loss.blocks import first_equal
from lightning_embed.loss.multi_positive import MultiPositive
from lightning_embed.types import LossInput
from tests.loss.equal import assert_equal
from tests.reference import wrappers as reference


@pytest.fixture
def related(loss_input: LossInput) -> LossInput:
    """No scores; rows 0 and 1 have one query, 2 and 3 share document 8, a negative of 4 is a positive of 3, and texts repeat."""
    hashes = loss_input.hashes.clone()
    hashes[1] = hashes[0]  # the query of row 1 reads the same as that of row 0
    hashes[15] = hashes[4]  # a negative of row 4 reads the same as its query
    positives = torch.tensor([[5, 6], [7, -1], [8, 9], [10, 8], [11, -1]])
    negatives = torch.tensor([[12, 13], [13, -1], [5, 14], [-1, -1], [15, 10]])
    return replace(loss_input, hashes=hashes, positives=positives, negatives=negatives, score=None)


def _parts(batch: LossInput, min_score: float) -> tuple[list, list, list, list]:
    """Queries, positives, negatives, and second texts of pairs whose score is too low."""

    def text(i: int) -> tuple[int, torch.Tensor]:
        return int(batch.hashes[i]), batch.embeddings.final[i]

    positives, negatives = (
        [[text(i) for i in row if i >= 0] for row in index.tolist()] for index in (batch.positives, batch.negatives)
    )
    low = [False] * len(positives) if batch.score is None else (batch.score < min_score).tolist()
    right = [[] if is_low else row for row, is_low in zip(positives, low, strict=True)]
    wrong = [row if is_low else [] for row, is_low in zip(positives, low, strict=True)]
    return [text(i) for i in batch.query.tolist()], right, negatives, wrong


@pytest.mark.parametrize("in_batch", [True, False])
@pytest.mark.parametrize("mined", [True, False])
@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_reference(related: LossInput, temperature: float, mined: bool, in_batch: bool) -> None:
    theirs = reference.multi_positive(*_parts(related, 1.0), temperature, mined, in_batch)
    ours = MultiPositive(temperature, mined, in_batch=in_batch)(related)
    assert_equal(ours.value, theirs, related)
    assert ours.logs["positives"].item() == ((3 + 3 + 3 + 3 + 1) / 5 if mined else (2 + 1 + 2 + 2 + 1) / 5)


@pytest.mark.parametrize("min_score", [1.0, 0.5])
def test_reference_of_scores(loss_input: LossInput, min_score: float) -> None:
    """Row 4 has too low a score, but the query of row 3, and with it a positive; row 0 has none."""
    hashes = loss_input.hashes.clone()
    hashes[4] = hashes[3]
    pairs = replace(loss_input, hashes=hashes, positives=loss_input.positives[:, :1])
    theirs = reference.multi_positive(*_parts(pairs, min_score), 0.1)
    assert_equal(MultiPositive(0.1, min_score=min_score)(pairs).value, theirs, pairs)


def test_no_row_has_a_positive(loss_input: LossInput) -> None:
    value = MultiPositive()(replace(loss_input, score=loss_input.score * 0.9)).value
    assert value == 0
    assert torch.autograd.grad(value, loss_input.embeddings.final)[0].isfinite().all()


def test_parity_sentence_transformers(loss_input: LossInput) -> None:
    """Distinct texts, one positive and one negative: MultipleNegativesRankingLoss."""
    rows = torch.arange(5)
    batch = replace(loss_input, query=rows, positives=rows[:, None] + 5, negatives=rows[:, None] + 10, score=None)
    e = batch.embeddings.final
    theirs = MultipleNegativesRankingLoss(None, scale=20.0).compute_loss_from_embeddings(
        [e[:5], e[5:10], e[10:15]], None
    )
    torch.testing.assert_close(MultiPositive(temperature=0.05)(batch).value, theirs)


def test_copies_of_a_text_count_once(related: LossInput) -> None:
    """As ranks bring them: the same text at another index, with the same embedding."""
    e = torch.cat([related.embeddings.final, related.embeddings.final[[8, 13]]])
    copied = replace(
        related, embeddings=type(related.embeddings)(e), hashes=torch.cat([related.hashes, related.hashes[[8, 13]]]),
        positives=related.positives.clone().index_put((torch.tensor(3), torch.tensor(1)), torch.tensor(17)),
        negatives=related.negatives.clone().index_put((torch.tensor(1), torch.tensor(0)), torch.tensor(18)),
    )  # fmt: skip
    torch.testing.assert_close(MultiPositive()(copied).value, MultiPositive()(related).value)


@pytest.mark.parametrize("options", [{}, {"in_batch": False}, {"mined": False}])
def test_rows_average_to_the_whole(four_rows: LossInput, options: dict) -> None:
    """Two ranks; also where one of them has no row with a positive."""
    for batch in (replace(four_rows, score=None), four_rows):
        loss = MultiPositive(0.1, **options)
        parts = [loss(replace(batch, rows=slice(start, start + 2))).value for start in (0, 2)]
        torch.testing.assert_close(sum(parts) / 2, loss(batch).value, rtol=1e-12, atol=1e-12)


def test_blocks_change_nothing(related: LossInput, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = MultiPositive()(related)
    monkeypatch.setattr(multi_positive, "MAX_LOGITS", 2 * 20)  # two rows of 20 documents
    blocks = MultiPositive()(related)
    assert_equal(blocks.value, whole.value, related)
    assert blocks.logs == whole.logs


def test_first_equal() -> None:
    assert first_equal(torch.tensor([7, -3, 7, 5, -3, 7])).tolist() == [0, 1, 0, 3, 1, 0]


def test_refusal() -> None:
    with pytest.raises(ConfigError, match="multi_positive: temperature must be positive, got 0"):
        MultiPositive(temperature=0.0)
