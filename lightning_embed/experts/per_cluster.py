"""`experts=per_cluster`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.experts.base import Expert, ExpertPlan, Measure
from lightning_embed.registry import register
from lightning_embed.runtime.seeding import derive_seed
from lightning_embed.types import JOINT, TrainSet


class By(StrEnum):
    """Criterion of a cluster. embedding: datasets with similar texts. loss: datasets that help each other."""

    embedding = "embedding"
    loss = "loss"


@register("experts", "per_cluster")
@dataclass(frozen=True)
class PerCluster(ExpertPlan):
    """One expert per cluster of datasets, each from the base.

    embedding: k-means (k-means++, best of 10 starts) on a vector per dataset, the mean embedding of 100 queries joined
    to that of 100 documents, by the base. Self Positioning (2024, arXiv 2410.15035), which embeds with gtr-t5-large.

    loss: hierarchical clustering, average linkage, on differences of loss between separate and joint training:

        distance(i, j) = ((L_ij - J_j) + (L_ji - J_i)) / 2

    with L_ij the dev loss on dataset j of a model trained on i alone, J_j that of the joint model. The idea is BOOM's
    (2026, arXiv 2602.05787), second-hand, with training losses; dev losses, the formula and the linkage are our
    reading. It trains a model per dataset and a joint one first.

    Args:
        num_clusters: from 1 to the number of datasets that have train rows.
        by: embedding or loss.

    Raises:
        ConfigError: fewer than 1 cluster, more clusters than datasets, or measurements that are not finite.
    """

    num_clusters: int = 2
    by: By = By.embedding

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_clusters < 1:
            raise ConfigError(f"experts.num_clusters must be at least 1, got {self.num_clusters}.")

    def experts(self, datasets: Mapping[str, TrainSet], seed: int, measure: Measure) -> list[Expert]:
        """One expert per cluster, named cluster_1, cluster_2, ... in the order of their first datasets."""
        if self.num_clusters > len(datasets):
            raise ConfigError(
                f"experts.num_clusters={self.num_clusters} is more than the number of datasets with train rows: "
                f"use {len(datasets)} or less."
            )
        members: dict[int, list[str]] = {}
        for name, label in zip(datasets, self._labels(list(datasets), seed, measure), strict=True):
            members.setdefault(label, []).append(name)
        return [Expert(f"cluster_{n}", dict.fromkeys(names)) for n, names in enumerate(members.values(), start=1)]

    def _labels(self, names: Sequence[str], seed: int, measure: Measure) -> list[int]:
        """The cluster of each dataset."""
        if self.num_clusters == 1:
            return [0] * len(names)
        if self.by == By.embedding:
            embeddings = measure.embeddings()
            points = torch.stack([embeddings[name] for name in names])
            _refuse_not_finite(points, names, "mean embedding")
            return _k_means(points, self.num_clusters, derive_seed(seed, "clusters"))
        distances = _distances(measure.losses(), names)
        _refuse_not_finite(distances, names, "difference of losses")
        return _average_linkage(distances, self.num_clusters)


def _refuse_not_finite(rows: Float[Tensor, "datasets _"], names: Sequence[str], what: str) -> None:
    broken = [name for name, row in zip(names, rows, strict=True) if not row.isfinite().all()]
    if broken:
        raise ConfigError(
            f"experts=per_cluster: the {what} of {', '.join(broken)} is not finite, and cannot be clustered. Delete the "
            "folder measure/ of the run, which keeps it, or use a different base."
        )


def _k_means(points: Float[Tensor, "datasets dims"], num_clusters: int, seed: int) -> list[int]:
    from sklearn.cluster import KMeans  # takes a second, and composing a command line does not need it

    start = {"init": "k-means++", "n_init": 10, "max_iter": 300, "random_state": seed % 2**32}
    labels: list[int] = KMeans(num_clusters, **start).fit_predict(points.numpy()).tolist()
    return labels


def _average_linkage(distances: Float[Tensor, "datasets datasets"], num_clusters: int) -> list[int]:
    from sklearn.cluster import AgglomerativeClustering

    clustering = AgglomerativeClustering(num_clusters, metric="precomputed", linkage="average")
    labels: list[int] = clustering.fit_predict(distances.numpy()).tolist()
    return labels


def _distances(losses: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> Float[Tensor, "datasets datasets"]:
    """Differences of loss, shifted to be non-negative; average linkage does not depend on the shift."""
    alone = torch.tensor([[losses[model][name] for name in names] for model in names], dtype=torch.float64)
    worse = alone - torch.tensor([losses[JOINT][name] for name in names], dtype=torch.float64)
    mutual = (worse + worse.T) / 2
    others = ~torch.eye(len(names), dtype=torch.bool)
    return (mutual - mutual[others].min()).where(others, 0)
