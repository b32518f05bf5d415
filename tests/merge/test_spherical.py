import math
from pathlib import Path

import pytest
import torch

from lightning_embed.errors import ConfigError
from lightning_embed.merge import Of, RowGranularity, Weighting, arc
from lightning_embed.merge.blocks import stream
from lightning_embed.merge.layer_names import layer_of
from tests.merge import toy
from tests.reference import sphere as reference

WEIGHTS = [1.0, 2.0, 4.0]
WORDS = ["slerp", "multislerp", "karcher"]


def _expected(word: str, vectors: list[torch.Tensor]) -> torch.Tensor:
    flat = [vector.double().flatten() for vector in vectors]
    return getattr(reference, word)(flat, WEIGHTS).view_as(vectors[0]).float()


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("of", list(Of))
@pytest.mark.parametrize("granularity", list(RowGranularity))
def test_reference(
    word: str, of: Of, granularity: RowGranularity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each vector on its own: whole models, layers, parameters or rows, however they are cut into blocks."""
    monkeypatch.setattr(stream, "BLOCK_ELEMENTS", 50)
    base, sources = toy.family(3)
    origin = base if of == Of.delta else {name: torch.zeros_like(tensor) for name, tensor in base.items()}
    how = toy.strategy(word, of=of, granularity=granularity, weighting=Weighting.given, weights=WEIGHTS)
    merged = toy.merge(tmp_path, how, sources, base if of == Of.delta else None)
    deltas = [{name: source[name] - origin[name] for name in toy.SHAPES} for source in sources]
    for name, shape in toy.SHAPES.items():
        if granularity == RowGranularity.row and len(shape) > 1:
            rows = [_expected(word, [delta[name][row] for delta in deltas]) for row in range(shape[0])]
            expected = torch.stack(rows)
        elif granularity in (RowGranularity.row, RowGranularity.tensor):
            expected = _expected(word, [delta[name] for delta in deltas])
        else:
            whole = granularity == RowGranularity.model
            same = [other for other in toy.SHAPES if whole or layer_of(other) == layer_of(name)]
            joined = _expected(word, [torch.cat([delta[other].flatten() for other in same]) for delta in deltas])
            sizes = [deltas[0][other].numel() for other in same]
            expected = joined.split(sizes)[same.index(name)].view(shape)
        torch.testing.assert_close(merged[name], origin[name] + expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("granularity", list(RowGranularity))
def test_zero_vectors_survive(word: str, granularity: RowGranularity, tmp_path: Path) -> None:
    base, sources = toy.family(3)
    frozen = "encoder.layer.0.dense.bias"
    for source in sources:
        source[frozen] = base[frozen]
    merged = toy.merge(tmp_path / "all", toy.strategy(word, of=Of.delta, granularity=granularity), sources, base)
    assert torch.equal(merged[frozen], base[frozen])
    weights = toy.strategy(word, of=Of.weights, granularity=granularity)
    assert torch.equal(toy.merge(tmp_path / "weights", weights, sources)[toy.ZERO], base[toy.ZERO])


def test_an_arc_a_human_can_check() -> None:
    one, zero = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    left, right = arc(one, 4 * one, zero, 2 / 3)  # 60 of 90 degrees
    assert (float(left), float(right)) == pytest.approx((0.5, math.sqrt(3) / 2))
    for square, product in [(one, one), (one, -one), (zero, zero)]:
        assert [float(part) for part in arc(one, square, product, 0.25)] == [0.75, 0.25]


def test_refusals() -> None:
    for word in WORDS:
        with pytest.raises(ConfigError, match=rf"merge={word}: weights=\[1.0, -0.5\] has a negative number"):
            toy.strategy(word, weighting=Weighting.given, weights=[1.0, -0.5])
        with pytest.raises(ConfigError, match=f"merge={word} needs the base and got none"):
            toy.strategy(word, of=Of.delta).validate_inputs([None] * 2, False, False)
        toy.strategy(word, of=Of.weights).validate_inputs([None] * 2, False, False)
