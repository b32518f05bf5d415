import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lightning_embed.errors import ConfigError
from lightning_embed.merge import ALL
from tests.merge import toy
from tests.merge.toy_probe import QuadraticProbe
from tests.reference import averages as reference

BASE, SOURCES = toy.family(3)
PROBE = QuadraticProbe.around(BASE, num_tasks=3, distance=0.3)


def _plan(probe: Any = PROBE, **options: Any) -> Any:
    models = [toy.InMemory(source) for source in SOURCES]
    return toy.strategy("lm_cocktail", **options).prepare(models, toy.InMemory(BASE), probe, toy.Curves())


@dataclass(frozen=True)
class Fixed(QuadraticProbe):
    """One batch, and given losses for one model after another."""

    losses: Iterator[float] = field(default_factory=lambda: iter([]))

    def loss(self, parameters: Any, batch: int) -> float:
        return next(self.losses)


@pytest.mark.parametrize("include_base", [True, False])
@pytest.mark.parametrize("temperature", [0.02, 5.0])
def test_reference(include_base: bool, temperature: float, tmp_path: Path) -> None:
    how = toy.strategy("lm_cocktail", temperature=temperature, include_base=include_base)
    merged = toy.merge(tmp_path, how, SOURCES, BASE if include_base else None, probe=PROBE)
    candidates = [toy.vector(model) for model in (*SOURCES, *([BASE] if include_base else []))]
    losses = [sum(PROBE.loss(model, batch) for batch in range(3)) / 3 for model in (*SOURCES, BASE)]
    expected = reference.lm_cocktail(candidates, losses[: len(candidates)], temperature)
    assert (toy.vector(merged) - expected).abs().max() < 1e-6


def test_values_a_human_can_check() -> None:
    losses = [0.0, math.log(2), math.log(4), math.log(8)]  # the last is the base's
    plan = _plan(Fixed([{}], iter(losses)), temperature=1.0)
    assert plan["coefficients"][ALL] == pytest.approx([8 / 15, 4 / 15, 2 / 15])
    assert plan["weights"] == pytest.approx([8 / 15, 4 / 15, 2 / 15, 1 / 15])
    assert plan["losses"] == losses
    plan = _plan(Fixed([{}], iter(losses)), temperature=2.0, include_base=False)
    assert [weight / plan["weights"][0] for weight in plan["weights"]] == pytest.approx([1, 0.5**0.5, 0.5])


def test_the_lower_the_temperature_the_more_the_best_takes() -> None:
    plan = _plan(temperature=1e-6)
    best = min(plan["losses"])
    assert plan["weights"] == pytest.approx([float(loss == best) for loss in plan["losses"]])
    assert _plan(temperature=1e6)["weights"] == pytest.approx([0.25] * 4, rel=1e-4)


def test_batches_at_most() -> None:
    assert _plan(num_batches=1)["losses"][0] == pytest.approx(PROBE.loss(SOURCES[0], 0), rel=1e-5)
    assert _plan(num_batches=2)["losses"][0] != _plan(num_batches=3)["losses"][0] == _plan()["losses"][0]


def test_the_base_is_needed_only_as_a_candidate() -> None:
    with pytest.raises(ConfigError, match="merge=lm_cocktail needs the base and got none"):
        toy.strategy("lm_cocktail").validate_inputs([None], False, True)
    toy.strategy("lm_cocktail", include_base=False).validate_inputs([None], False, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature=0.0 must be a number above 0"),
        ({"temperature": math.inf}, "temperature=inf must be a finite number"),
        ({"num_batches": 0}, "num_batches=0 must be 1 or more"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"merge=lm_cocktail: {message}"):
        toy.strategy("lm_cocktail", **options)


def test_a_model_without_a_loss_is_refused() -> None:
    with pytest.raises(ConfigError, match="merge=lm_cocktail: 'memory' has the loss nan on the probe"):
        _plan(Fixed([{}], iter([math.nan])))
