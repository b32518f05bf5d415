"""Distillation of embeddings against loops, against sentence-transformers, its laws and refusals."""

from dataclasses import replace

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import EmbedDistillLoss
from torch.nn.functional import normalize

from lightning_embed.errors import ConfigError
from lightning_embed.loss.codiemb import CoDiEmb
from lightning_embed.loss.distill_embeddings import DistillEmbeddings, EmbeddingDistance
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.types import Embeddings, LossInput, Task
from tests.loss.conftest import PER_ROW
from tests.loss.equal import assert_equal
from tests.reference import wrappers as reference

KINDS = list(EmbeddingDistance)
OF_TEXTS = [kind for kind in KINDS if kind is not EmbeddingDistance.kl]


def _alone(kind: EmbeddingDistance, **options: float) -> DistillEmbeddings:
    return DistillEmbeddings(kind=kind, loss_weight=0.0, **options)


def _teacher(texts: int, dim: int) -> torch.Tensor:
    return normalize(torch.randn(texts, dim, generator=torch.Generator().manual_seed(9), dtype=torch.float64), dim=1)


@pytest.fixture
def batch(loss_input: LossInput) -> LossInput:
    """The rows of `loss_input`; the second text of row 2 is its query once more, as in SimCSE."""
    hashes = loss_input.hashes.clone()
    hashes[8] = hashes[2]
    return replace(loss_input, hashes=hashes, teacher=_teacher(17, 8), score=None)


@pytest.mark.parametrize("kind", OF_TEXTS)
def test_reference(batch: LossInput, kind: EmbeddingDistance) -> None:
    e, t = batch.embeddings.final, batch.teacher
    places = torch.cat([batch.query[:, None], batch.positives, batch.negatives], 1).flatten().tolist()
    pairs = [(e[i], t[i]) for i in places if i >= 0]
    assert len(pairs) == 19
    assert_equal(_alone(kind)(batch).value, reference.distill_embeddings(pairs, kind), batch)


@pytest.mark.parametrize(("temperature", "teacher_temperature"), [(0.05, 0.05), (0.5, 0.1)])
def test_reference_kl(batch: LossInput, temperature: float, teacher_temperature: float) -> None:
    batch = replace(batch, teacher=_teacher(17, 5))
    e, t, rows = batch.embeddings.final, batch.teacher, []
    documents = torch.cat([batch.positives, batch.negatives], 1).flatten().tolist()
    for query in batch.query.tolist():
        others = [d for d in documents if d >= 0 and batch.hashes[d] != batch.hashes[query]]
        rows.append([(e[query] @ e[d], float(t[query] @ t[d])) for d in others])
    assert [len(row) for row in rows] == [14, 14, 13, 14, 14]
    theirs = reference.distill_similarities(rows, temperature, teacher_temperature)
    loss = _alone(EmbeddingDistance.kl, temperature=temperature, teacher_temperature=teacher_temperature)
    assert_equal(loss(batch).value, theirs, batch)


