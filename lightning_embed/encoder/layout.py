"""Layout of a packed row, the tokens of each text, and the pattern of its attention."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

Rule = Callable[[int, int, Tensor, Tensor], Tensor]
"""(batch, head, query position, key position) -> whether the key is seen. Positions broadcast."""


class Layout:
    """The texts of a packed row: `groups` of equally long ones, (texts, tokens of each), in the order of the row.

    Args:
        sizes: tokens of each text.
    """

    # A class, not a list of numbers: torch.compile would compile every layer again for different numbers.
    def __init__(self, sizes: Sequence[int]) -> None:
        self.groups = [(len(list(texts)), length) for length, texts in groupby(sizes)]

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return max(length for _, length in self.groups)


class Pattern:
    """The tokens that each token of a text sees in layers of one kind: all, the earlier ones, those of a window ...

    Args:
        rule: as transformers describes the mask of these layers.
        broadcasts: whether the rule takes many positions at once, not one pair only.
    """

    def __init__(self, rule: Rule, broadcasts: bool = True) -> None:
        self._rule = rule
        self._broadcasts = broadcasts
        self._masks: dict[tuple[int, torch.device], Tensor] = {}

    def is_causal(self, length: int) -> bool | None:
        """Whether the tokens of a text see the earlier ones only; False: they see all; None: see `mask`."""
        first, last = torch.tensor(0), torch.tensor(length - 1)
        # the most distant pair: where it is seen, no window or piece separates two tokens of the text
        return bool(not self._rule(0, 0, first, last)) if self._rule(0, 0, last, first) else None

    def mask(self, length: int, device: torch.device) -> Tensor | None:
        """(length, length) mask of a text, True where a key is seen; None: all are. Cached for all layers of a kind."""
        if self.is_causal(length) is False:
            return None
        if (length, device) not in self._masks:
            place = torch.arange(length)
            if self._broadcasts:
                seen = self._rule(0, 0, place[:, None], place[None]).expand(length, length)
            else:
                by_key = torch.vmap(self._rule, (None, None, None, 0))
                seen = torch.vmap(by_key, (None, None, 0, None))(0, 0, place, place)
            self._masks[length, device] = seen.to(device)
        return self._masks[length, device]


def pattern(*, mask_function: Rule, use_vmap: bool = False, **_: Any) -> Pattern:
    """The mask function of packed attention: transformers calls it where it would build a mask.

    A rule to vmap is one that a model composes itself, as EmbeddingGemma does to attend both ways.
    """
    return Pattern(mask_function, broadcasts=not use_vmap)
