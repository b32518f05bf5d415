"""What all learnt combinations have in common, shown on the simplest: the coefficients themselves are learnt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge import ALL, Learned, Numbers, Plan, TensorGranularity
from tests.merge import toy
from tests.merge.toy_probe import QuadraticProbe

WORD = "embeddings.word.weight"


@dataclass(frozen=True)
class Plain(Learned):
    """Not registered."""

    def start(self, num_groups: int, num_sources: int) -> dict[str, Tensor]:
        return {"c": torch.full((num_groups, num_sources), 0.5, dtype=torch.float64)}

    def coefficients(self, numbers: Numbers, grams: Tensor) -> Tensor:
        return numbers["c"]


class Watched(QuadraticProbe):
    """Remembers the numbers of the batches, and whether it gets the same tensors each time."""

    def loss_and_gradient(self, parameters: Mapping[str, Tensor], batch: int) -> tuple[float, dict[str, Tensor]]:
        seen.append((batch, parameters[WORD].data_ptr()))
        return super().loss_and_gradient(parameters, batch)


seen: list[tuple[int, int]] = []


def _prepare(how: Learned, probe: QuadraticProbe | None = None, count: int = 2) -> tuple[Plan, toy.Curves]:
    base, sources = toy.family(count)
    models = [toy.InMemory(source, f"s{number}") for number, source in enumerate(sources)]
    curves = toy.Curves()
    return how.prepare(models, toy.InMemory(base), probe or QuadraticProbe.around(base), curves), curves


def _target(*coefficients: Sequence[float]) -> QuadraticProbe:
    """The optimum is at these coefficients of two sources: of all, or of embeddings and encoder."""
    base, sources = toy.family(2)

    def shares(name: str) -> Sequence[float]:
        return coefficients[0 if name.startswith("embeddings") else -1]

    return QuadraticProbe(
        [{n: base[n] + sum(c * (s[n] - base[n]) for c, s in zip(shares(n), sources, strict=True)) for n in toy.SHAPES}]
    )


@pytest.mark.parametrize("granularity", list(TensorGranularity))
def test_finds_the_optimum_of_each_group(granularity: TensorGranularity) -> None:
    different = granularity != TensorGranularity.model
    probe = _target([0.9, 0.2], [0.3, 0.8]) if different else _target([0.9, 0.2])
    plan, _ = _prepare(Plain(granularity=granularity, learning_rate=0.05, steps=150), probe)
    found = plan["coefficients"]
    assert found[WORD if different else ALL] == pytest.approx([0.9, 0.2], abs=2e-3)
    if different:
        assert found["encoder.layer.0.dense.weight"] == pytest.approx([0.3, 0.8], abs=2e-3)
        assert found.keys() == {*toy.SHAPES, toy.ZERO}


def test_sees_what_layers_will_scale() -> None:
    rules = [r"embeddings.*=0.5", r".*=2"]
    how = Plain(granularity=TensorGranularity.layer, learning_rate=0.05, steps=150, layers=rules)
    found = _prepare(how, _target([0.4, 0.2]))[0]["coefficients"]
    assert found[WORD] == pytest.approx([0.8, 0.4], abs=2e-3)
    assert found["encoder.layer.0.dense.weight"] == pytest.approx([0.2, 0.1], abs=2e-3)


def test_batches_are_numbered_by_steps_and_memory_is_used_again() -> None:
    seen.clear()
    _prepare(Plain(steps=7), Watched(QuadraticProbe.around(toy.family(1)[0]).targets))
    assert [batch for batch, _ in seen] == list(range(7))
    assert len({place for _, place in seen}) == 1


@pytest.mark.parametrize(("steps", "points"), [(5, 5), (100, 100), (120, 60)])
def test_path_is_thinned(steps: int, points: int) -> None:
    path = _prepare(Plain(steps=steps))[0]["path"]
    assert len(path) == points
    assert path[0]["step"] == 0
    assert path[0]["coefficients"] == pytest.approx([0.5, 0.5])
    assert path[0].keys() == {"step", "loss", "norm", "coefficients"}
    assert path[-1]["loss"] < path[0]["loss"]


def test_path_of_groups_is_the_nearest_point_of_common_coefficients() -> None:
    how = Plain(granularity=TensorGranularity.layer, learning_rate=0.05, steps=150)
    plan, curves = _prepare(how, _target([0.9, 0.2], [0.3, 0.8]))
    base, sources = toy.family(2)
    deltas = torch.stack([toy.vector(source) - toy.vector(base) for source in sources], dim=1)
    shares = {name: plan["coefficients"][name] for name in base if base[name].is_floating_point()}
    merged = toy.vector({n: sum(c * (s[n] - base[n]) for c, s in zip(shares[n], sources, strict=True)) for n in shares})
    expected = torch.linalg.lstsq(deltas, merged[:, None]).solution[:, 0]
    assert plan["path"][-1]["coefficients"] == pytest.approx(expected.tolist(), abs=2e-3)
    assert curves[-1][1]["norm"] == pytest.approx(float(merged.norm()), rel=1e-3)


def test_the_same_search_twice() -> None:
    assert _prepare(Plain(steps=20))[0] == _prepare(Plain(steps=20))[0]


# refusal


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, r"learning_rate=0.0 must be above 0"),
        ({"learning_rate": float("inf")}, r"learning_rate=inf must be above 0"),
        ({"steps": 0}, r"steps=0 must be at least 1"),
    ],
)
def test_refusal(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Plain(**options)


def test_loss_that_is_not_finite() -> None:
    probe = _target([1e200, 0.0])
    with pytest.raises(ConfigError, match=r"the loss at step 0 is inf. Give a smaller learning_rate"):
        _prepare(Plain(), probe)


def test_needs_base_and_probe() -> None:
    with pytest.raises(ConfigError, match=r"needs the base and got none"):
        Plain().validate_inputs([None] * 2, False, True)
    with pytest.raises(ConfigError, match=r"needs data, and the run has none"):
        Plain().validate_inputs([None] * 2, True, False)


class Louder(QuadraticProbe):
    """The second task's loss has numbers a thousand times as large."""

    def loss_and_gradient(self, parameters: Mapping[str, Tensor], batch: int) -> tuple[float, dict[str, Tensor]]:
        loss, gradient = super().loss_and_gradient(parameters, batch)
        factor = 1000.0 if self.task(batch) == "task 1" else 1.0
        return factor * loss, {name: factor * tensor for name, tensor in gradient.items()}


