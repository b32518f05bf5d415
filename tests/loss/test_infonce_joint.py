"""Joint denominators against loops, against sentence-transformers, their laws and refusals."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from lightning_embed.errors import ConfigError
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.loss.infonce_joint import InfoNCEJoint
from lightning_embed.types import LossInput
from tests.loss.equal import assert_equal, assert_parity, in_small_blocks, triplets
from tests.reference import losses as reference

TERMS = {"query_query": "query_to_query", "document_query": "doc_to_query", "document_document": "doc_to_doc"}
CHOICES = [dict(zip(TERMS, on, strict=True)) for on in product([True, False], repeat=3)]
every_choice = pytest.mark.parametrize("terms", CHOICES, ids=lambda terms: ",".join(t for t in terms if terms[t]))


@pytest.fixture
def related(loss_input: LossInput) -> LossInput:
    """Texts that are no negatives: a query in two rows, a positive of two rows, a negative equal to a query."""
    hashes = loss_input.hashes.clone()
    hashes[4], hashes[16] = hashes[1], hashes[0]
    positives = torch.tensor([[5, 6], [7, -1], [8, 9], [5, 10], [11, -1]])
    return replace(loss_input, hashes=hashes, positives=positives, score=None)


@every_choice
@pytest.mark.parametrize(("mask_equal", "margin"), [(True, None), (True, 0.1), (False, None), (False, 0.1)])
def test_reference(related: LossInput, terms: dict[str, bool], mask_equal: bool, margin: float | None) -> None:
    e, hashes = related.embeddings.final, related.hashes.tolist()
    query, slots = related.query.tolist(), [[i for i in row if i >= 0] for row in related.positives.tolist()]
    negatives = [[e[i] for i in row if i >= 0] for row in related.negatives.tolist()]
    place = {row.data_ptr(): i for i, row in enumerate(e)}

    def left_out(i: int, p: int, what: str, text: torch.Tensor, excess: torch.Tensor) -> bool:
        own = [hashes[query[i]], *(hashes[d] for d in slots[i])]
        reads = hashes[place[text.data_ptr()]]
        answered = what == "query" and any(
            hashes[slots[i][p]] in [hashes[query[j]], *(hashes[d] for d in slots[j])]
            for j in range(5)
            if query[j] == place[text.data_ptr()]
        )
        return (mask_equal and (reads in own or answered)) or (margin is not None and bool(excess > margin))

    theirs = reference.infonce_joint(
        [e[i] for i in query], [[e[i] for i in row] for row in slots], negatives, 0.1,
        [term for term, on in terms.items() if on], left_out,
    )  # fmt: skip
    ours = InfoNCEJoint(temperature=0.1, mask_equal=mask_equal, margin=margin, **terms)(related).value
    assert_equal(ours, theirs, related)


@every_choice
@pytest.mark.parametrize("negatives", [0, 1, 2])
def test_parity_sentence_transformers(loss_input: LossInput, terms: dict[str, bool], negatives: int) -> None:
    batch, columns = triplets(loss_input, negatives)
    directions = ("query_to_doc", *(TERMS[term] for term, on in terms.items() if on))
    peer = MultipleNegativesRankingLoss(None, directions=directions, partition_mode="joint")  # type: ignore[arg-type]
    ours = InfoNCEJoint(temperature=0.05, **terms)(batch).value
    assert_parity(ours, peer.compute_loss_from_embeddings(columns, None), batch.embeddings.final)


def test_gradcheck(related: LossInput) -> None:
    def value(embeddings: torch.Tensor) -> torch.Tensor:
        return InfoNCEJoint(temperature=0.5)(
            replace(related, embeddings=replace(related.embeddings, final=embeddings))
        ).value

    assert torch.autograd.gradcheck(value, related.embeddings.final, fast_mode=True)


def test_without_terms_it_is_infonce(related: LossInput) -> None:
    nothing = dict.fromkeys(TERMS, False)
    for options in ({}, {"symmetric": True, "margin": 0.1}):
        ours, theirs = InfoNCEJoint(**options, **nothing)(related), InfoNCE(**options)(related)
        assert_equal(ours.value, theirs.value, related)
        assert ours.logs == theirs.logs


@pytest.mark.parametrize("options", [{}, {"margin": 0.1, "document_query": False}, {"mask_equal": False}])
def test_blocks_change_nothing(related: LossInput, options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of no sum is more than a block kept."""
    loss = InfoNCEJoint(temperature=0.1, **options)
    whole = loss(related).value
    parts = in_small_blocks(loss, related, monkeypatch).value
    assert_equal(parts, whole, related)


def test_rows_average_to_the_whole(four_rows: LossInput) -> None:
    batch, loss = replace(four_rows, score=None), InfoNCEJoint(temperature=0.1)
    parts = [loss(replace(batch, rows=slice(start, start + 2))).value for start in (0, 2)]
    torch.testing.assert_close(sum(parts) / 2, loss(batch).value, rtol=1e-12, atol=1e-12)


def test_refusal() -> None:
    with pytest.raises(ConfigError, match=r"infonce_joint: .* set in_batch=true, or take infonce_grouped"):
        InfoNCEJoint(in_batch=False)
