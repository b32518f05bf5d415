"""InfoNCE against loops written from the paper, and its laws and refusals."""

from dataclasses import replace

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from lightning_embed.errors import ConfigError
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.types import Embeddings, LossInput, Task
from tests.loss.equal import in_small_blocks
from tests.reference import losses as reference


@pytest.fixture
def loss_input(loss_input: LossInput) -> LossInput:
    """Of retrieval: without scores."""
    return replace(loss_input, score=None)


def _parts(batch: LossInput) -> tuple[list, list, list]:
    e = batch.embeddings.final
    ragged = [[[e[i] for i in row if i >= 0] for row in index.tolist()] for index in (batch.positives, batch.negatives)]
    return [e[i] for i in batch.query], *ragged


def _reads_like(batch: LossInput):
    def same(row: int, document: tuple[int, str, int], slot: int = 0) -> bool:
        j, role, k = document
        index = (batch.positives if role == "p" else batch.negatives)[j, k]
        own = [batch.query[row], *batch.positives[row][batch.positives[row] >= 0]]
        return any(batch.hashes[index] == batch.hashes[o] for o in own)

    return same


@pytest.mark.parametrize("in_batch", [True, False])
@pytest.mark.parametrize("temperature", [0.02, 0.5])
def test_reference(loss_input: LossInput, in_batch: bool, temperature: float) -> None:
    ours = InfoNCE(temperature=temperature, in_batch=in_batch)(loss_input).value
    theirs = reference.infonce(*_parts(loss_input), temperature, in_batch, _reads_like(loss_input))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(v, loss_input.embeddings.final)[0] for v in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("in_batch", [True, False])