def test_balanced_tasks_count_alike_whatever_the_size_of_their_losses() -> None:
    base, _ = toy.family(2)
    quiet, loud = (kind.around(base) for kind in (QuadraticProbe, Louder))
    found = [
        _prepare(Plain(steps=60, learning_rate=0.05, granularity=TensorGranularity.model, balance=balance), probe)[0]
        for probe, balance in ((quiet, True), (loud, True), (loud, False))
    ]
    coefficients = [torch.tensor(plan["c"][ALL]) for plan in found]
    torch.testing.assert_close(coefficients[0], coefficients[1])
    assert (coefficients[2] - coefficients[1]).abs().max() > 0.01
    assert found[1]["path"][0]["loss"] == pytest.approx(1.0, rel=1e-6), "a task's loss over itself"


@dataclass(frozen=True, kw_only=True)
class Hidden(QuadraticProbe):
    """A loss that stays finite however far away the model is."""

    def loss_and_gradient(self, parameters: Mapping[str, Tensor], batch: int) -> tuple[float, dict[str, Tensor]]:
        loss, gradient = super().loss_and_gradient(parameters, batch)
        return (
            (1.0, {name: torch.ones_like(value) for name, value in gradient.items()}) if loss > 1 else (loss, gradient)
        )


@pytest.mark.parametrize("rate", [1e4, 1e8, 1e18, 1e30, 1e150, 1e300])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_search_that_diverges_is_no_merge(rate: float, steps: int) -> None:
    """Also in its last step, after which no loss is measured, and where the loss does not show it."""
    for probe in (None, Hidden(QuadraticProbe.around(toy.family(2)[0]).targets)):
        with pytest.raises(
            ConfigError, match=r"(the loss at step \d is (nan|inf)|the search diverged).* smaller learning_rate"
        ):
            _prepare(Plain(learning_rate=rate, steps=steps), probe)


@pytest.mark.parametrize("rate", [1e-3, 0.1, 1.0, 5.0])
def test_a_large_rate_is_no_divergence(rate: float) -> None:
    _prepare(Plain(learning_rate=rate, steps=3))
