"""Slow attention, one text and one head at a time, in float64; and rows to try kernels on."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from lightning_embed.encoder.kernels.base import Kernel
from lightning_embed.encoder.layout import Layout, Pattern
from lightning_embed.encoder.window import FULL, Window

SIZES = [9, 7, 7, 4, 1]


def full(_batch, _head, query, key):
    return (query >= 0) & (key >= 0)


def causal(_batch, _head, query, key):
    return key <= query


def sliding(_batch, _head, query, key):
    return (key <= query) & (key > query - 3)


def local(_batch, _head, query, key):
    return (query - key).abs() <= 2


def pieces(_batch, _head, query, key):
    """No window: chunks of four tokens, as in Llama 4."""
    return query // 4 == key // 4


RULES = {"full": full, "causal": causal, "sliding": sliding, "local": local, "pieces": pieces}


def layout_of(sizes: list[int], kernel: Kernel | None = None, device: str = "cpu") -> Layout:
    text = torch.tensor([number for number, size in enumerate(sizes) for _ in range(size)], device=device)
    position = torch.tensor([place for size in sizes for place in range(size)], device=device)
    starts = torch.tensor([sum(sizes[:number]) for number in range(len(sizes) + 1)], dtype=torch.int32, device=device)
    return Layout(sizes, text, position, starts, None if kernel is None else lambda _window: kernel)


def pattern_of(rule: Any, layout: Layout) -> Pattern:
    with layout.current():
        return Pattern(rule)


def slow(query, key, value, sizes, sees, *, scaling=None, softcap=None, sinks=None):
    """`sees(query position, key position)`; rows are (total, heads, dim)."""
    outputs, start = [], 0
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    for size in sizes:
        texts = [row[start : start + size] for row in (query, key, value)]
        heads = []
        for head in range(query.shape[1]):
            of_key = head // (query.shape[1] // key.shape[1])
            q, k, v = texts[0][:, head], texts[1][:, of_key], texts[2][:, of_key]
            rows = []
            for place in range(size):
                seen = [other for other in range(size) if sees(place, other)]
                scores = torch.stack([q[place] @ k[other] * scale for other in seen])
                if softcap is not None:
                    scores = softcap * torch.tanh(scores / softcap)
                weights = scores.exp()
                total = weights.sum() + (0 if sinks is None else sinks[head].exp())
                rows.append((weights / total) @ v[seen])
            heads.append(torch.stack(rows))
        outputs.append(torch.stack(heads, 1))
        start += size
    return torch.cat(outputs)


def of_rule(rule):
    return lambda query, key: bool(rule(0, 0, torch.tensor(query), torch.tensor(key)))


def varlen_stand_in(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=FULL, enable_gqa=False
):
    """The signature of `torch.nn.attention.varlen.varlen_attn`, which has no kernel on a CPU."""
    assert torch.equal(cu_seq_q, cu_seq_k)
    assert cu_seq_q.dtype is torch.int32
    sizes = cu_seq_q.diff().tolist()
    assert max_q == max_k == max(sizes)
    assert enable_gqa or query.shape[1] == key.shape[1]
    left, right = window_size

    def sees(place: int, other: int) -> bool:
        return (left < 0 or place - other <= left) and (right < 0 or other - place <= right)

    return slow(query, key, value, sizes, sees, scaling=scale)


@dataclass
class Case:
    """One layer's attention: rows, and what its model asks for."""

    rule: str
    key_heads: int = 4
    softcap: float | None = None
    with_sinks: bool = False
    scaling: float | None = None

    def rows(self) -> list[torch.Tensor]:
        make = partial(torch.randn, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        total = sum(SIZES)
        rows = [make(total, heads, 8).requires_grad_() for heads in (4, self.key_heads, self.key_heads)]
        return [*rows, *([make(4).requires_grad_()] if self.with_sinks else [])]

    @property
    def options(self) -> dict[str, float | None]:
        return {"scaling": self.scaling, "softcap": self.softcap}

    @property
    def window(self) -> Window | None:
        return pattern_of(RULES[self.rule], layout_of(SIZES, object())).window

    def expected(self) -> list[torch.Tensor]:
        return self._run(
            lambda q, k, v, sinks: slow(q, k, v, SIZES, of_rule(RULES[self.rule]), sinks=sinks, **self.options)
        )

    def found(self, kernel: Kernel) -> list[torch.Tensor]:
        layout = layout_of(SIZES, kernel)
        seen = pattern_of(RULES[self.rule], layout)
        assert seen.kernel is kernel
        return self._run(lambda q, k, v, sinks: kernel(q, k, v, seen, layout, sinks=sinks, **self.options))

    def _run(self, attend) -> list[torch.Tensor]:
        """The output, and the gradient of each row for a loss that sees every number."""
        rows = self.rows()
        sinks = rows[3] if self.with_sinks else None
        output = attend(*rows[:3], sinks)
        weights = torch.randn(output.shape, dtype=output.dtype, generator=torch.Generator().manual_seed(1))
        (output * weights).sum().backward()
        return [output.detach(), *(row.grad for row in rows)]


def assert_same(case: Case, kernel: Kernel) -> None:
    for found, expected in zip(case.found(kernel), case.expected(), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)


WINDOWS = [Case(rule) for rule in ("full", "causal", "sliding", "local")]
WINDOWS += [Case("causal", key_heads=2, scaling=0.2), Case("local", key_heads=1)]
CAPPED = [Case("full", softcap=2.0), Case("sliding", key_heads=2, softcap=2.0)]
SINKS = [Case("causal", with_sinks=True), Case("local", key_heads=2, with_sinks=True, softcap=2.0)]
OTHERS = [Case("pieces"), Case("pieces", key_heads=2, softcap=2.0)]
