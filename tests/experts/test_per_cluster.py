"""Clusters of datasets, by their texts and by what training on one does to the other."""

from collections.abc import Mapping
from itertools import combinations

import pytest
import torch

from lightning_embed.errors import ConfigError
from lightning_embed.experts.per_cluster import By, PerCluster
from lightning_embed.types import Task, TrainSet
from tests.experts.toy import NoMeasure, ToyMeasure

NAMES = ["a", "b", "c", "d", "e"]
SETS = {name: TrainSet(Task.retrieval, 10, 1) for name in NAMES}


def _clusters(plan: PerCluster, means=None, losses=None, datasets=SETS, seed: int = 0) -> dict[str, list[str]]:
    experts = plan.experts(datasets, seed, ToyMeasure(means or {}, losses or {}))
    assert all(rows is None for expert in experts for rows in expert.rows.values())
    return {expert.name: list(expert.rows) for expert in experts}


def _around(centres: Mapping[str, float]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: centre + 0.1 * torch.randn(6, generator=generator) for name, centre in centres.items()}


@pytest.mark.parametrize("seed", [0, 1])
def test_k_means_finds_what_lies_apart(seed: int) -> None:
    """Clusters are numbered by their first datasets."""
    means = _around({"a": 5, "b": -5, "c": 0, "d": 5, "e": -5})
    assert _clusters(PerCluster(num_clusters=3), means, seed=seed) == {
        "cluster_1": ["a", "d"],
        "cluster_2": ["b", "e"],
        "cluster_3": ["c"],
    }
    assert _clusters(PerCluster(num_clusters=5), means, seed=seed) == {
        f"cluster_{n}": [d] for n, d in enumerate(NAMES, start=1)
    }


def test_k_means_minimises_the_squared_distances() -> None:
    """Equals the best of all partitions into two."""
    generator = torch.Generator().manual_seed(3)
    means = {name: torch.randn(3, generator=generator) for name in NAMES}

    def cost(members: set[str]) -> float:
        total = 0.0
        for part in (members, set(NAMES) - members):
            points = torch.stack([means[name].double() for name in sorted(part)])
            total += float(((points - points.mean(0)) ** 2).sum())
        return total

    best = min((cost(set(part)), part) for size in (1, 2) for part in combinations(NAMES, size))[1]
    assert set(best) in map(set, _clusters(PerCluster(num_clusters=2), means).values())


def test_differences_of_loss_by_hand() -> None:
    """Training on a or c alone does not harm the other; b harms both and is harmed.

    distance(a, c) = ((1.1 - 1.0) + (3.1 - 3.0)) / 2 = 0.1;  (a, b) = ((4.0 - 2.0) + (2.0 - 1.0)) / 2 = 1.5;
    (b, c) = ((5.0 - 3.0) + (3.0 - 2.0)) / 2 = 1.5
    """
    losses = {
        "a": {"a": 0.9, "b": 4.0, "c": 3.1},
        "b": {"a": 2.0, "b": 1.0, "c": 5.0},
        "c": {"a": 1.1, "b": 3.0, "c": 2.0},
        "joint": {"a": 1.0, "b": 2.0, "c": 3.0},
    }
    datasets = {name: SETS[name] for name in "abc"}
    found = _clusters(PerCluster(num_clusters=2, by=By.loss), losses=losses, datasets=datasets)
    assert found == {"cluster_1": ["a", "c"], "cluster_2": ["b"]}


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("num_clusters", [2, 3, 4])
def test_loss_clusters_equal_the_slow_version(seed: int, num_clusters: int) -> None:
    """Also where separate models are better than the joint one, so that differences are negative."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.rand(6, 5, generator=generator, dtype=torch.float64).tolist()
    losses = {m: dict(zip(NAMES, row, strict=True)) for m, row in zip([*NAMES, "joint"], matrix, strict=True)}
    expected = _average_linkage(losses, num_clusters)
    found = _clusters(PerCluster(num_clusters=num_clusters, by=By.loss), losses=losses)
    assert sorted(found.values()) == sorted(sorted(cluster) for cluster in expected)


def _average_linkage(losses: Mapping[str, Mapping[str, float]], num_clusters: int) -> list[list[str]]:
    """Join the two nearest clusters until few enough are left."""
    clusters = [[name] for name in NAMES]

    def distance(one: list[str], two: list[str]) -> float:
        pairs = [(i, j) for i in one for j in two]
        harm = sum(losses[i][j] - losses["joint"][j] + losses[j][i] - losses["joint"][i] for i, j in pairs)
        return harm / 2 / len(pairs)

    while len(clusters) > num_clusters:
        one, two = min(combinations(clusters, 2), key=lambda pair: distance(*pair))
        clusters = [cluster for cluster in clusters if cluster not in (one, two)] + [one + two]
    return clusters


@pytest.mark.parametrize("by", By)
def test_one_cluster_needs_no_measure(by: By) -> None:
    assert [list(e.rows) for e in PerCluster(num_clusters=1, by=by).experts(SETS, 0, NoMeasure())] == [NAMES]


def test_refusals() -> None:
    with pytest.raises(ConfigError) as caught:
        PerCluster(num_clusters=0)
    assert str(caught.value) == "experts.num_clusters must be at least 1, got 0."
    with pytest.raises(ConfigError) as caught:
        PerCluster(num_clusters=6).experts(SETS, 0, NoMeasure())
    assert str(caught.value) == (
        "experts.num_clusters=6 is more than the number of datasets with train rows: use 5 or less."
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["a", "e"])
def test_measurements_that_are_not_finite_are_not_clustered(bad: float, name: str) -> None:
    means = _around(dict.fromkeys(NAMES, 1.0))
    means[name][2] = bad
    with pytest.raises(ConfigError, match=rf"the mean embedding of {name} is not finite.*measure/"):
        _clusters(PerCluster(num_clusters=2), means)
    losses = {model: dict.fromkeys(NAMES, 1.0) for model in [*NAMES, "joint"]}
    losses[name]["b"] = bad
    with pytest.raises(ConfigError, match=r"the difference of losses of .* is not finite"):
        _clusters(PerCluster(num_clusters=2, by=By.loss), losses=losses)
