"""Losses between sources, on paraboloids."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge.diagnosis.geometry import Geometry, summarise
from lightning_embed.merge.diagnosis.landscape import Landscape, Walk, _findings, survey
from lightning_embed.merge.diagnosis.options import DoctorOptions
from lightning_embed.merge.examine import measure_groups
from tests.merge import toy
from tests.merge.toy_probe import QuadraticProbe

BASE = {"layer.0.weight": torch.zeros(2, 2)}
ONE = {"layer.0.weight": torch.tensor([[2.0, 0.0], [0.0, 0.0]])}
OTHER = {"layer.0.weight": torch.tensor([[0.5, math.sqrt(0.75)], [0.0, 0.0]])}  # half as long, 60 degrees apart
THIRD = {"layer.0.weight": torch.tensor([[0.0, 0.0], [0.0, 1.0]])}


@dataclass(frozen=True)
class Hill(QuadraticProbe):
    """The opposite of a paraboloid."""

    def loss(self, parameters: Mapping[str, Tensor], batch: int) -> float:
        return 3 - super().loss(parameters, batch)


def geometry(*sources: toy.Tensors) -> Geometry:
    return summarise(measure_groups([toy.InMemory(s) for s in sources], toy.InMemory(BASE)))


def look(probe: QuadraticProbe, *sources: toy.Tensors, track: Any = iter, **options: Any) -> Landscape:
    models = [toy.InMemory(source, f"s{number}") for number, source in enumerate(sources)]
    return survey(models, toy.InMemory(BASE), probe, geometry(*sources), DoctorOptions(**options), track)


def test_paths_go_from_the_base_to_every_source_and_from_source_to_source() -> None:
    found = look(QuadraticProbe([ONE, OTHER]), ONE, OTHER, THIRD, points=3, batches=2)
    ends = [(walk.start, walk.end) for walk in found.walks]
    assert ends == [("base", "s0"), ("base", "s1"), ("base", "s2"), ("s0", "s1"), ("s0", "s2"), ("s1", "s2")]
    walk = found.walks[3]
    assert walk.shares == [0, 0.25, 0.5, 0.75, 1]
    squared = float((ONE["layer.0.weight"] - OTHER["layer.0.weight"]).square().mean())
    assert walk.losses["task 0"] == pytest.approx([share**2 * squared for share in walk.shares])
    assert walk.losses["task 1"] == pytest.approx([(1 - share) ** 2 * squared for share in walk.shares])
    assert walk.losses["mean"][2] == pytest.approx(squared / 4)
    assert found.plane is None


def test_a_valley_has_no_barrier_and_its_lowest_point_is_named() -> None:
    found = look(QuadraticProbe([ONE, OTHER]), ONE, OTHER, points=3, batches=2)
    assert found.walks[2].barrier()[0] == 0
    assert found.findings == [
        "Between 'base' and 's0' there is no barrier; the loss is lowest 100% of the way on task 0, 25% of the way on task 1.",
        "Between 's0' and 's1' there is no barrier; the loss is lowest 0% of the way on task 0, 100% of the way on task 1.",
    ]


def test_a_hill_is_a_barrier_of_known_height() -> None:
    found = look(Hill([ONE]), ONE, OTHER, points=3, batches=1)
    squared = float((ONE["layer.0.weight"] - OTHER["layer.0.weight"]).square().mean())
    height, share = found.walks[2].barrier()
    assert share == 0.5
    assert height == pytest.approx(squared / 4)
    assert found.findings[-1] == (
        "Between 's0' and 's1' there is a barrier: 50% of the way the loss is 0.19 above the line of its ends. A plain average will suffer."
    )


def test_the_barrier_that_is_told_is_the_highest_for_its_loss() -> None:
    """Losses have scales of their own: CoSENT's 5 to 5.06 is nothing, and InfoNCE's 0.1 to 0.15 is half of it."""
    walk = Walk(
        "a", "b", [0.0, 0.5, 1.0], {"mean": [2.55, 2.6, 2.55], "retrieval": [0.1, 0.15, 0.1], "sts": [5.0, 5.06, 5.0]}
    )
    assert next(_findings(walk)).startswith(
        "Between 'a' and 'b' there is a barrier: 50% of the way the loss on retrieval is 0.05 above"
    )
    below = Walk("a", "b", [0.0, 0.5, 1.0], {"mean": [-5.0, -5.0, -5.0]})
    assert "no barrier" in next(_findings(below))


def test_the_plane_has_the_true_angle_and_lengths() -> None:
    plane = look(QuadraticProbe([ONE]), ONE, OTHER, grid=5, batches=1).plane
    assert plane is not None
    (x1, y1), (x2, y2) = plane.places
    assert max(x1, y1) == pytest.approx(0.7)
    assert math.hypot(x2, y2) == pytest.approx(math.hypot(x1, y1) / 2)
    assert math.degrees(math.atan2(y2, x2) - math.atan2(y1, x1)) == pytest.approx(60)
    assert math.degrees(math.atan2(y2, x2) + math.atan2(y1, x1)) == pytest.approx(90)  # about the diagonal
    assert plane.ticks == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_a_cell_is_the_model_at_its_place() -> None:
    """On a paraboloid around s0, the loss is the squared distance in the picture, in the picture's unit."""
    plane = look(QuadraticProbe([ONE]), ONE, OTHER, THIRD, grid=4, batches=1).plane
    assert plane is not None
    (x, y), _ = plane.places
    unit = 2 / math.hypot(x, y)  # s0 has the length 2
    for row, v in zip(plane.losses["mean"], plane.ticks, strict=True):
        expected = [unit**2 * ((u - x) ** 2 + (v - y) ** 2) / 4 for u in plane.ticks]  # mean of 4 elements
        assert row == pytest.approx(expected, abs=1e-5)


def test_obtuse_vectors_have_room() -> None:
    against = {"layer.0.weight": torch.tensor([[-1.0, 1.0], [0.0, 0.0]])}
    plane = look(QuadraticProbe([ONE]), ONE, against, grid=2, batches=1).plane
    assert plane is not None
    assert plane.ticks[0] == min(part for place in plane.places for part in place) < 0


def test_sources_on_one_line_span_no_plane() -> None:
    longer = {name: 2 * tensor for name, tensor in ONE.items()}
    found = look(QuadraticProbe([ONE]), ONE, longer, grid=2, points=1)
    assert found.plane is None
    assert len(found.walks) == 3
    assert "lie on one line with the base and span no plane" in found.findings[-1]


def test_a_loss_that_is_not_finite_is_told() -> None:
    nowhere = {"layer.0.weight": torch.full((2, 2), math.inf)}
    with pytest.raises(ConfigError, match=r"shares \[0.0, 0.0\] of the deltas is .*inf"):
        look(QuadraticProbe([nowhere]), ONE, OTHER, points=1, batches=1)


def test_no_point_is_measured_twice_and_all_are_tracked() -> None:
    seen: list[tuple[float, ...]] = []

    def track(points: object) -> object:
        seen.extend(points)  # type: ignore[call-overload]
        return points

    look(QuadraticProbe([ONE]), ONE, OTHER, points=1, grid=2, batches=1, track=track)
    assert len(seen) == len(set(seen)) == 3 + 3 + 3  # ends, middles, and cells but the base


def test_a_landscape_is_json() -> None:
    found = look(QuadraticProbe([ONE, OTHER]), ONE, OTHER, points=1, grid=2, batches=2).as_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
