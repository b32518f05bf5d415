"""Layout of a packed row, the tokens of each text, and the pattern of its attention."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import groupby
from typing import Any, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from lightning_embed.encoder.kernels.base import Call, Kernel
from lightning_embed.encoder.kernels.groups import GROUPS
from lightning_embed.encoder.window import Rule, Window, seen_by, window_of

T = TypeVar("T")


class Layout:
    """The texts of a packed row, in its order, and who computes their attention.

    Args:
        sizes: tokens of each text.
        text: number of the text of each token, on the device of the row.
        position: of each token in its text, there too.
        starts: first token of each text, and the end of the last one, there too.
        kernel: chooses a kernel for a window, None: for a rule that is no window; without it, it is `groups`.
        calls: what each layer asks for is added here.
    """

    # A class, not a list of numbers: torch.compile would compile every layer again for different numbers.
    def __init__(
        self,
        sizes: Sequence[int],
        text: Int[Tensor, " total"],
        position: Int[Tensor, " total"],
        starts: Int[Tensor, " texts_and_one"],
        kernel: Callable[[Window | None], Kernel] | None = None,
        calls: list[Call] | None = None,
    ) -> None:
        self.sizes = sizes
        self.text = text
        self.position = position
        self.starts = starts
        self.kernel = kernel
        self.calls = calls
        self.longest = max(sizes)
        self._shared: dict[Hashable, Any] = {}

    @property
    def groups(self) -> list[tuple[int, int]]:
        """Groups of equally long texts, (texts, tokens of each), in the order of the row."""
        return self.shared("groups", lambda: [(len(list(texts)), length) for length, texts in groupby(self.sizes)])

    def shared(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is made once for all layers."""
        if key not in self._shared:
            self._shared[key] = make()
        found: T = self._shared[key]
        return found

    @contextmanager
    def current(self) -> Iterator[None]:
        """The patterns made inside are of this row: transformers passes its mask functions nothing of ours."""
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)


_CURRENT: ContextVar[Layout | None] = ContextVar("layout", default=None)


class Pattern:
    """The tokens that each token of a text sees in layers of one kind: all, the earlier ones, those of a window ...

    Args:
        rule: as transformers describes the mask of these layers.
        broadcasts: whether the rule takes many positions at once, not one pair only.
    """

    def __init__(self, rule: Rule, broadcasts: bool = True) -> None:
        self.rule = rule
        self._broadcasts = broadcasts
        self._masks: dict[tuple[int, torch.device], Tensor] = {}
        self.window: Window | None = None
        self.kernel: Kernel = GROUPS
        # Chosen here, not in a layer, which may be compiled: a choice for every length would compile it again.
        layout = _CURRENT.get()
        if layout is not None and layout.kernel is not None:
            self.window = window_of(rule, layout.longest, broadcasts)
            self.kernel = layout.kernel(self.window)

    def is_causal(self, length: int) -> bool | None:
        """Whether the tokens of a text see the earlier ones only; False: they see all; None: see `mask`."""
        first, last = torch.tensor(0), torch.tensor(length - 1)
        # the most distant pair: where it is seen, no window or piece separates two tokens of the text
        return bool(not self.rule(0, 0, first, last)) if self.rule(0, 0, last, first) else None

    def mask(self, length: int, device: torch.device) -> Tensor | None:
        """(length, length) mask of a text, True where a key is seen; None: all are. Cached for all layers of a kind."""
        if self.is_causal(length) is False:
            return None
        if (length, device) not in self._masks:
            place = torch.arange(length)
            seen = self.seen(place, place).expand(length, length)
            self._masks[length, device] = seen.to(device, non_blocking=True)
        return self._masks[length, device]

    def seen(self, query: Int[Tensor, " queries"], key: Int[Tensor, " keys"]) -> Tensor:
        """Which keys are seen, (queries, keys) or what broadcasts to it."""
        return seen_by(self.rule, query, key, self._broadcasts)


def pattern(*, mask_function: Rule, use_vmap: bool = False, **_: Any) -> Pattern:
    """The mask function of packed attention: transformers calls it where it would build a mask.

    A rule to vmap is one that a model composes itself, as EmbeddingGemma does to attend both ways.
    """
    return Pattern(mask_function, broadcasts=not use_vmap)
