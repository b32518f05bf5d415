from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch

from lightning_embed.errors import ConfigError
from lightning_embed.merge import Weighted, Weighting


@dataclass(frozen=True)
class Shares(Weighted):
    def merge(self, name, tensors, base, plan, generator):
        raise NotImplementedError


@dataclass(frozen=True)
class Factors(Shares):
    normalise: ClassVar[bool] = False


@dataclass(frozen=True)
class Sized:
    size: int | None
    name: str = "a"

    @property
    def parameters(self) -> dict[str, torch.Size]:
        return {}

    def tensor(self, name: str) -> torch.Tensor:
        raise NotImplementedError


SOURCES = [Sized(30), Sized(10)]


@pytest.mark.parametrize(
    ("options", "shares", "factors"),
    [
        ({}, [0.5, 0.5], [1, 1]),
        ({"weighting": Weighting.size}, [0.75, 0.25], [1.5, 0.5]),
        ({"weighting": Weighting.given, "weights": [3.0, 2.0]}, [0.6, 0.4], [3, 2]),
        ({"weighting": Weighting.given, "weights": [3.0, -1.0]}, [1.5, -0.5], [3, -1]),
    ],
)
def test_values(options: dict[str, Any], shares: list[float], factors: list[float]) -> None:
    assert Shares(**options).source_weights(SOURCES) == pytest.approx(shares)
    assert Factors(**options).source_weights(SOURCES) == pytest.approx(factors)


@pytest.mark.parametrize(
    ("weighting", "weights", "message"),
    [
        ("given", None, "weighting=given needs weights"),
        ("given", [], "weighting=given needs weights"),
        ("equal", [1.0, 2.0], r"weights=\[1.0, 2.0\] have no effect with weighting=equal"),
        ("size", [1.0, 2.0], "have no effect with weighting=size"),
        ("given", [0.0, 0.0], "are all zero"),
        ("given", [1.0, -2.0], "have the sum -1 and are divided by it"),
        ("given", [1.0, float("nan")], "every weight must be a finite number"),
        ("given", [1.0, -0.9999], "which makes the largest 10000; expected at most 100"),
        ("given", [-3.0, 3.02, 0.0], "which makes the largest 151; expected at most 100"),
        ("given", [1e8, 1e8, -1.99e8], "which makes the largest 199; expected at most 100"),
    ],
)
def test_refusal(weighting: str, weights: list[float] | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Shares(weighting=Weighting(weighting), weights=weights)


@pytest.mark.parametrize("weights", [[101.0, 1.0], [1.0, -1e6], [1e30, 1.0], [float("inf"), 1.0]])
def test_a_factor_that_makes_no_model(weights: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"(from -100 to 100, got|every weight must be a finite number)"):
        Factors(weighting=Weighting.given, weights=weights)


@pytest.mark.parametrize("weights", [[1.0, -0.98], [3_200_000.0, 1_500_000.0], [1e-9, 2e-9]])
def test_only_the_ratio_of_shares_counts(weights: list[float]) -> None:
    assert sum(Shares(weighting=Weighting.given, weights=weights).source_weights(SOURCES[:2])) == pytest.approx(1)


def test_sum_of_factors_may_be_zero() -> None:
    assert Factors(weighting=Weighting.given, weights=[1.0, -1.0]).source_weights(SOURCES) == [1, -1]


def test_refusal_of_another_length() -> None:
    with pytest.raises(ConfigError, match=r"are 2 numbers for 3 sources. Give one per source"):
        Shares(weighting=Weighting.given, weights=[1.0, 2.0]).validate_inputs([None] * 3, True, False)


@pytest.mark.parametrize("size", [None, 0, -3])
def test_refusal_of_unknown_size(size: int | None) -> None:
    with pytest.raises(ConfigError, match=r"weighting=size, but the sizes of the sources are \[30, "):
        Shares(weighting=Weighting.size).validate_inputs([30, size], True, False)
