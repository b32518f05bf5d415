"""Findings of the doctor, on vectors made for one rule each."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_embed.merge.blocks.stream import Block
from lightning_embed.merge.diagnosis.advice import DeltaGeometry, find
from lightning_embed.merge.diagnosis.finding import Code
from lightning_embed.merge.diagnosis.geometry import measure, summarise

NAMES = ["a", "b", "c", "d"]
E = torch.eye(100)

Findings = dict[str, dict[str, Any]]
"""Code -> facts; no rule gives a code twice."""


def findings(deltas: Sequence[Tensor], base_norm: float = 100.0, **layers: Sequence[Tensor]) -> Findings:
    """The findings on sources with these deltas in layer.0, and others in further layers, most important first."""
    base = torch.full((100,), base_norm / 10)
    groups = {"layer.0": deltas, **{name.replace("_", "."): values for name, values in layers.items()}}
    sums = {
        name: measure(Block(name, 0, base + torch.stack(list(values)), base), base) for name, values in groups.items()
    }
    return plain(DeltaGeometry(summarise(sums), NAMES[: len(deltas)]))


def plain(deltas: DeltaGeometry) -> Findings:
    """The findings as merge.json gives them back: finite JSON values."""
    found = json.loads(json.dumps([asdict(finding) for finding in find(deltas)], allow_nan=False))
    assert found == [asdict(finding) for finding in find(deltas)]
    assert len({finding["code"] for finding in found}) == len(found)
    return {finding["code"]: finding["facts"] for finding in found}


def near(value: float) -> Any:
    return pytest.approx(value, abs=0.005)


def test_orthogonal_sources() -> None:
    found = findings([E[0], 1.1 * E[1] + 0.05 * E[0]])
    assert list(found) == [Code.orthogonal, Code.few_sign_conflicts]
    assert found[Code.orthogonal] == {
        "sources": ["a", "b"],
        "lowest": near(0.05),
        "highest": near(0.05),
        "kept": near(0.72),
    }
    assert found[Code.few_sign_conflicts] == {"share": 0.0, "chance": 0.5}


def test_the_same_few_elements() -> None:
    """Where both moved, signs conflict as often as by chance: elements that neither moved do not count."""
    four = [E[0] + E[1] + E[2] + E[3], E[0] - E[1] + E[2] - E[3]]
    assert list(findings(four)) == [Code.orthogonal]


def test_the_lowest_and_the_highest_cosine() -> None:
    facts = findings([E[0], E[1] + 0.05 * E[0], E[2] + 0.1 * E[0]])[Code.orthogonal]
    assert (facts["lowest"], facts["highest"]) == (near(0.00), near(0.10))
    assert facts["sources"] == ["a", "b", "c"]


def test_parallel_sources_lose_nothing() -> None:
    found = findings([E[0] + 0.1 * E[1], E[0] - 0.1 * E[1]])
    assert list(found) == [Code.parallel]
    assert found[Code.parallel]["lowest"] == near(0.98)
    assert found[Code.parallel]["kept"] == near(1.0)


def test_between_parallel_and_orthogonal() -> None:
    found = findings([E[0] + E[1], E[0] + E[2]])
    assert list(found) == [Code.partly_shared]
    assert found[Code.partly_shared]["lowest"] == near(0.50)
    assert found[Code.partly_shared]["kept"] == near(0.87)


def test_a_long_source_dominates() -> None:
    found = findings([E[0], 3 * E[1]])
    assert list(found)[1] == Code.unequal_lengths
    assert found[Code.unequal_lengths] == {"longest": "b", "shortest": "a", "ratio": near(3.0)}
    assert Code.unequal_lengths not in findings([E[0], 1.9 * E[1]])


def test_opposed_sources() -> None:
    found = findings([E[0], E[1], E[1] * -0.5 + E[2]])
    assert next(iter(found)) == Code.opposed
    assert found[Code.opposed] == {"sources": ["b", "c"], "cosine": near(-0.45)}
    assert Code.orthogonal not in found


def test_a_source_that_is_the_base() -> None:
    found = findings([E[0], 0 * E[0], E[1]])
    assert list(found)[:2] == [Code.near_base, Code.orthogonal]
    assert found[Code.near_base] == {"sources": ["b"]}
    assert found[Code.orthogonal]["sources"] == ["a", "c"]
    assert findings([0 * E[0], 0 * E[0]]) == {Code.all_equal_base: {}}


def test_sources_of_another_base() -> None:
    found = findings([120 * E[0], 1.0 * E[1]])
    assert found == {Code.far_from_base: {"sources": ["a"], "shares_of_base": [near(1.20)]}}
    found = findings([100 * E[0], 100 * E[0] + 10 * E[1]])
    assert found == {Code.another_base: {"sources": ["a", "b"], "shares_of_base": [near(1.0), near(1.0)]}}


def test_without_a_base_the_weights_are_compared() -> None:
    def alone(one: Tensor, other: Tensor) -> Findings:
        geometry = summarise({"all": measure(Block("a", 0, torch.stack([one, other]), None))})
        return plain(DeltaGeometry(geometry, NAMES[:2]))

    assert alone(E[0], E[1]) == {Code.weights_unrelated: {"sources": ["a", "b"], "cosine": near(0.0)}}
    assert alone(E[0], E[0] + 0.01 * E[1]) == {Code.weights_close: {"lowest": near(1.0)}}


def test_copies_count_twice() -> None:
    found = findings([E[0], E[0] + 0.1 * E[1], E[2]])
    expected = {"sources": ["a", "b"], "cosine": near(1.00), "deltas": 3, "directions": pytest.approx(1.9, abs=0.05)}
    assert list(found)[1] == Code.near_copies
    assert found[Code.near_copies] == expected
    still = 0.001 * E[3]  # counts neither as a vector nor as a direction
    found = findings([E[0], E[0] + 0.1 * E[1], E[2], still])
    assert list(found)[2] == Code.near_copies
    assert found[Code.near_copies] == expected


def test_layers_that_stand_out() -> None:
    found = findings([E[0], E[1]], layer_1=[E[0], E[1]], layer_2=[E[0], 5 * E[1]])
    assert found[Code.outlier_layer] == {"layer": "layer.2", "source": "b", "ratio": near(5.0)}
    found = findings([10 * E[0], 10 * E[1]], layer_1=[E[0], -1 * E[0]])
    assert list(found)[-1] == Code.opposed_in_layer
    assert found[Code.opposed_in_layer] == {"layer": "layer.1", "sources": ["a", "b"], "cosine": near(-1.0)}


@pytest.mark.parametrize(("cosine", "kept"), [(1.0, 1.0), (0.0, 0.5**0.5), (-1.0, 0.0)])
def test_the_share_that_an_average_keeps(cosine: float, kept: float) -> None:
    other = cosine * E[0] + (1 - cosine**2) ** 0.5 * E[1]
    block = Block("a", 0, torch.stack([E[0], other]), torch.zeros(100))
    assert DeltaGeometry(summarise({"a": measure(block)}), "ab").kept_by_average == pytest.approx(kept, abs=1e-6)


def test_one_source() -> None:
    assert findings([E[0]]) == {}
