from collections.abc import Sequence
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge import ALL, Plan, TensorGranularity
from tests.merge import toy
from tests.merge.toy_probe import QuadraticProbe
from tests.reference import data_merges as reference

self_positioning = import_module("lightning_embed.plugins.self_positioning")


def _prepare(
    base: toy.Tensors, sources: Sequence[toy.Tensors], probe: QuadraticProbe, **options: Any
) -> tuple[Plan, toy.Curves]:
    how, curves = toy.strategy("self_positioning", **options), toy.Curves()
    models = [toy.InMemory(source, f"s{number}") for number, source in enumerate(sources)]
    return how.prepare(models, toy.InMemory(base), probe, curves), curves


def _deltas(base: toy.Tensors, sources: Sequence[toy.Tensors]) -> list[Tensor]:
    return [toy.vector(source) - toy.vector(base) for source in sources]


def _coefficients(vectors: Tensor, a: Sequence[float], length: float = 1.0) -> Tensor:
    numbers = {"a": torch.tensor([a], dtype=torch.float64), "lambda": torch.tensor([length], dtype=torch.float64)}
    how: Any = toy.strategy("self_positioning")
    found: Tensor = how.coefficients(numbers, (vectors @ vectors.T)[None])[0]
    return found


def _combination(base: toy.Tensors, sources: Sequence[toy.Tensors], coefficients: Sequence[float]) -> dict[str, Tensor]:
    pairs = list(zip(coefficients, sources, strict=True))
    return {n: base[n] + sum((c * (s[n] - base[n]) for c, s in pairs), torch.zeros(())) for n in toy.SHAPES}


# reference


