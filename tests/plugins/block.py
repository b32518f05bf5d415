"""One parameter, merged in memory on a base of zero."""

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tests.merge import toy


def merge(how: Any, deltas: Tensor | Sequence[Sequence[float]], seed: int = 0) -> Tensor:
    """What a strategy makes of these deltas, a row each; its plan goes through JSON."""
    stacked = torch.as_tensor(deltas)
    base = torch.zeros_like(stacked[0])
    models = [toy.InMemory({"w": delta}) for delta in stacked]
    plan = json.loads(json.dumps(how.prepare(models, toy.InMemory({"w": base}), None, toy.Curves())))
    merged: Tensor = how.merge("w", stacked, base, plan, torch.Generator().manual_seed(seed))
    return merged
