"""An encoder as mteb wants it."""

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
    """Gives each text the prompt that it had in training.

    For prompts by role or by task these are the ones that mteb gives to the saved directory. Prompts of a dataset that
    mteb does not know count here; mteb drops them, with a warning.
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
            return None  # pairs of sentences, summaries: nothing that we have a word for
        task = _TASKS.get(metadata.type, Task.retrieval)  # what else has queries and documents: reranking
        return self.encoder.prompt_for(task, prompt_type.value if prompt_type else "query", metadata.name)
