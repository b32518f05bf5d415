"""An encoder with the interface of mteb."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from mteb.types import PromptType
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.data import DataLoader

from lightning_embed.errors import CheckpointError
from lightning_embed.evaluation.base import TextEncoder
from lightning_embed.evaluation.local_tasks import LocalTask
from lightning_embed.runtime.finite import not_finite_texts
from lightning_embed.types import Task

logger = logging.getLogger(__name__)

_TASKS = {
    "Retrieval": Task.retrieval,
    "STS": Task.sts,
    "Classification": Task.classification,
    "Clustering": Task.clustering,
}


_COLLAPSED = 1e-3  # distance of two unit vectors: a cosine above 0.9999995


class MtebEncoder(AbsEncoder):
    """Encodes each text after the prompt that it had in training, cut at the length that it had there.

    Embeddings with NaN or infinity are refused: they would score as ties. If all texts have one embedding, a warning
    says that the scores mean nothing.

    Prompts by role or by task are the same that mteb uses for the saved directory. Prompts of a dataset that mteb does
    not know are used here; mteb itself ignores them, with a warning.

    Args:
        encoder: embeds the texts.
        task: the local task that is evaluated, with lengths and own prompts of its texts; None: a task of mteb.
    """

    def __init__(self, encoder: TextEncoder, task: LocalTask | None = None) -> None:
        self.encoder = encoder
        self.task = task
        self._has_warned = False
        self.mteb_model_meta = ModelMeta.create_empty()

    def encode(
        self, inputs: DataLoader[Any], *, task_metadata: TaskMetadata, prompt_type: PromptType | None = None, **_: Any
    ) -> ndarray:
        """Embed all texts of `inputs`.

        Raises:
            CheckpointError: NaN or infinity in an embedding.
        """
        texts = [text for batch in inputs for text in batch["text"]]
        embeddings = self._embeddings(texts, task_metadata, prompt_type).float().cpu()
        if problem := not_finite_texts(embeddings, texts):
            raise CheckpointError(f"The model evaluated on {task_metadata.name}: {problem}")
        if not self._has_warned and len(set(texts)) > 1 and _are_equal(embeddings):
            self._has_warned = True  # once per test
            logger.warning(
                "%s: all %d texts have the same embedding, so the model has collapsed and this score shows the order of "
                "ties. Train with a lower learning rate.",
                task_metadata.name, len(set(texts)),
            )  # fmt: skip
        return embeddings.numpy()

    def _embeddings(
        self, texts: Sequence[str], metadata: TaskMetadata, prompt_type: PromptType | None
    ) -> Float[Tensor, "texts dim"]:
        prompt = self._prompt(metadata, prompt_type)
        if self.task is None:
            return self.encoder.encode(texts, prompt=prompt)
        length = self.task.max_length(prompt_type)
        own = [self.task.own_prompts.get(text) for text in texts]
        with_own = [place for place, found in enumerate(own) if found is not None]
        others = [place for place, found in enumerate(own) if found is None]
        parts = []
        if others or not texts:
            parts.append(self.encoder.encode([texts[p] for p in others], prompt=prompt, max_length=length))
        if with_own:
            prompts, given = zip(*filter(None, own), strict=True)
            parts.append(self.encoder.encode(given, prompt=prompts, max_length=length))
        return torch.cat(parts)[torch.tensor(others + with_own, dtype=torch.int64).argsort()]

    def _prompt(self, metadata: TaskMetadata, prompt_type: PromptType | None) -> str | None:
        if metadata.type not in _TASKS and prompt_type is None:
            return None  # sentence pairs, summaries: types without a `Task`
        task = _TASKS.get(metadata.type, Task.retrieval)  # other types with queries and documents, such as reranking
        return self.encoder.prompt_for(task, prompt_type.value if prompt_type else "query", metadata.name)


def _are_equal(embeddings: Float[Tensor, "texts dim"]) -> bool:
    """Whether all embeddings have one direction."""
    first = normalize(embeddings[:1], dim=-1)
    if bool((normalize(embeddings[-1:], dim=-1) - first).norm() > _COLLAPSED):  # so that a sound model costs nothing
        return False
    return bool(((normalize(embeddings, dim=-1) - first).norm(dim=-1) <= _COLLAPSED).all())
