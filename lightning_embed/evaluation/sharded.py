"""Distributed evaluation: each process encodes its share of the texts."""

from collections.abc import Sequence
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import CheckpointError, LightningEmbedError
from lightning_embed.evaluation.base import Asked, Role, TextEncoder, asked_for
from lightning_embed.runtime import distributed
from lightning_embed.types import Task


def _by_length(asked: Asked) -> tuple[int, str, str]:
    return len(asked.text), asked.text, asked.prompt or ""


class Shared:
    """An encoder that divides texts among the ranks and keeps their embeddings: each text is encoded once, by one rank.

    All ranks must hold the same weights and encode the same texts in the same order. Each rank gets all embeddings,
    which stay in memory as long as this object: 4 bytes per dimension and distinct text.

    Args:
        encoder: encoder of this rank.
        device: device of the tensors that the ranks exchange.
    """

    def __init__(self, encoder: TextEncoder, device: torch.device) -> None:
        self.encoder = encoder
        self.device = device
        self._known: dict[Asked, Tensor] = {}

    def prompt_for(self, task: Task, role: Role, dataset: str) -> str:
        """See `TextEncoder`."""
        return self.encoder.prompt_for(task, role, dataset)

    def encode(
        self, texts: Sequence[str], *, prompt: str | Sequence[str] | None, max_length: int | None = None
    ) -> Float[Tensor, "texts dim"]:
        """See `TextEncoder`."""
        asked = asked_for(texts, prompt, max_length)
        # Sorted by length and dealt out in turn, so that all ranks have about the same work.
        new = sorted(set(asked) - self._known.keys(), key=_by_length)
        if new or not texts:
            parts = [new[rank :: distributed.world_size()] for rank in range(distributed.world_size())]
            mine = parts[distributed.rank()]
            before = prompt if prompt is None or isinstance(prompt, str) else [str(each.prompt) for each in mine]
            own = self._encode_together([each.text for each in mine], before, max_length)
            if not texts:
                return own
            joined = distributed.gather(own.to(self.device), [len(part) for part in parts]).cpu()
            self._known |= zip(chain(*parts), joined, strict=True)
        return torch.stack([self._known[each] for each in asked])

    def _encode_together(
        self, texts: Sequence[str], prompt: str | Sequence[str] | None, max_length: int | None
    ) -> Float[Tensor, "texts dim"]:
        """Embed the share of this rank; if one rank refuses its embeddings, all ranks stop, and none waits for it."""
        found, error = None, None
        try:
            found = self.encoder.encode(texts, prompt=prompt, max_length=max_length)
        except LightningEmbedError as refusal:
            error = refusal
        if any(distributed.largest([error is not None])) or found is None:
            raise error or CheckpointError(
                "The evaluation stopped, because the texts of a different rank were refused."
            )
        return found
