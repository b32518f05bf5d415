"""Refusal of losses that do not fit the encoder or the rows."""

from collections.abc import Collection, Mapping

import torch

from lightning_embed.data import EmbeddingDataset
from lightning_embed.errors import ConfigError
from lightning_embed.loss import Loss
from lightning_embed.loss.choice import loss_of
from lightning_embed.types import Embeddings, LossInput, Task


def check_rows(
    losses: Mapping[str, Loss],
    data: Mapping[str, EmbeddingDataset],
    mined: Collection[str],
    dim: int,
    scored: bool = False,
    teacher_dim: int | None = None,
) -> None:
    """Refuse losses that do not fit the encoder, and rows that lack the parts that their loss needs.

    Args:
        losses: of the tasks that are trained, and of datasets with one of their own.
        data: the datasets.
        mined: names of those that get mined negatives.
        dim: length of an embedding.
        scored: whether these get a teacher's scores as well.
        teacher_dim: length of a teacher's embedding; None: no loss needs one.

    Raises:
        ConfigError: with the name of the dataset.
    """
    for loss in losses.values():
        loss(_two_rows(dim, teacher_dim))
    for name in mined:
        if data[name].train is None:
            raise ConfigError(f"mining.datasets: {name} has no train rows, for which to mine negatives.")
    for name, dataset in data.items():
        if (rows := dataset.train) is None:
            continue
        task = dataset.options.task
        loss = loss_of(losses, name, task)
        gets_scores = scored and name in mined
        if loss.needs_teacher and not (rows.has_teacher or gets_scores):
            raise ConfigError(
                f"{name}: its loss learns from a teacher, and its rows have no positive_scores and negative_scores. "
                "Add them (mining.scores=cross_encoder writes them), or choose another loss."
            )
        scores = rows.teacher_range if loss.needs_teacher and not gets_scores else None
        if scores is not None and scores[0] == scores[1]:
            raise ConfigError(
                f"{name}: its loss learns from a teacher, whose scores are all {scores[0]:g}: they rank nothing. "
                "Give scores that differ, or choose another loss."
            )
        if not loss.needs_negatives(task):
            continue
        if task in (Task.classification, Task.clustering) and len(rows.label_counts) == 1:
            raise ConfigError(
                f"{name}: its {len(rows):,} train rows have one label, and its loss learns from texts of other labels. "
                "Add rows of other labels, or leave the dataset out."
            )
        if not (rows.has_negatives or (name in mined and rows.options.num_negatives)):
            raise ConfigError(
                f"{name}: its loss compares a row only with its own negatives, and its rows have none. Add negatives "
                "(mining=hard), raise num_negatives, or choose another loss (infonce with in_batch=true)."
            )


def _two_rows(dim: int, teacher_dim: int | None) -> LossInput:
    """The smallest batch that every loss accepts."""
    embeddings, column = torch.eye(6, dim), torch.tensor([[2], [3]])
    scores = torch.tensor([[1.0], [0.0]])
    return LossInput(
        embeddings=Embeddings(embeddings, embeddings),
        hashes=torch.arange(6),
        query=torch.arange(2),
        positives=column,
        negatives=column + 2,
        score=scores[:, 0],
        rows=slice(0, 2),
        positive_scores=scores,
        negative_scores=scores,
        teacher=None if teacher_dim is None else torch.eye(6, teacher_dim),
    )
