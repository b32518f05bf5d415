"""An encoder with the interface of mteb."""

from typing import Any

from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from mteb.types import PromptType
from numpy import ndarray
from torch.utils.data import DataLoader

from lightning_embed.evaluation.base import TextEncoder
from lightning_embed.types import Task

_TASKS = {
    "Retrieval": Task.retrieval,
    "STS": Task.sts,
    "Classification": Task.classification,
    "Clustering": Task.clustering,
}


class MtebEncoder(AbsEncoder):
    """Encodes each text after the prompt that it had in training.

    Prompts by role or by task are the same that mteb uses for the saved directory. Prompts of a dataset that mteb does
    not know are used here; mteb itself ignores them, with a warning.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder
        self.mteb_model_meta = ModelMeta.create_empty()

    def encode(
        self, inputs: DataLoader[Any], *, task_metadata: TaskMetadata, prompt_type: PromptType | None = None, **_: Any
    ) -> ndarray:
        """Embed all texts of `inputs`."""
        texts = [text for batch in inputs for text in batch["text"]]
        embeddings = self.encoder.encode(texts, prompt=self._prompt(task_metadata, prompt_type))
        return embeddings.float().cpu().numpy()

    def _prompt(self, metadata: TaskMetadata, prompt_type: PromptType | None) -> str | None:
        if metadata.type not in _TASKS and prompt_type is None:
            return None  # sentence pairs, summaries: types without a `Task`
        task = _TASKS.get(metadata.type, Task.retrieval)  # other types with queries and documents, such as reranking
        return self.encoder.prompt_for(task, prompt_type.value if prompt_type else "query", metadata.name)
