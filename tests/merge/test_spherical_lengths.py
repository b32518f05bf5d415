"""The law of the merges on the sphere: no sources make the result longer than a constant times the longest source."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_embed.merge import Of, RowGranularity, Weighting, along, arc, facing, smooth_step
from lightning_embed.merge.layer_names import layer_of
from lightning_embed.merge.methods.spherical import LONGEST
from tests.merge import toy

MOST = {"slerp": LONGEST, "nuslerp": LONGEST, "multislerp": 1.0, "karcher": 1.0}
"""The constant of each word."""
ROUNDING = 1e-3


def _random(count: int, size: int, draw: torch.Generator) -> Tensor:
    return torch.randn(count, size, generator=draw, dtype=torch.float64)


def _one_line(count: int, size: int, draw: torch.Generator) -> Tensor:
    """All on one line: 1, -0.9999, -1 ..."""
    values = torch.tensor([1.0, -0.9999, -1.0, 0.9, -0.99, 1.0001], dtype=torch.float64)
    return values[torch.randperm(6, generator=draw)[:count], None] * _random(1, size, draw)


def _opposite(count: int, size: int, draw: torch.Generator) -> Tensor:
    return _random(1, size, draw) * torch.tensor([1.0, -1.0] * 3, dtype=torch.float64)[:count, None]


def _nearly_opposite(count: int, size: int, draw: torch.Generator) -> Tensor:
    near = 10 ** (-9 * torch.rand(count, 1, generator=draw, dtype=torch.float64))
    return _opposite(count, size, draw) + near * _random(count, size, draw)


def _of_different_lengths(count: int, size: int, draw: torch.Generator) -> Tensor:
    lengths = 10 ** (16 * torch.rand(count, 1, generator=draw, dtype=torch.float64) - 12)
    return lengths * _nearly_opposite(count, size, draw)


def _with_zeros(count: int, size: int, draw: torch.Generator) -> Tensor:
    return _random(count, size, draw) * (torch.rand(count, 1, generator=draw) > 0.5)


def _almost_cancelling(count: int, size: int, draw: torch.Generator) -> Tensor:
    """The last vector is the negative sum of the others, up to little."""
    vectors = _random(count, size, draw)
    vectors[-1] = -vectors[:-1].sum(0) * (1 + 1e-7 * float(torch.rand((), generator=draw)))
    return vectors


def _equal(count: int, size: int, draw: torch.Generator) -> Tensor:
    return _random(1, size, draw).repeat(count, 1)


CASES = [
    _random, _one_line, _opposite, _nearly_opposite, _of_different_lengths, _with_zeros, _almost_cancelling, _equal,
]  # fmt: skip
SIZES = (1, 2, 3, 8)
Case = Callable[[int, int, torch.Generator], Tensor]


def _weights(count: int, draw: torch.Generator) -> list[float]:
    weights: list[float] = (torch.rand(count, generator=draw, dtype=torch.float64) ** 4).tolist()
    return [weight / sum(weights) for weight in weights]


def _of_words(*counts: int) -> pytest.MarkDecorator:
    pairs = [(word, count) for word in MOST for count in counts if word != "nuslerp" or count == 2]
    return pytest.mark.parametrize(("word", "count"), pairs)


@_of_words(2, 3, 4, 5, 6)
@pytest.mark.parametrize("case", CASES)
def test_no_sources_make_it_longer(word: str, count: int, case: Case) -> None:
    draw, how = torch.Generator().manual_seed(count), toy.strategy(word)
    for trial in range(16):
        vectors = case(count, SIZES[trial % 4], draw).float().double()
        found = torch.tensor(
            toy.coefficients(how, vectors.tolist(), _weights(count, draw) if trial % 3 else [1 / count] * count)
        )
        longest = float(vectors.norm(dim=1).max())
        assert float((found.double() @ vectors).norm()) <= MOST[word] * longest * (1 + ROUNDING), vectors.tolist()


@_of_words(2, 6)
@pytest.mark.parametrize("granularity", list(RowGranularity))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_files_make_it_longer(
    word: str, count: int, granularity: RowGranularity, dtype: torch.dtype, tmp_path: Path
) -> None:
    """Files of every kind of vectors, each a parameter of its own, as deltas of a base."""
    draw, of = torch.Generator().manual_seed(count), Of.delta if count < 6 else Of.weights
    shapes = [(case, size) for case in CASES for size in SIZES]
    found = {f"encoder.layer.{n % 5}.{n}": case(count, size, draw).to(dtype) for n, (case, size) in enumerate(shapes)}
    found |= {
        f"encoder.layer.6.{c.__name__}": torch.stack([c(count, 3, draw) for _ in range(4)], 1).to(dtype) for c in CASES
    }
    base = {name: torch.randn(vectors.shape[1:], generator=draw).to(dtype) for name, vectors in found.items()}
    origin = base if of == Of.delta else {name: torch.zeros_like(tensor) for name, tensor in base.items()}
    sources = [{name: origin[name] + vectors[n] for name, vectors in found.items()} for n in range(count)]
    merged = toy.merge(tmp_path, toy.strategy(word, of=of, granularity=granularity), sources, origin)

    def lengths(tensors: Any) -> dict[str, Tensor]:
        """|tensor - base| of each part, squared and summed as the granularity says."""
        squares: dict[str, Tensor] = {}
        for name, start in origin.items():
            square = (tensors[name].float() - start.float()).double().square()
            rows = granularity == RowGranularity.row and square.dim() > 1
            part = {RowGranularity.model: "", RowGranularity.layer: layer_of(name)}.get(granularity, name)
            squares[part] = squares.get(part, torch.zeros(())) + (square.sum(1) if rows else square.sum())
        return {part: square.sqrt() for part, square in squares.items()}

    each = [lengths(source) for source in sources]
    rounding = 1e-6 * max(float(tensor.float().abs().max()) for tensor in origin.values())
    for part, length in lengths(merged).items():
        longest = torch.stack([own[part] for own in each]).amax(0)
        assert bool((length <= MOST[word] * longest * (1 + ROUNDING) + rounding).all()), part


@pytest.mark.parametrize("sources", [[1.0, -0.9999, -1.0], [1.0, -0.9999, -1.0, 0.9, 0.99], [1.0, -0.9999999, 1.0]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_one_line_gives_its_average(sources: list[float], dtype: torch.dtype, shift: float, tmp_path: Path) -> None:
    """One-element deltas: 1, -0.9999, -1 gave -12,216."""
    base = {"scale": torch.tensor([shift]).to(dtype)}
    models = [{"scale": (base["scale"] + value).to(dtype)} for value in sources]
    deltas = [float(model["scale"].float() - base["scale"].float()) for model in models]
    merged = toy.merge(tmp_path, toy.strategy("slerp"), models, base)["scale"] - base["scale"].float()
    assert float(merged) == pytest.approx(sum(deltas) / len(deltas), abs=1e-5)


@pytest.mark.parametrize("word", ["slerp", "nuslerp"])
@pytest.mark.parametrize("degrees", [168.1, 170, 175, 179, 179.4, 179.99, 180])
@pytest.mark.parametrize("length", [1e-6, 0.1, 0.5, 1.0, 3.0, 1e6])
def test_two_are_never_shortened(word: str, degrees: float, length: float) -> None:
    """Lengths 1 and 0.1 at 179.4 degrees gave 90."""
    angle = math.radians(degrees)
    vectors = [[1.0, 0.0], [length * math.cos(angle), length * math.sin(angle)]]
    for weight in (0.01, 0.1, 0.5, 0.8, 0.999):
        found = toy.coefficients(toy.strategy(word), vectors, [1 - weight, weight])
        reached = float((torch.tensor(found, dtype=torch.float64) @ torch.tensor(vectors, dtype=torch.float64)).norm())
        assert reached < 0.99 * LONGEST * max(1.0, length)


@pytest.mark.parametrize("degrees", [0.1, 10, 90, 150, 160, 167.9])
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_up_to_168_degrees_it_is_the_formula_bit_for_bit(degrees: float, share: float) -> None:
    one, cosine = (
        torch.ones((), dtype=torch.float64),
        torch.tensor(math.cos(math.radians(degrees)), dtype=torch.float64),
    )
    angle = cosine.acos()
    found = arc(one, one, cosine, share)
    assert [float(c) for c in found] == [float((s * angle).sin() / angle.sin()) for s in (1 - share, share)]


@pytest.mark.parametrize("degrees", [30.0, 120.0, 168.0, 169.0, 174.0, 178.0, 179.5, 179.9])
@pytest.mark.parametrize("share", [-0.7, 0.3, 0.5, 1.4])
def test_the_derivative_is_finite_and_right(degrees: float, share: float) -> None:
    """`self_positioning` differentiates through arcs."""
    inputs = [1.3, 0.4, math.sqrt(1.3 * 0.4) * math.cos(math.radians(degrees)), share]
    tensors = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in inputs]
    assert torch.autograd.gradcheck(arc, tensors, eps=1e-9, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("other", [[-1.0, 0.0], [-1.0, 1e-9], [-1.0, 1e-7], [-0.1, 1e-5], [1.0, 0.0], [0.0, 0.0]])
def test_the_derivative_is_finite_where_no_arc_is_defined(other: list[float]) -> None:
    vectors = torch.tensor([[1.0, 0.0], other, [0.3, 0.4]], dtype=torch.float64)
    shares = torch.tensor([0.5, 0.4], dtype=torch.float64, requires_grad=True)
    found = along(vectors @ vectors.T, list(shares)) @ vectors
    (slope,) = torch.autograd.grad(found.sum(), shares)
    assert slope.isfinite().all()
    assert float(slope.abs().max()) < 10


@_of_words(2, 3, 5)
@pytest.mark.parametrize("case", [_opposite, _one_line, _nearly_opposite])
def test_little_changes_of_the_sources_change_little(word: str, count: int, case: Case) -> None:
    """The rounding of float32 is 6e-8; before, it decided on which side of the sphere the result was."""
    draw, how = torch.Generator().manual_seed(7), toy.strategy(word)
    for _ in range(8):
        vectors = case(count, 8, draw)
        moved = vectors + 1e-8 * _random(count, 8, draw)
        there, back = (
            torch.tensor(toy.coefficients(how, v.tolist(), [1.0] * count), dtype=torch.float64) @ v
            for v in (vectors, moved)
        )
        assert float((there - back).norm()) < 1e-3 * float(vectors.norm(dim=1).max())


@pytest.mark.parametrize("count", [2, 3, 4, 6])
@pytest.mark.parametrize("case", CASES)
def test_a_search_goes_nowhere_beyond(count: int, case: Case) -> None:
    """Numbers of any sign, with sums of zero too: `self_positioning` divides by a_1 + a_2."""
    draw, how = torch.Generator().manual_seed(count), toy.strategy("self_positioning")
    for trial in range(8):
        vectors = case(count, SIZES[trial % 4], draw)
        a = 2 * _random(1, count, draw)
        if trial % 2:
            a[0, 1] = -a[0, 0] * (1, 1 + 1e-9, 0.999)[trial % 3]
        a.requires_grad_()
        numbers = {"a": a, "lambda": torch.full((1,), 1.3, dtype=torch.float64)}
        found = how.coefficients(numbers, (vectors @ vectors.T)[None])[0]  # type: ignore[attr-defined]
        (slope,) = torch.autograd.grad((found @ vectors).sum(), a)
        assert found.isfinite().all()
        assert slope.isfinite().all()
        longest = float(vectors.norm(dim=1).max())
        assert float((found @ vectors).norm().detach()) <= 1.3 * LONGEST * longest * (1 + ROUNDING)


@pytest.mark.parametrize("a", [[1.0, -1.0], [-1.0, 1.0], [0.0, 0.0], [0.5, -0.49999], [0.5, -0.50001], [-1.0, -1.0]])
def test_the_sum_of_two_numbers_is_no_pole(a: list[float]) -> None:
    how, vectors = toy.strategy("self_positioning"), torch.tensor([[1.0, 0.0], [1.0, 0.1]], dtype=torch.float64)
    numbers = {"a": torch.tensor([a], dtype=torch.float64), "lambda": torch.ones(1, dtype=torch.float64)}
    found = how.coefficients(numbers, (vectors @ vectors.T)[None])  # type: ignore[attr-defined]
    assert float(found.abs().max()) < 12


def test_a_chain_is_shortened_to_the_bound_and_no_further() -> None:
    """Shares outside [0, 1] lead far along a line; the direction stays."""
    line = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    found = along(line @ line.T, [30.0, 0.0]) @ line
    assert found.tolist() == pytest.approx([-LONGEST, 0.0])


@pytest.mark.parametrize(("x", "expected"), [(-1.0, 0), (0.0, 0), (0.5, 0.5), (0.25, 0.15625), (1.0, 1), (9.0, 1)])
def test_smooth_step(x: float, expected: float) -> None:
    assert float(smooth_step(torch.tensor(x))) == expected


def test_facing() -> None:
    cosines = torch.tensor([1.0, 0.0, -0.9, -0.978, -0.989, -1.0], dtype=torch.float64)
    assert facing(cosines).tolist() == pytest.approx([1, 1, 1, 1, 0.5, 0])


def test_weights_of_zero(tmp_path: Path) -> None:
    """The longest source counts, whatever its weight."""
    how = toy.strategy("slerp", weighting=Weighting.given, weights=[0.0, 0.0, 1.0])
    base, sources = toy.family(3)
    torch.testing.assert_close(toy.vector(toy.merge(tmp_path, how, sources, base)), toy.vector(sources[2]))
