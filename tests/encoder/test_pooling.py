"""Each pooling against a slow loop in float64."""

import pytest
import torch

from lightning_embed.encoder.options import Pooling
from lightning_embed.encoder.pooling import pool

LENGTHS = torch.tensor([5, 3, 3, 1])
TEXT = torch.repeat_interleave(LENGTHS)
POSITION = torch.cat([torch.arange(length) for length in LENGTHS])

SLOW = {
    Pooling.mean: lambda h: sum(h) / len(h),
    Pooling.cls: lambda h: h[0],
    Pooling.last_token: lambda h: h[-1],
    Pooling.weighted_mean: lambda h: sum((i + 1) * x for i, x in enumerate(h)) / sum(range(len(h) + 1)),
}


@pytest.mark.parametrize("pooling", SLOW)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_equals_the_slow_loop(pooling: Pooling, dtype: torch.dtype) -> None:
    hidden = torch.randn(12, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    pooled = pool(hidden, TEXT, POSITION, LENGTHS, pooling)
    expected = torch.stack([SLOW[pooling](list(h)) for h in hidden.double().split(LENGTHS.tolist())])
    assert pooled.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
    torch.testing.assert_close(pooled.double(), expected, atol=1e-6, rtol=0)


def test_every_pooling_has_its_loop() -> None:
    assert {*SLOW, Pooling.auto} == set(Pooling)
