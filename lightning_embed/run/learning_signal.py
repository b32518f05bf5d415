"""Learning signal: whether the rows of a dataset can teach anything, measured on batches as training makes them.

A row teaches if its loss has a gradient at its query (of an STS pair: at either text). The embeddings are random and near
each other, so that the measure depends on the rows and the loss only, of any loss: equal texts, missing negatives, equal
scores. A text that gets a gradient through rounding alone is told apart by a reference: the same batch, as if all of its
texts were distinct.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from lightning_embed.data.collator import Collator, PlannedRows, RowPrompts
from lightning_embed.data.row_groups import Group, Rows
from lightning_embed.loss import Loss
from lightning_embed.runtime.permutation import Permutation
from lightning_embed.runtime.seeding import derive_seed
from lightning_embed.sampler import BatchPlan
from lightning_embed.training.gather import local
from lightning_embed.types import Batch, Embeddings, LossInput, Tokens

ROWS = 512
"""Rows to look at, in whole batches; of a larger batch, its first rows."""
_ROUNDING = 1e-5  # of the gradient of the reference


@dataclass(frozen=True)
class Signal:
    """What was found in the rows that were looked at.

    Args:
        rows: number of rows.
        silent: rows without a gradient.
        equal_texts: of them, those that would have a gradient if all texts of their batch were distinct.
        own_positives: rows whose query is one of their positives, with the same prompt.
        one_query: whether all queries are equal, their prompts included.
    """

    rows: int
    silent: int
    equal_texts: int
    own_positives: int
    one_query: bool


def measure(
    rows: Rows, loss: Loss, batch_rows: int, prompts: RowPrompts, dim: int, seed: int, most: int = ROWS
) -> Signal:
    """Measure the signal of rows on their first batches.

    Args:
        rows: train rows of a dataset, at least one batch.
        loss: loss of its task.
        batch_rows: rows that the loss compares with each other.
        prompts: prompts of the dataset.
        dim: length of an embedding.
        seed: of the order of rows and the drawn texts.
        most: number of rows to look at, in whole batches, at least one.
    """
    loss = loss.signal
    silent, reference, own, queries = [], [], 0, set[tuple[str, str]]()
    for groups, batch in _batches(rows, batch_rows, prompts, seed, most):
        given = replace(
            local(batch, _random(len(batch.hashes), dim)),
            rows=slice(0, min(batch_rows, ROWS)),
            teacher=_teacher(len(batch.hashes), dim),
        )
        expected = _gradients(loss, _apart(given, dim))
        threshold = _ROUNDING * expected.max()
        silent.append(_gradients(loss, given) <= threshold)
        reference.append(expected > threshold)
        own += sum(_is_own_positive(group, prompts) for group in groups[given.rows])
        queries |= {(prompts.of_query(group), group.query) for group in groups[given.rows]}
    nothing, could = torch.cat(silent), torch.cat(reference)
    return Signal(len(nothing), int(nothing.sum()), int((nothing & could).sum()), own, len(queries) == 1)


def _is_own_positive(group: Group, prompts: RowPrompts) -> bool:
    """Whether the query is one of its positives, behind the same prompt."""
    own = prompts.of_documents(group.positive_prompts, len(group.positives))
    return group.score is None and (prompts.of_query(group), group.query) in zip(own, group.positives, strict=True)


def _batches(
    rows: Rows, size: int, prompts: RowPrompts, seed: int, most: int
) -> Iterator[tuple[Sequence[Group], Batch]]:
    """The first batches of an order of all rows, without tokens, and their rows."""
    planned, collate = (
        PlannedRows({rows.name: rows}, seed),
        Collator({rows.name: rows}, _no_tokens, {rows.name: prompts}),
    )
    order = Permutation(len(rows), derive_seed(seed, "signal", rows.name))
    for start in range(0, max(1, min(len(rows), most) // size) * size, size):
        chosen = order.first(min(size, len(rows) - start), start)
        step = planned[BatchPlan(rows.name, torch.from_numpy(chosen))]
        (batch,) = collate([step])
        yield step.groups, batch


def _no_tokens(
    texts: Sequence[str], prompt: str | Sequence[str] = "", max_length: int | Sequence[int | None] | None = None
) -> Tokens:
    del prompt, max_length
    return Tokens.of([[]] * len(texts))


def _random(count: int, dim: int) -> Embeddings:
    """Unit vectors with cosines near 0.9: no loss saturates, and no candidate is beyond a margin."""
    noise = torch.randn(count, dim, generator=torch.Generator().manual_seed(0)) / dim**0.5
    final = normalize(noise + 3 / dim**0.5, dim=1).requires_grad_()
    return Embeddings(final, final)


def _teacher(count: int, dim: int) -> Float[Tensor, "count dim"]:
    """Any teacher of these texts, for losses that learn from one."""
    return normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(1)), dim=1)


def _apart(batch: LossInput, dim: int) -> LossInput:
    """The same rows, with a text of its own at every place."""
    index = torch.cat([batch.query[:, None], batch.positives, batch.negatives], 1)
    exists = index >= 0
    new = torch.where(exists, exists.flatten().cumsum(0).view_as(index) - 1, -1)
    count, slots = int(exists.sum()), 1 + batch.positives.shape[1]
    return replace(
        batch, embeddings=_random(count, dim), hashes=torch.arange(count), teacher=_teacher(count, dim),
        query=new[:, 0], positives=new[:, 1:slots], negatives=new[:, slots:],
    )  # fmt: skip


def _gradients(loss: Loss, batch: LossInput) -> Float[Tensor, " rows"]:
    """Norm of the gradient at the query of each of `batch.rows`, or at either text of an STS pair.

    The radial part of a gradient does not count: embeddings are normalised.
    """
    final, value = batch.embeddings.final, loss(batch).value
    if not value.requires_grad:
        return torch.zeros(len(batch.query[batch.rows]))
    gradient = torch.autograd.grad(value, final)[0]
    norms: Tensor = (gradient - (gradient * final).sum(1, keepdim=True) * final).norm(dim=1).detach()
    query, other = batch.query[batch.rows], batch.positives[batch.rows, 0]
    if batch.score is None:
        return norms[query]
    either = torch.maximum(norms[query], norms[other])
    return either.masked_fill(query == other, 0)
