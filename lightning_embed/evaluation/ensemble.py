"""An ensemble of encoders, to which a merged model is compared."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from lightning_embed.evaluation.base import Role, TextEncoder
from lightning_embed.types import Task


@dataclass(frozen=True)
class Ensemble:
    """Encoders whose similarities are averaged: each encodes every text, after its own prompt.

    An embedding is (x_1, ..., x_N) / sqrt(N), with x_i of length 1, so that the inner product of two is the mean of the
    N cosines, exactly. It takes the time of N encoders and N times the memory of an index.

    Args:
        members: the encoders; their dimensions may differ.
    """

    members: Sequence[TextEncoder]

    def prompt_for(self, task: Task, role: Role, dataset: str) -> str:
        """The prompts of all members, as one JSON string that `encode` parses."""
        return json.dumps([member.prompt_for(task, role, dataset) for member in self.members])

    def encode(
        self, texts: Sequence[str], *, prompt: str | Sequence[str] | None, max_length: int | None = None
    ) -> Float[Tensor, "texts dim"]:
        """Embed `texts`, after the prompts from `prompt_for`, or after their own (None: the default of each member)."""
        prompts = json.loads(prompt) if isinstance(prompt, str) else [prompt] * len(self.members)
        parts = [
            member.encode(texts, prompt=own, max_length=max_length)
            for member, own in zip(self.members, prompts, strict=True)
        ]
        joined: Tensor = torch.cat([normalize(part, dim=-1) for part in parts], dim=-1) / len(parts) ** 0.5
        return joined
