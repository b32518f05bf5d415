"""Layout of a packed row: the tokens of each text, and the attention masks."""

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor


class Layout:
    """The texts of a packed row: `groups` of equally long ones, (texts, tokens of each), in the order of the row.

    Args:
        sizes: tokens of each text.
    """

    # A class, not a list of numbers: torch.compile would compile every layer again for different numbers.
    def __init__(self, sizes: Sequence[int]) -> None:
        self.groups = [(len(list(texts)), length) for length, texts in groupby(sizes)]
        self._masks: dict[tuple[int, int | None, bool], Tensor] = {}

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return max(length for _, length in self.groups)

    def mask(self, length: int, window: int | None, causal: bool, device: torch.device) -> Tensor | None:
        """Attention mask of a text; None: every token sees all. Cached for all layers of a kind."""
        if not causal and (window is None or length <= window):
            return None
        if (length, window, causal) not in self._masks:
            place = torch.arange(length, device=device)
            distance = place[:, None] - place
            near = distance.abs() < (window or length)
            self._masks[length, window, causal] = near & (distance >= 0) if causal else near
        return self._masks[length, window, causal]