@pytest.mark.parametrize("a", [(1.0, 1.0), (0.3, 2.0), (1.0, 1.0, 1.0), (2.0, 0.5, 1.5), (1.0, 3.0, 0.7, 1.2)])
def test_coefficients_equal_explicit_vectors(a: tuple[float, ...]) -> None:
    vectors = torch.randn(len(a), 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5
    expected = reference.position(list(vectors), torch.tensor(a, dtype=torch.float64), torch.tensor(1.3))
    torch.testing.assert_close(_coefficients(vectors, a, 1.3) @ vectors, expected)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_gradient_equals_autograd_through_the_merged_weights(count: int) -> None:
    vectors = torch.randn(count, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.3
    target = torch.randn(30, dtype=torch.float64)
    numbers = {"a": torch.rand(1, count, dtype=torch.float64) + 0.5, "lambda": torch.tensor([1.2], dtype=torch.float64)}
    for number in numbers.values():
        number.requires_grad_()
    merged = reference.position(list(vectors), numbers["a"][0], numbers["lambda"][0])
    expected = torch.autograd.grad((merged - target).pow(4).sum(), list(numbers.values()))
    how: Any = toy.strategy("self_positioning")
    slopes = vectors @ (4 * (merged.detach() - target).pow(3))  # <gradient, delta_i>
    found = torch.autograd.grad(
        how.coefficients(numbers, (vectors @ vectors.T)[None])[0] @ slopes, list(numbers.values())
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("mu", [0.0, 0.05])
def test_search_equals_a_search_through_the_weights(count: int, mu: float) -> None:
    base, sources = toy.family(count)
    probe = QuadraticProbe.around(base)
    plan, _ = _prepare(base, sources, probe, steps=40, learning_rate=0.02, mu=mu)

    def loss(model: Tensor, step: int) -> Tensor:
        target = probe.targets[step % 2]
        return (model - toy.vector({**base, **target})).square().sum() / sum(t.numel() for t in target.values())

    a, length = reference.self_positioning(toy.vector(base), _deltas(base, sources), loss, 40, 0.02, mu)
    assert plan["a"][ALL] == pytest.approx(a.tolist(), abs=1e-4)
    assert plan["lambda"][ALL] == pytest.approx(float(length), abs=1e-4)


# limits


@pytest.mark.parametrize("count", [2, 3])
def test_search_finds_the_optimum(count: int) -> None:
    base, sources = toy.family(count)
    best = 1.2 * _coefficients(torch.stack(_deltas(base, sources)), [0.6, 1.5, 0.9][:count])
    probe = QuadraticProbe([_combination(base, sources, best.tolist())])
    plan, curves = _prepare(base, sources, probe, steps=150, learning_rate=0.05, mu=0.0)
    assert plan["coefficients"][ALL] == pytest.approx(best.tolist(), abs=2e-3)
    assert curves[-1][1]["loss"] < 1e-4 * curves[0][1]["loss"]


def test_each_layer_finds_its_own_optimum() -> None:
    base, sources = toy.family(2)
    one = _combination(base, sources, [0.9, 0.2])
    two = _combination(base, sources, [0.3, 0.8])
    target = {name: (one if name.startswith("embeddings") else two)[name] for name in toy.SHAPES}
    plan, _ = _prepare(
        base,
        sources,
        QuadraticProbe([target]),
        granularity=TensorGranularity.layer,
        steps=150,
        learning_rate=0.05,
        mu=0.0,
    )
    assert plan["lambda"].keys() == {"embeddings", "encoder.layer.0", "encoder.layer.1"}
    assert plan["coefficients"]["embeddings.word.weight"] == pytest.approx([0.9, 0.2], abs=5e-3)
    assert plan["coefficients"]["encoder.layer.0.dense.weight"] == pytest.approx([0.3, 0.8], abs=5e-3)


def test_a_larger_number_moves_away_as_printed() -> None:
    square = torch.eye(2, dtype=torch.float64)
    assert _coefficients(square, [1, 1]).tolist() == pytest.approx([0.5**0.5] * 2)
    # a_1 = 2, a_2 = 1: two thirds of the right angle away from V_1
    assert _coefficients(square, [2, 1]).tolist() == pytest.approx([0.5, 0.75**0.5])


def test_the_start_favours_the_last_so_the_order_matters() -> None:
    near = torch.eye(3, dtype=torch.float64) * 1e-3 + 1
    assert _coefficients(near, [1, 1, 1]).tolist() == pytest.approx([0.25, 0.25, 0.5], abs=1e-6)
    base, sources = toy.family(3)
    probe = QuadraticProbe.around(base)
    there = _prepare(base, sources, probe, steps=5)[0]["coefficients"][ALL]
    back = _prepare(base, sources[::-1], probe, steps=5)[0]["coefficients"][ALL]
    assert max(abs(x - y) for x, y in zip(there, back[::-1], strict=True)) > 0.1


@pytest.mark.parametrize("other", [[2.0, 0.0], [1.0, 1e-9], [-1.0, 0.0], [0.0, 0.0]])
def test_where_no_arc_is_defined_the_line_is(other: list[float]) -> None:
    vectors = torch.tensor([[1.0, 0.0], other], dtype=torch.float64)
    a = torch.tensor([[3.0, 1.0]], dtype=torch.float64, requires_grad=True)
    how: Any = toy.strategy("self_positioning")
    found = how.coefficients({"a": a, "lambda": torch.ones(1, dtype=torch.float64)}, (vectors @ vectors.T)[None])
    assert found[0].tolist() == pytest.approx([0.25, 0.75], abs=1e-6)
    (slope,) = torch.autograd.grad(found[0, 1], a)
    assert slope[0].tolist() == pytest.approx([1 / 16, -3 / 16], abs=1e-6)


def test_mu_shortens_the_norm() -> None:
    base, sources = toy.family(2)
    probe = QuadraticProbe([_combination(base, sources, [0.7, 0.7])])
    norms = [
        _prepare(base, sources, probe, steps=60, learning_rate=0.05, mu=mu)[1][-1][1]["norm"]
        for mu in (0.0, 0.001, 0.004)
    ]
    assert norms[0] > 1.02 * norms[1] > 1.02**2 * norms[2] > 0


def test_what_is_logged() -> None:
    base, sources = toy.family(3)
    plan, curves = _prepare(base, sources, QuadraticProbe.around(base), steps=3)
    assert [step for step, _ in curves] == [0, 1, 2]
    each = {f"{key}/s{number}" for key in ("a", "coefficient") for number in range(3)}
    assert curves[0][1].keys() == {"loss", "norm", "lambda", *each}
    assert curves[0][1]["lambda"] == curves[0][1]["a/s1"] == 1
    start = reference.position(_deltas(base, sources), torch.ones(3, dtype=torch.float64), torch.ones(()))
    assert curves[0][1]["norm"] == pytest.approx(float(start.norm()))
    assert plan["path"][0]["coefficients"] == pytest.approx(
        _coefficients(torch.stack(_deltas(base, sources)), [1, 1, 1]).tolist()
    )


# refusal


@pytest.mark.parametrize("mu", [-0.1, float("nan")])
def test_refusal(mu: float) -> None:
    with pytest.raises(ConfigError, match=r"mu=.* (would reward a large norm|must be a finite number)"):
        toy.strategy("self_positioning", mu=mu)
