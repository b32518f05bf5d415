"""Distillation against loops, against sentence-transformers, its laws and refusals."""

from dataclasses import replace

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss, MarginMSELoss

from lightning_embed.errors import ConfigError
from lightning_embed.loss.distill import Distill, DistillKind
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.loss.pearson import Pearson
from lightning_embed.types import Embeddings, LossInput, Task
from tests.loss.equal import assert_equal
from tests.reference import wrappers as reference


def _scored(batch: LossInput) -> list[list[tuple[bool, torch.Tensor, float]]]:
    """Of every row: (is a positive, similarity, teacher's score) of the documents with a score."""
    e, rows = batch.embeddings.final, []
    for i, query in enumerate(batch.query.tolist()):
        documents = []
        for positive, index, score in (
            (True, batch.positives, batch.positive_scores),
            (False, batch.negatives, batch.negative_scores),
        ):
            documents += [
                (positive, e[query] @ e[d], t)
                for d, t in zip(index[i].tolist(), score[i].tolist(), strict=True)
                if t == t  # not NaN
            ]
        rows.append(documents)
    return rows


@pytest.mark.parametrize(("temperature", "teacher_temperature"), [(0.05, 1.0), (0.5, 2.0)])
def test_reference_kl(taught_input: LossInput, temperature: float, teacher_temperature: float) -> None:
    rows = _scored(taught_input)
    student, teacher = [[s for _, s, _ in row] for row in rows], [[t for _, _, t in row] for row in rows]
    theirs = reference.distill_kl(student, teacher, temperature, teacher_temperature)
    loss = Distill(loss_weight=0.0, temperature=temperature, teacher_temperature=teacher_temperature)
    assert_equal(loss(taught_input).value, theirs, taught_input)


@pytest.mark.parametrize("teacher_temperature", [1.0, 5.0])
def test_reference_margin_mse(taught_input: LossInput, teacher_temperature: float) -> None:
    pairs = [
        (s, other, t / teacher_temperature, t_other / teacher_temperature)
        for row in _scored(taught_input)
        for positive, s, t in row
        for is_positive, other, t_other in row
        if positive and not is_positive
    ]
    assert len(pairs) == 9
    loss = Distill(kind=DistillKind.margin_mse, loss_weight=0.0, teacher_temperature=teacher_temperature)
    assert_equal(loss(taught_input).value, reference.distill_margin_mse(pairs), taught_input)


@pytest.mark.parametrize("kind", list(DistillKind))
def test_parity_sentence_transformers(loss_input: LossInput, kind: DistillKind) -> None:
    """A positive and two negatives with scores each."""
    rows, score = torch.arange(4), torch.rand(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    batch = replace(
        loss_input, query=rows, positives=rows[:, None] + 4, negatives=torch.stack([rows + 8, rows + 12], 1), score=None,
        rows=slice(0, 4), positive_scores=score[:, :1], negative_scores=score[:, 1:],
    )  # fmt: skip
    columns = list(batch.embeddings.final[:16].split(4))
    ours = Distill(kind=kind, loss_weight=0.0, temperature=0.1, teacher_temperature=1.0)(batch).value
    if kind == DistillKind.kl:
        peer = DistillKLDivLoss(None, student_temperature=0.1, teacher_temperature=1.0)  # type: ignore[arg-type]
        theirs = peer.compute_loss_from_embeddings(columns, score) / 0.1**2  # it scales by the squared temperature
    else:
        theirs = MarginMSELoss(None).compute_loss_from_embeddings(columns, score)
    torch.testing.assert_close(ours, theirs)


def test_a_teacher_that_agrees_has_no_loss(taught_input: LossInput) -> None:
    e, query = taught_input.embeddings.final.detach(), taught_input.query
    agreed = replace(
        taught_input,
        positive_scores=(e[query][:, None] * e[taught_input.positives]).sum(2).where(taught_input.positives >= 0, torch.nan),
        negative_scores=(e[query][:, None] * e[taught_input.negatives]).sum(2).where(taught_input.negatives >= 0, torch.nan),
    )  # fmt: skip
    for loss in (
        Distill(kind=DistillKind.margin_mse, loss_weight=0.0),
        Distill(loss_weight=0.0, temperature=0.05, teacher_temperature=0.05),
    ):
        torch.testing.assert_close(loss(agreed).value, torch.zeros((), dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", list(DistillKind))
def test_rows_average_to_the_whole(four_rows: LossInput, kind: DistillKind) -> None:
    loss = Distill(kind=kind)
    parts = [loss(replace(four_rows, rows=slice(start, start + 2))).value for start in (0, 2)]
    torch.testing.assert_close(sum(parts) / 2, loss(four_rows).value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", list(DistillKind))
def test_rows_without_scores(taught_input: LossInput, kind: DistillKind) -> None:
    """Nothing scored is no loss, and no NaN in the gradient; positives alone can be distilled by kl."""
    nothing = torch.full((5, 2), torch.nan, dtype=torch.float64)
    batch = replace(taught_input, positive_scores=nothing, negative_scores=None)
    value = Distill(kind=kind, loss_weight=0.0)(batch).value
    assert value == 0
    assert torch.autograd.grad(value, batch.embeddings.final)[0].isfinite().all()
    without = Distill(kind=kind, loss_weight=0.0)(replace(taught_input, negative_scores=None)).value
    assert (without > 0) == (kind == DistillKind.kl)


def test_weights(taught_input: LossInput) -> None:
    alone, wrapped = Distill(loss_weight=0.0)(taught_input).value, InfoNCE()(taught_input)
    both = Distill(weight=0.3, loss_weight=0.7)(taught_input)
    torch.testing.assert_close(both.value, 0.3 * alone + 0.7 * wrapped.value)
    torch.testing.assert_close(both.logs["distillation"], alone.detach())
    assert both.logs.keys() == {"distillation", *wrapped.logs}


def test_answers_for_the_wrapped_loss() -> None:
    loss = Distill(InfoNCE(cross_device=False))
    assert (loss.tasks, loss.cross_device, loss.needs_middle, loss.needs_teacher) == (
        {Task.retrieval}, False, False, True,
    )  # fmt: skip


def test_refusals(loss_input: LossInput) -> None:
    for name in ("weight", "temperature", "teacher_temperature"):
        with pytest.raises(ConfigError, match=f"distill: {name} must be positive, got 0"):
            Distill(**{name: 0.0})
    with pytest.raises(ConfigError, match="loss_weight must be at least 0, got -1"):
        Distill(loss_weight=-1.0)
    with pytest.raises(ConfigError, match="only retrieval rows hold a teacher's scores, and Pearson serves sts"):
        Distill(Pearson())


def test_rows_without_a_teacher_have_the_wrapped_loss_alone(loss_input: LossInput) -> None:
    torch.testing.assert_close(Distill()(loss_input).value, InfoNCE()(loss_input).value)


@pytest.mark.parametrize("kind", list(DistillKind))
def test_never_waits_for_the_device(taught_input: LossInput, kind: DistillKind) -> None:
    """On tensors without content, what would copy a value to the host raises."""
    meta = {name: value.to("meta") for name, value in vars(taught_input).items() if isinstance(value, torch.Tensor)}
    batch = replace(taught_input, embeddings=Embeddings(taught_input.embeddings.final.to("meta")), **meta)
    assert Distill(kind=kind)(batch).value.is_meta
