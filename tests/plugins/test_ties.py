import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge import Weighting
from tests.merge import toy
from tests.plugins import block
from tests.reference import task_vectors as reference


def _merge(deltas: list[list[float]], **options: object) -> list[float]:
    merged: list[float] = block.merge(toy.strategy("ties", **options), deltas).tolist()
    return merged


@pytest.mark.parametrize("density", [0.05, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [0.5, 3.0, 1.0], [1.0, 0.0, 2.0]])
def test_reference(density: float, weights: list[float], tmp_path: Path) -> None:
    base, sources = toy.family(3)
    how = toy.strategy("ties", density=density, scale=1.2, weighting=Weighting.given, weights=weights)
    merged = toy.merge(tmp_path, how, sources, base)
    for name in toy.SHAPES:
        deltas = [(source[name].double() - base[name].double()).flatten() for source in sources]
        expected = base[name].double().flatten() + reference.ties(deltas, weights, density, 1.2)
        torch.testing.assert_close(merged[name].double().flatten(), expected, rtol=0, atol=1e-6)


def test_values_a_human_can_check() -> None:
    deltas = [[4.0, 1.0, 3.0, 0.5], [2.0, -3.0, 0.1, 0.6], [-1.0, -5.0, 0.2, 4.0]]
    # kept: 4 . 3 . | 2 -3 . . | . -5 . 4
    assert _merge(deltas, density=0.5) == pytest.approx([3, -4, 3, 4])
    # all vote: 4 + 2 - 1, 1 - 3 - 5, 3.3, 5.1
    assert _merge(deltas, density=1.0, scale=2.0) == pytest.approx([6, -8, 2.2, 3.4])


def test_weights_decide_the_election() -> None:
    given = {"density": 1.0, "weighting": Weighting.given}
    assert _merge([[3.0], [-2.0]], **given, weights=[1.0, 1.0]) == [3]
    assert _merge([[3.0], [-2.0]], **given, weights=[1.0, 2.0]) == [-2]


@pytest.mark.parametrize("density", [0.01, 0.9])
def test_small_parameters_keep_something(density: float, tmp_path: Path) -> None:
    base, (source,) = toy.family(1)
    merged = toy.merge(tmp_path, toy.strategy("ties", density=density), [source], base)
    for name, shape in toy.SHAPES.items():
        kept = int(torch.count_nonzero(merged[name] - base[name]))
        assert kept == max(1, round(density * _numel(shape)))


def _numel(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def test_zeros_never_vote() -> None:
    assert _merge([[0.0, 0.0, 2.0], [0.0, 3.0, 4.0], [0.0, 0.0, 0.0]], density=1.0) == [0, 3, 3]


def test_balanced_vote_keeps_the_base() -> None:
    third = [[0.1, 0.7], [-0.1, 0.7], [0.0, -0.7]]  # with weights of 1/3 the products would not cancel
    assert _merge(third, density=1.0) == pytest.approx([0, 0.7])


def test_equal_magnitudes_are_kept_together() -> None:
    assert _merge([[1.0, -1.0, 1.0, 0.5]], density=0.25) == [1, -1, 1, 0]


def test_bfloat16_sources(tmp_path: Path) -> None:
    base, sources = toy.family(3)
    stored = [_stored(source) for source in [base, *sources]]
    how = toy.strategy("ties", density=0.5)
    merged = toy.merge(tmp_path, how, stored[1:], stored[0])
    for name in toy.SHAPES:
        deltas = [(source[name].double() - stored[0][name].double()).flatten() for source in stored[1:]]
        expected = stored[0][name].double().flatten() + reference.ties(deltas, [1, 1, 1], 0.5, 1)
        torch.testing.assert_close(merged[name].double().flatten(), expected, rtol=0, atol=1e-6)


def _stored(tensors: toy.Tensors) -> dict[str, Tensor]:
    return {name: t.bfloat16() if t.is_floating_point() else t for name, t in tensors.items()}


def test_plan_is_a_threshold_per_parameter_and_source(tmp_path: Path) -> None:
    sources = [{"w": torch.tensor([1.0, -3.0, 2.0])}, {"w": torch.tensor([0.5, 0.0, -0.25])}]
    toy.merge(tmp_path, toy.strategy("ties", density=0.67), sources, {"w": torch.zeros(3)})
    plan = json.loads((tmp_path / "merged/merge.json").read_text())["plan"]
    assert plan == {"weights": [0.5, 0.5], "thresholds": {"w": [2.0, 0.25]}}


@pytest.mark.parametrize("density", [0.0, -0.1, 1.1, float("nan")])
def test_density_that_is_no_share(density: float) -> None:
    with pytest.raises(ConfigError, match=r"merge=ties: density=.* must be (above 0 and at most 1|a finite number)"):
        toy.strategy("ties", density=density)


def test_negative_weight() -> None:
    with pytest.raises(
        ConfigError, match=r"merge=ties: weights=\[2.0, -1.0\] has a negative number, which has no meaning here"
    ):
        toy.strategy("ties", weighting=Weighting.given, weights=[2.0, -1.0])


def test_no_base() -> None:
    with pytest.raises(ConfigError, match=r"merge=ties needs the base and got none"):
        toy.strategy("ties").validate_inputs([None, None], False, False)
