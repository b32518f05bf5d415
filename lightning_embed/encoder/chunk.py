"""Chunks: texts of similar length that the backbone processes together, packed or padded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lightning_embed.encoder.kernels.base import Call, Kernel
from lightning_embed.encoder.layout import Layout
from lightning_embed.encoder.window import Window
from lightning_embed.types import Tokens


def cut(lengths: Sequence[int], max_tokens: int, packed: bool) -> list[list[int]]:
    """Sort texts by length, longest first (if memory runs out, then in the first chunk), and cut at the token budget.

    A padded chunk with at least a quarter of the budget also ends where the next text would be padded by more than a
    tenth.
    """
    chunks: list[list[int]] = []
    used = longest = 0
    for text in sorted(range(len(lengths)), key=lambda text: -lengths[text]):
        length = lengths[text]
        cost = length if packed else longest
        if not chunks or used + cost > max_tokens or (4 * used >= max_tokens and 10 * length < 9 * cost):
            chunks.append([])
            used, longest, cost = 0, length, length
        chunks[-1].append(text)
        used += cost
    return chunks


@dataclass(frozen=True)
class Chunk:
    """The texts of one chunk, concatenated. Built on the CPU, so that no layer waits for a length."""

    ids: Int[Tensor, " total"]
    text: Int[Tensor, " total"]
    position: Int[Tensor, " total"]
    lengths: Int[Tensor, " texts"]
    starts: Int[Tensor, " texts_and_one"]  # int32, as kernels take it
    sizes: list[int]
    prompts: list[int] | None = None  # tokens of each text's prompt, where pooling leaves them out

    @classmethod
    def of(cls, tokens: Tokens, texts: Int[Tensor, " texts"], device: torch.device) -> "Chunk":
        """Pick `texts` out of `tokens`."""
        offsets, texts = tokens.offsets.cpu(), texts.cpu()
        lengths = offsets.diff()[texts]
        sizes: list[int] = lengths.tolist()
        text = torch.repeat_interleave(lengths)
        starts = nn.functional.pad(lengths.cumsum(0), (1, 0))
        position = torch.arange(len(text)) - starts[text]
        place = offsets[texts][text] + position
        on_host = tokens.ids.device.type == "cpu"
        numbers = [tokens.ids[place] if on_host else place, text, position, lengths, starts]
        place, text, position, lengths, starts = moved(numbers, device)
        prompts = None if tokens.prompts is None else tokens.prompts[texts].tolist()
        ids = place if on_host else tokens.ids[place]
        return cls(ids, text, position, lengths, starts.int(), sizes, prompts)

    def run_packed(
        self,
        backbone: Any,
        first_position: int,
        kernel: Callable[[Window | None], Kernel] | None = None,
        calls: list[Call] | None = None,
        **options: Any,
    ) -> Any:
        """One row, no padding. The mask shows that the row has none; the layout separates the texts.

        Args:
            backbone: a model with packed attention.
            first_position: position id of a text's first token.
            kernel: chooses who computes the attention, see `Layout`.
            calls: what the layers ask of their attention is added here.
            options: of the backbone.
        """
        layout = Layout(self.sizes, self.text, self.position, self.starts, kernel, calls)
        with layout.current():
            return backbone(
                input_ids=self.ids[None],
                attention_mask=torch.ones_like(self.ids[None]),
                position_ids=self.position[None] + first_position,
                layout=layout,
                **options,
            )

    def run_padded(self, backbone: Any, padding: int, **options: Any) -> Any:
        """One row per text, padded on the right."""
        shape = len(self.sizes), max(self.sizes)
        ids = self.ids.new_full(shape, padding)
        ids[self.text, self.position] = self.ids
        mask = torch.arange(shape[1], device=ids.device) < self.lengths[:, None]
        return backbone(input_ids=ids, attention_mask=mask.long(), **options)

    def flatten(self, hidden: Float[Tensor, "rows width dim"]) -> Float[Tensor, "total dim"]:
        """Token embeddings of the texts, concatenated, from the output of either `run_packed` or `run_padded`."""
        return hidden.squeeze(0) if hidden.shape[:2] == (1, len(self.ids)) else hidden[self.text, self.position]


def moved(parts: Sequence[Int[Tensor, " _"]], device: torch.device) -> Sequence[Int[Tensor, " _"]]:
    """Tensors of the CPU on a device: one copy for all, from page-locked memory, so that nothing waits for it."""
    together = torch.cat(list(parts))
    if device.type == "cuda":
        together = together.pin_memory()
    return torch.split(together.to(device, non_blocking=True), [len(part) for part in parts])
