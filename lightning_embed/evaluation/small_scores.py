"""Scores of the small vectors of a model on a local set: embeddings are computed once and scored in every form."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from mteb.types import PromptType
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_embed.errors import DataError
from lightning_embed.evaluation import score_task
from lightning_embed.evaluation.base import TextEncoder
from lightning_embed.evaluation.local_tasks import to_task
from lightning_embed.evaluation.metrics import Metric
from lightning_embed.evaluation.mteb_encoder import MtebEncoder
from lightning_embed.evaluation.small_vectors import Form, shrink
from lightning_embed.types import EvalSet, Score

logger = logging.getLogger(__name__)


def run(encoder: TextEncoder, eval_set: EvalSet, metrics: Sequence[Metric], forms: Sequence[Form]) -> Score:
    """Score `encoder` on a local set, and by its main metric each form of its embeddings.

    Forms that are no shorter than the embeddings are left out. So is, with a warning, one whose score is undefined.

    Raises:
        DataError: the score of the whole embeddings is undefined.
    """
    task = to_task(eval_set, metrics)
    if not forms:
        return score_task.run(encoder, task, eval_set.in_domain, metrics)
    model = _Remembering(encoder, task)
    score = score_task.score_of(model, task, eval_set.in_domain, metrics)
    documents = model.documents
    small = {}
    for form in forms:
        if not form.fits(documents.shape[1]):
            continue
        try:
            shrunk = _Shrunk(model, form, documents)
            small[form.word] = score_task.score_of(
                shrunk, to_task(eval_set, metrics[:1]), eval_set.in_domain, metrics[:1]
            )["score"]
        except DataError as error:
            logger.warning("%s vectors have no score: %s", form.word, error)
    return score | Score(small=small) if small else score  # type: ignore[typeddict-item]


class _Remembering(MtebEncoder):
    """Keeps all embeddings of one task in memory, so that each text is encoded once."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._known: dict[tuple[PromptType | None, tuple[str, ...]], Tensor] = {}

    @property
    def documents(self) -> Float[np.ndarray, "documents dim"]:
        """The embeddings of all documents; where a task has none, of all its texts."""
        of_documents = [found for (role, _), found in self._known.items() if role is PromptType.document]
        return torch.cat(of_documents or list(self._known.values())).float().cpu().numpy()

    def _embeddings(
        self, texts: Sequence[str], metadata: TaskMetadata, prompt_type: PromptType | None
    ) -> Float[Tensor, "texts dim"]:
        key = prompt_type, tuple(texts)
        if key not in self._known:
            self._known[key] = super()._embeddings(texts, metadata, prompt_type)
        return self._known[key]


class _Shrunk(AbsEncoder):
    """The embeddings of an encoder in a form."""

    def __init__(self, encoder: MtebEncoder, form: Form, documents: Float[np.ndarray, "documents dim"]) -> None:
        self.encoder = encoder
        self.form = form
        self.documents = documents
        self.mteb_model_meta = ModelMeta.create_empty()

    def encode(
        self, inputs: DataLoader[Any], *, task_metadata: TaskMetadata, prompt_type: PromptType | None = None, **_: Any
    ) -> np.ndarray:
        """Embed all texts of `inputs`, and shrink them."""
        found = self.encoder.encode(inputs, task_metadata=task_metadata, prompt_type=prompt_type)
        return shrink(found, self.form, self.documents)