@pytest.mark.parametrize("kind", OF_TEXTS)
def test_parity_sentence_transformers(kind: EmbeddingDistance) -> None:
    """Rows of a query, a positive and a negative, in float32."""
    student, teacher = normalize(torch.randn(12, 8), dim=1), normalize(torch.randn(12, 8), dim=1)
    rows = torch.arange(4)
    batch = LossInput(
        embeddings=Embeddings(student), hashes=torch.arange(12), query=rows, positives=rows[:, None] + 4,
        negatives=rows[:, None] + 8, score=None, rows=slice(0, 4), teacher=teacher,
    )  # fmt: skip
    peer = EmbedDistillLoss(None, distance_metric=str(kind))  # type: ignore[arg-type]
    theirs = peer.compute_loss_from_embeddings(list(student.split(4)), list(teacher.split(4)))
    torch.testing.assert_close(_alone(kind)(batch).value, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(batch: LossInput, kind: EmbeddingDistance) -> None:
    def value(final: torch.Tensor) -> torch.Tensor:
        return _alone(kind, temperature=0.3, teacher_temperature=0.3)(
            replace(batch, embeddings=Embeddings(final))
        ).value

    assert torch.autograd.gradcheck(value, batch.embeddings.final)


@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_that_agrees_has_no_loss(batch: LossInput, kind: EmbeddingDistance) -> None:
    agreed = replace(batch, teacher=batch.embeddings.final.detach())
    value = _alone(kind)(agreed).value
    torch.testing.assert_close(value, torch.zeros((), dtype=torch.float64), rtol=0, atol=1e-12)
    assert torch.autograd.grad(value, batch.embeddings.final)[0].isfinite().all()


def test_kl_sees_no_rotation_and_no_length_of_the_teacher(batch: LossInput) -> None:
    turn = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64))[0]
    wider = torch.nn.functional.pad(batch.teacher @ turn, (0, 4))
    ours, turned = (_alone(EmbeddingDistance.kl)(replace(batch, teacher=t)).value for t in (batch.teacher, wider))
    torch.testing.assert_close(ours, turned)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_average_to_the_whole(batch: LossInput, kind: EmbeddingDistance) -> None:
    four = replace(batch, rows=slice(0, 4), **{name: batch.__dict__[name][:4] for name in PER_ROW[:3]})
    parts = [_alone(kind)(replace(four, rows=slice(start, start + 2))).value for start in (0, 2)]
    torch.testing.assert_close(sum(parts) / 2, _alone(kind)(four).value, rtol=1e-12, atol=1e-12)


def test_weights(batch: LossInput) -> None:
    alone, wrapped = _alone(EmbeddingDistance.cosine)(batch).value, InfoNCE()(batch)
    both = DistillEmbeddings(weight=0.3, loss_weight=0.7)(batch)
    torch.testing.assert_close(both.value, 0.3 * alone + 0.7 * wrapped.value)
    torch.testing.assert_close(both.logs["embedding_distillation"], alone.detach())
    assert both.logs.keys() == {"embedding_distillation", *wrapped.logs}


def test_alone_it_serves_all_tasks_and_asks_for_no_labels() -> None:
    alone = DistillEmbeddings(InfoNCE(in_batch=False), loss_weight=0.0)
    assert alone.tasks == frozenset(Task)
    assert not any(alone.needs_negatives(task) for task in Task)
    around = DistillEmbeddings(CoDiEmb())
    assert (around.tasks, around.needs_middle, around.needs_teacher, around.needs_teacher_embeddings) == (
        {Task.sts}, True, False, True,
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_never_waits_for_the_device(batch: LossInput, kind: EmbeddingDistance) -> None:
    meta = {name: value.to("meta") for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    assert DistillEmbeddings(kind=kind)(
        replace(batch, embeddings=Embeddings(batch.embeddings.final.to("meta")), **meta)
    ).value.is_meta


def test_refusals(batch: LossInput) -> None:
    for name in ("weight", "temperature", "teacher_temperature"):
        with pytest.raises(ConfigError, match=f"distill_embeddings: {name} must be positive, got 0"):
            DistillEmbeddings(**{name: 0.0})
    with pytest.raises(ConfigError, match="loss_weight must be at least 0, got -1"):
        DistillEmbeddings(loss_weight=-1.0)
    with pytest.raises(ConfigError, match=r"student has 8 dimensions, the teacher 5\. Set teacher.dim=8"):
        DistillEmbeddings()(replace(batch, teacher=_teacher(17, 5)))
    without = replace(batch, teacher=None)
    torch.testing.assert_close(DistillEmbeddings()(without).value, InfoNCE()(without).value)
    with pytest.raises(ConfigError, match="expected the teacher's embeddings of the texts, got none"):
        _alone(EmbeddingDistance.cosine)(without)
