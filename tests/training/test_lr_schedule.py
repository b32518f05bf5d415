"""Schedules whose warm-up is a share of the steps."""

from functools import partial

import numpy as np
import pytest
import torch

from lightning_embed.errors import ConfigError
from lightning_embed.training.lr_schedule import constant, cosine, linear, wsd


def _rates(make: object, steps: int, share: float, **options: object) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    return [make(optimizer, steps, share, **options).lr_lambdas[0](step) for step in range(steps)]  # type: ignore[operator]


@pytest.mark.parametrize("steps", [1, 2, 7, 100])
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_no_step_has_a_rate_of_zero_and_none_is_above_one(steps: int, share: float) -> None:
    makes = (linear, constant, cosine, partial(wsd, decay_share=1 - share), partial(wsd, decay_share=0.0))
    for make in (*makes, partial(wsd, decay_share=1 - share, shape="sqrt")):
        rates = _rates(make, steps, share)
        assert min(rates) > 0
        assert max(rates) <= 1


def test_linear_falls_and_constant_stays() -> None:
    assert _rates(linear, 10, 0.2) == [0.5, 1.0, *(pytest.approx((10 - step) / 8) for step in range(2, 10))]
    assert _rates(constant, 4, 0.5) == [0.5, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.33])
@pytest.mark.parametrize("steps", [7, 100])
def test_float64_references(steps: int, share: float) -> None:
    """Piece by piece, as the papers draw them: a ramp, a plateau, a fall."""
    warmup, ramp = round(share * steps), np.arange(1, round(share * steps) + 1) / max(1, round(share * steps))
    fall = (1 + np.cos(np.pi * np.arange(steps - warmup, dtype=np.float64) / (steps - warmup))) / 2
    assert _rates(cosine, steps, share) == pytest.approx([*ramp, *fall], abs=1e-15)
    decay = round(0.4 * steps)
    over = np.arange(decay, dtype=np.float64) / decay
    for shape, factor in (("linear", 1 - over), ("sqrt", 1 - np.sqrt(over))):
        found = _rates(wsd, steps, share, decay_share=0.4, shape=shape)
        assert found == pytest.approx([*ramp, *np.ones(steps - warmup - decay), *factor], abs=1e-15)
    assert _rates(wsd, steps, share, decay_share=0.0) == _rates(constant, steps, share)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decay_share": 1.5}, r"scheduler.decay_share must be a share in \[0, 1\], got 1.5"),
        ({"decay_share": 0.8}, r"warmup_share \+ decay_share must be at most 1, got 0.3 \+ 0.8"),
        ({"shape": "liner"}, r"scheduler.shape=liner: no such shape. Did you mean 'linear'"),
    ],
)
def test_a_decay_that_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _rates(wsd, 10, 0.3, **options)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_out_of_range(share: float) -> None:
    with pytest.raises(ConfigError, match=r"must be a share in \[0, 1\]"):
        _rates(linear, 10, share)
