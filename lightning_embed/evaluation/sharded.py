"""Distributed evaluation: each process encodes its share of the texts."""

from collections.abc import Sequence
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import CheckpointError, LightningEmbedError
from lightning_embed.evaluation.base import Role, TextEncoder
from lightning_embed.runtime import distributed
from lightning_embed.types import Task


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
        self._known: dict[tuple[str | None, str], Tensor] = {}

    def prompt_for(self, task: Task, role: Role, dataset: str) -> str:
        """See `TextEncoder`."""
        return self.encoder.prompt_for(task, role, dataset)

    def encode(self, texts: Sequence[str], *, prompt: str | None) -> Float[Tensor, "texts dim"]:
        """See `TextEncoder`."""
        # Sorted by length and dealt out in turn, so that all ranks have about the same work.
        new = sorted({text for text in texts if (prompt, text) not in self._known}, key=lambda text: (len(text), text))
        if new or not texts:
            parts = [new[rank :: distributed.world_size()] for rank in range(distributed.world_size())]
            own = self._encode_together(parts[distributed.rank()], prompt)
            if not texts:
                return own
            joined = distributed.gather(own.to(self.device), [len(part) for part in parts]).cpu()
            self._known |= {(prompt, text): row for text, row in zip(chain(*parts), joined, strict=True)}
        return torch.stack([self._known[prompt, text] for text in texts])

    def _encode_together(self, texts: Sequence[str], prompt: str | None) -> Float[Tensor, "texts dim"]:
        """Embed the share of this rank; if one rank refuses its embeddings, all ranks stop, and none waits for it."""
        found, error = None, None
        try:
            found = self.encoder.encode(texts, prompt=prompt)
        except LightningEmbedError as refusal:
            error = refusal
        if sum(distributed.sizes(int(error is not None), self.device)) or found is None:
            raise error or CheckpointError(
                "The evaluation stopped, because the texts of a different rank were refused."
            )
        return found
