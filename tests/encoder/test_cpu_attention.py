"""Attention in training on a CPU equals its formula, written slowly, text by text in float64; so do its gradients."""

from itertools import pairwise

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from lightning_embed.encoder.cpu_attention import CpuAttention
from lightning_embed.encoder.dropout import Dropped

GROUPS = [(1, 9), (2, 5), (3, 1)]
TOTAL, HEADS, DIM = 22, 2, 4


def causal(length: int) -> torch.Tensor:
    return torch.ones(length, length, dtype=torch.bool).tril()


def slow(query, key, value, masks, p: float, together: bool) -> torch.Tensor:
    """One head of one text after the other; the dropout as drawn, in the order of groups, texts and heads."""
    dropped = Dropped(p) if p else None
    lengths = [length for texts, length in GROUPS for _ in range(texts)]
    starts = torch.tensor([0, *lengths]).cumsum(0).tolist()
    rows, places = [], iter(pairwise(starts))
    for (texts, length), mask in zip(GROUPS, masks, strict=True):
        pieces = [texts] if together else [1] * texts
        bits = [dropped(piece * HEADS * length**2).clone() for piece in pieces] if dropped else None
        drawn = torch.cat(bits).view(texts, HEADS, length, length) if bits else None
        for text in range(texts):
            start, end = next(places)
            heads = []
            for head in range(HEADS):
                scores = query[start:end, head] @ key[start:end, head].T
                if mask is not None:
                    scores = scores.masked_fill(~mask, -torch.inf)
                probability = scores.exp() / scores.exp().sum(1, keepdim=True)
                if drawn is not None:
                    probability = probability * (1 - drawn[text, head])
                heads.append(probability @ value[start:end, head])
            rows.append(torch.stack(heads, 1))
    return torch.cat(rows)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("p", "cached"), [(0.0, 2**20), (0.0, 1), (0.3, 2**20), (0.3, 1)])
def test_equals_the_slow_version(p: float, masked: bool, cached: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cached=1`: every text is a piece of its own."""
    monkeypatch.setattr("lightning_embed.encoder.cpu_attention._CACHED", cached)
    torch.manual_seed(0)
    rows = [torch.randn(TOTAL, HEADS, DIM, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    masks = [causal(length) if masked else None for _, length in GROUPS]
    weights = torch.randn(TOTAL, HEADS, DIM, dtype=torch.float64)
    results = []
    for attend in (
        lambda: CpuAttention.apply(*rows, GROUPS, masks, p),
        lambda: slow(*rows, masks, p, together=cached > 1),
    ):
        torch.manual_seed(7)
        output = attend()
        results.append([output, *torch.autograd.grad((output * weights).sum(), rows)])
    for fast, exact in zip(*results, strict=True):
        torch.testing.assert_close(fast, exact, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_is_close(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    exact = [torch.randn(TOTAL, HEADS, DIM, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    rows = [row.detach().to(dtype).requires_grad_() for row in exact]
    close = {torch.float32: 1e-5, torch.bfloat16: 0.06}[dtype]
    outputs = []
    for these in (rows, exact):
        torch.manual_seed(7)
        output = CpuAttention.apply(*these, GROUPS, [None] * 3, 0.3)
        outputs.append([output, *torch.autograd.grad(output.double().square().sum(), these)])
    for low, high in zip(*outputs, strict=True):
        assert low.dtype is dtype
        assert (low.double() - high).abs().max() < close * high.abs().max()


def test_without_gradient_it_is_the_same_and_keeps_nothing() -> None:
    rows = [torch.randn(TOTAL, HEADS, DIM) for _ in range(3)]
    outputs = []
    for gradient in (True, False):
        kept: list[torch.Tensor] = []
        torch.manual_seed(3)
        with saved_tensors_hooks(kept.append, lambda saved: saved):
            leaves = [row.clone().requires_grad_(gradient) for row in rows]
            outputs.append(CpuAttention.apply(*leaves, GROUPS, [None] * 3, 0.3))
        assert len(kept) == (4 if gradient else 0)
    assert torch.equal(*outputs)


def test_heads_that_lie_first_in_memory_are_read_alike() -> None:
    """Rotary embeddings hand over (heads, total, dim) tensors, turned."""
    rows = [torch.randn(HEADS, TOTAL, DIM).transpose(0, 1) for _ in range(3)]
    torch.testing.assert_close(
        CpuAttention.apply(*rows, GROUPS, [None] * 3, 0.0),
        CpuAttention.apply(*(row.contiguous() for row in rows), GROUPS, [None] * 3, 0.0),
    )
