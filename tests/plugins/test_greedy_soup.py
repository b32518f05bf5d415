from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge import ALL
from tests.merge import toy
from tests.merge.toy_probe import QuadraticProbe
from tests.reference import averages as reference

BASE = toy.model(0)
PROBE = QuadraticProbe.around(BASE)


def _moved(*steps: tuple[int, float]) -> dict[str, Tensor]:
    """The base, moved in random directions: (seed, distance)."""
    model = BASE
    for seed, distance in steps:
        model = toy.near(model, seed, distance)
    return model


def _plan(sources: list[dict[str, Tensor]], **options: Any) -> Any:
    models = [toy.InMemory(source, f"s{number}") for number, source in enumerate(sources)]
    return toy.strategy("greedy_soup", **options).prepare(models, toy.InMemory(BASE), PROBE, toy.Curves())


def _score(model: Tensor) -> float:
    distances = [(model - toy.vector(BASE | target)).square().sum() / _numel() for target in PROBE.targets]
    return 100 - 100 * float(sum(distances)) / len(distances)


def _numel() -> int:
    return sum(tensor.numel() for tensor in PROBE.targets[0].values())


@pytest.mark.parametrize("seed", range(5))
def test_reference(seed: int, tmp_path: Path) -> None:
    sources = [_moved((10 * seed + number, 0.02 * (number + 1))) for number in (3, 0, 4, 1)]
    sources.append(_moved((100, 0.1)))  # the optimum of one of the tasks
    merged = toy.merge(tmp_path, toy.strategy("greedy_soup"), sources, probe=PROBE)
    expected = reference.greedy_soup([toy.vector(source) for source in sources], _score)
    assert (toy.vector(merged) - expected).abs().max() < 1e-6
    shares = _plan(sources)["coefficients"][ALL]
    assert sum(shares) == pytest.approx(1)
    assert 0 < sum(share > 0 for share in shares) < 5  # some help, some do not


def test_what_helps_is_added_and_what_does_not_is_not() -> None:
    one, other, far = _moved((100, 0.1)), _moved((101, 0.1)), _moved((7, 1.0))  # the optima of both tasks, and neither
    curves = toy.Curves()
    models = [toy.InMemory(model, name) for model, name in ((far, "far"), (one, "one"), (other, "other"))]
    plan = toy.strategy("greedy_soup").prepare(models, None, PROBE, curves)
    assert plan["coefficients"] == {ALL: [0, 0.5, 0.5]}
    assert sorted(plan["order"][:2]) == ["one", "other"]
    assert plan["order"][2] == "far"
    assert plan["own_scores"] == pytest.approx([_score(toy.vector(model)) for model in (far, one, other)], rel=1e-6)
    assert plan["scores"][1] > plan["scores"][0] > plan["scores"][2]
    assert [step for step, _ in curves] == [1, 2]
    assert [metrics["num_chosen"] for _, metrics in curves] == [2, 2]
    assert curves[1][1]["best_score"] == curves[0][1]["score"] == plan["scores"][1]


def test_a_copy_is_not_added() -> None:
    plan = _plan([_moved((7, 0.1))] * 3)
    assert plan["coefficients"] == {ALL: [1, 0, 0]}
    assert plan["order"] == ["s0", "s1", "s2"]


def test_scores_are_those_of_the_model_that_is_written(tmp_path: Path) -> None:
    """Layers are scaled while searching, too."""
    layers = ["encoder.*=0.3"]
    sources = [_moved((100, 0.1)), _moved((101, 0.1))]
    merged = toy.merge(tmp_path, toy.strategy("greedy_soup", layers=layers), sources, BASE, probe=PROBE)
    scaled = _plan(sources, layers=layers)
    assert PROBE.score(merged) == pytest.approx(max(scaled["scores"]), abs=1e-5)
    assert max(scaled["scores"]) != pytest.approx(max(_plan(sources)["scores"]), abs=1e-2)
    assert torch.equal(merged[toy.ZERO], BASE[toy.ZERO])


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="merge=greedy_soup needs data, and the run has none"):
        toy.strategy("greedy_soup").validate_inputs([None], False, False)


class NoScore(QuadraticProbe):
    """A score that is not finite, of some models."""

    bad, calls, since = float("nan"), 0, 0

    def score(self, parameters: Any) -> float:
        type(self).calls += 1
        return self.bad if type(self).calls > self.since else super().score(parameters)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("since", [0, 1, 3])
def test_a_score_that_is_not_finite_chooses_nothing(bad: float, since: int) -> None:
    NoScore.bad, NoScore.calls, NoScore.since = bad, 0, since
    models = [toy.InMemory(_moved((number, 0.1)), f"s{number}") for number in range(3)]
    with pytest.raises(ConfigError, match=r"merge=greedy_soup: the average of s\d.* has the dev score -?(nan|inf)"):
        toy.strategy("greedy_soup").prepare(models, toy.InMemory(BASE), NoScore(PROBE.targets), toy.Curves())