@pytest.mark.parametrize("margin", [None, 0.2])
def test_reference_with_equal_texts_as_negatives(loss_input: LossInput, in_batch: bool, margin: float | None) -> None:
    """The papers' code: row 0's positive is row 2's negative and stays a negative of row 0; a query and a document of other rows too."""
    hashes = loss_input.hashes.clone()
    hashes[7], hashes[16] = hashes[0], hashes[11]
    batch = replace(loss_input, hashes=hashes)
    query, positives, negatives = _parts(batch)

    def beyond(row: int, document: tuple[int, str, int], slot: int) -> bool:
        j, role, k = document
        candidate = (positives if role == "p" else negatives)[j][k]
        return margin is not None and bool(query[row] @ candidate > query[row] @ positives[row][slot] + margin)

    loss = InfoNCE(temperature=0.1, in_batch=in_batch, margin=margin, mask_equal=False)
    ours = loss(batch)
    theirs = reference.infonce(query, positives, negatives, 0.1, in_batch, beyond)
    torch.testing.assert_close(ours.value, theirs, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(v, batch.embeddings.final)[0] for v in (ours.value, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)
    masked = replace(loss, mask_equal=True)(batch)
    assert ours.value > masked.value
    assert ours.logs["masked"] < masked.logs["masked"]
    assert margin is not None or ours.logs["masked"] == 0


def test_reference_symmetric_with_equal_texts_as_negatives(loss_input: LossInput) -> None:
    batch = replace(loss_input, positives=torch.tensor([[5, 6], [7, -1], [8, 9], [5, 10], [11, -1]]))
    query, positives, negatives = _parts(batch)
    theirs = reference.infonce(query, positives, negatives, 0.05), reference.infonce_to_queries(query, positives, 0.05)
    ours = InfoNCE(temperature=0.05, symmetric=True, mask_equal=False)(batch).value
    torch.testing.assert_close(ours, sum(theirs) / 2, rtol=1e-12, atol=1e-12)


def test_repeated_negatives_count_as_often_as_they_stand(loss_input: LossInput) -> None:
    """`pad: repeat`: negative 13 of row 1 stands twice, in every sum."""
    negatives = torch.tensor([[12, 13], [13, 13], [5, 14], [-1, -1], [15, 16]])
    batch = replace(loss_input, negatives=negatives)
    ours = InfoNCE(temperature=0.1, mask_equal=False)(batch).value
    theirs = reference.infonce(*_parts(batch), 0.1)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert ours > InfoNCE(temperature=0.1, mask_equal=False)(loss_input).value


def test_reference_symmetric(loss_input: LossInput) -> None:
    """Row 3 has row 0's first document too: its query is a right answer to it, not a negative."""
    batch = replace(loss_input, positives=torch.tensor([[5, 6], [7, -1], [8, 9], [5, 10], [11, -1]]))
    query, positives, negatives = _parts(batch)

    def right(row: int, slot: int, other: int) -> bool:
        return int(batch.positives[row, slot]) in batch.positives[other].tolist()

    to_documents = reference.infonce(query, positives, negatives, 0.05, True, _reads_like(batch))
    to_queries = reference.infonce_to_queries(query, positives, 0.05, right)
    assert to_queries < reference.infonce_to_queries(query, positives, 0.05)
    ours = InfoNCE(temperature=0.05, symmetric=True)(batch).value
    torch.testing.assert_close(ours, (to_documents + to_queries) / 2, rtol=1e-12, atol=1e-12)


def test_repeated_document_is_no_negative(loss_input: LossInput) -> None:
    """Row 2's hard negative is row 0's positive: masked for row 0, which without the mask would be pushed away from it."""
    masked = InfoNCE()(loss_input)
    fresh = replace(loss_input, negatives=torch.where(loss_input.negatives == 5, -1, loss_input.negatives))
    row = replace(loss_input, rows=slice(0, 1)), replace(fresh, rows=slice(0, 1))
    torch.testing.assert_close(*(InfoNCE()(batch).value for batch in row))
    assert masked.logs["masked"] > 0
    assert InfoNCE()(fresh).logs["masked"] == 0


@pytest.mark.parametrize(
    "options",
    [{}, {"in_batch": False}, {"symmetric": True}, {"mask_equal": False}, {"mask_equal": False, "symmetric": True}],
)
def test_rows_average_to_the_whole(loss_input: LossInput, options: dict) -> None:
    """What ranks compute for their rows averages to the loss of the global batch."""
    loss = InfoNCE(temperature=0.1, **options)
    batch = replace(
        loss_input, query=loss_input.query[:4], positives=loss_input.positives[:4], negatives=loss_input.negatives[:4],
        score=None, rows=slice(0, 4),
    )  # fmt: skip
    parts = [loss(replace(batch, rows=slice(start, start + 2))).value for start in (0, 2)]
    torch.testing.assert_close(sum(parts) / 2, loss(batch).value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("symmetric", [False, True])
def test_parity_sentence_transformers(symmetric: bool) -> None:
    """Distinct texts, one positive and one negative: MultipleNegativesRankingLoss."""
    e = torch.nn.functional.normalize(
        torch.randn(12, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), dim=1
    )
    batch = LossInput(
        embeddings=Embeddings(e),
        hashes=torch.arange(12), query=torch.arange(4), positives=torch.arange(4, 8)[:, None],
        negatives=torch.arange(8, 12)[:, None], score=None, rows=slice(0, 4),
    )  # fmt: skip
    directions = ("query_to_doc", "doc_to_query") if symmetric else ("query_to_doc",)
    peer = MultipleNegativesRankingLoss(None, scale=20.0, directions=directions, partition_mode="per_direction")  # type: ignore[arg-type]
    theirs = peer.compute_loss_from_embeddings([e[:4], e[4:8], e[8:]], None)
    torch.testing.assert_close(InfoNCE(temperature=0.05, symmetric=symmetric)(batch).value, theirs)


@pytest.mark.parametrize(
    "options", [{}, {"symmetric": True}, {"margin": 0.1, "symmetric": True}, {"mask_equal": False}]
)
def test_blocks_change_nothing(loss_input: LossInput, options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """Value, gradient and masked count are those of the whole matrix, of which never more than a block is kept."""
    loss = InfoNCE(temperature=0.1, **options)
    whole = loss(loss_input)
    gradient = torch.autograd.grad(whole.value, loss_input.embeddings.final)[0]
    parts = in_small_blocks(loss, loss_input, monkeypatch)
    torch.testing.assert_close(parts.value, whole.value, rtol=1e-12, atol=1e-12)
    assert parts.logs["masked"] == whole.logs["masked"]
    ours = torch.autograd.grad(parts.value, loss_input.embeddings.final)[0]
    torch.testing.assert_close(ours, gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("in_batch", [True, False])
def test_margin(loss_input: LossInput, in_batch: bool) -> None:
    """Candidates that are more similar than the positive by over 0.2 are left out, by loops; the others stay."""
    query, positives, negatives = _parts(loss_input)
    reads_like = _reads_like(loss_input)

    def out(row: int, document: tuple[int, str, int], slot: int) -> bool:
        j, role, k = document
        candidate = (positives if role == "p" else negatives)[j][k]
        beyond = query[row] @ candidate > query[row] @ positives[row][slot] + 0.2
        return reads_like(row, document) or bool(beyond)

    ours = InfoNCE(temperature=0.1, in_batch=in_batch, margin=0.2)(loss_input)
    theirs = reference.infonce(query, positives, negatives, 0.1, in_batch, out)
    torch.testing.assert_close(ours.value, theirs, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(v, loss_input.embeddings.final)[0] for v in (ours.value, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)
    assert ours.logs["masked"] > InfoNCE(temperature=0.1, in_batch=in_batch)(loss_input).logs["masked"]


def test_only_pairs_that_mean_the_same_are_positives(loss_input: LossInput) -> None:
    """Of STS pairs; the documents of the others are still negatives."""
    score = torch.tensor([1.0, 0.2, 0.8, 0.0, 1.0], dtype=torch.float64)
    query, positives, negatives = _parts(loss_input)
    one_by_one = [
        reference.infonce(query, positives, negatives, 0.05, True, _reads_like(loss_input), rows=[row])
        for row in (0, 2, 4)
    ]
    slots = [len(positives[row]) for row in (0, 2, 4)]
    expected = sum(loss * n for loss, n in zip(one_by_one, slots, strict=True)) / sum(slots)
    ours = InfoNCE(temperature=0.05, min_score=0.5)(replace(loss_input, score=score)).value
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_labels_have_no_in_batch_negatives() -> None:
    assert Task.classification not in InfoNCE().tasks
    assert Task.classification in InfoNCE(in_batch=False).tasks


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="temperature must be positive, got 0"):
        InfoNCE(temperature=0.0)
    with pytest.raises(ConfigError, match=r"margin must be in \[0, 2\] or null, got -0\.1"):
        InfoNCE(margin=-0.1)
    with pytest.raises(ConfigError, match="in_batch=true"):
        InfoNCE(symmetric=True, in_batch=False)
