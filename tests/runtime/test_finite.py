"""NaN and infinity are found wherever they are, and large finite numbers are no alarm."""

import math

import pytest
import torch
from torch import nn

from lightning_embed.runtime.finite import first_not_finite, is_finite, not_finite_texts

BAD = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("place", [(0, 0), (1, 2), (2, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_one_bad_number_is_found(bad: float, place: tuple[int, int], dtype: torch.dtype) -> None:
    values = torch.randn(3, 5).to(dtype)
    assert is_finite(values)
    values[place] = bad
    assert not is_finite(values)


def test_both_infinities_do_not_cancel() -> None:
    assert not is_finite(torch.tensor([math.inf, -math.inf, 1.0]))


@pytest.mark.parametrize("values", [[3e38, 3e38, 3e38], [-3e38] * 4, [0.0], [], [1e-45, -1e-45]])
def test_a_sum_that_overflows_is_no_alarm(values: list[float]) -> None:
    assert is_finite(torch.tensor(values))
    layer = nn.ParameterDict({"a": nn.Parameter(torch.tensor(values)), "b": nn.Parameter(torch.tensor(values))})
    assert first_not_finite(layer) is None


@pytest.mark.parametrize("bad", BAD)
def test_the_parameter_is_named(bad: float) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    assert first_not_finite(model) is None
    with torch.no_grad():
        model[2].weight[1, 3] = bad
        model[1].bias[0] = 3e38
    assert first_not_finite(model) == "2.weight"


def test_no_parameters() -> None:
    assert first_not_finite(nn.Identity()) is None


@pytest.mark.parametrize("bad", BAD)
def test_the_text_is_named(bad: float) -> None:
    embeddings = torch.zeros(3, 4)
    assert not_finite_texts(embeddings, ["a", "b", "c"]) is None
    embeddings[1:, 2] = bad
    found = not_finite_texts(embeddings, ["a", "b", "c"])
    assert found is not None
    assert found.startswith("expected finite embeddings, got NaN or infinity for 2 of 3 texts, the first 'b'.")


def test_a_long_text_is_cut() -> None:
    found = not_finite_texts(torch.full((1, 2), math.nan), ["x" * 1000])
    assert found is not None
    assert f"the first '{'x' * 60}...'." in found


def test_no_texts() -> None:
    assert not_finite_texts(torch.empty(0, 4), []) is None
