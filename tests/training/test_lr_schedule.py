"""Schedules whose warm-up is a share of the steps."""

import pytest
import torch

from lightning_embed.errors import ConfigError
from lightning_embed.training.lr_schedule import constant, linear


def _rates(make: object, steps: int, share: float) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    return [make(optimizer, steps, share).lr_lambdas[0](step) for step in range(steps)]  # type: ignore[operator]


@pytest.mark.parametrize("steps", [1, 2, 7, 100])
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_no_step_has_a_rate_of_zero_and_none_is_above_one(steps: int, share: float) -> None:
    for make in (linear, constant):
        rates = _rates(make, steps, share)
        assert min(rates) > 0
        assert max(rates) <= 1


def test_linear_falls_and_constant_stays() -> None:
    assert _rates(linear, 10, 0.2) == [0.5, 1.0, *(pytest.approx((10 - step) / 8) for step in range(2, 10))]
    assert _rates(constant, 4, 0.5) == [0.5, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_out_of_range(share: float) -> None:
    with pytest.raises(ConfigError, match=r"must be a share in \[0, 1\]"):
        _rates(linear, 10, share)
