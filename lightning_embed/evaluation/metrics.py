"""Metrics by word: `ndcg@10`, `spearman`, `f1`. mteb computes them; a new metric is a line of `METRICS`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lightning_embed.errors import ConfigError, nearest
from lightning_embed.types import Task

K_VALUES = (1, 3, 5, 10, 20, 100, 1000)
"""The k that mteb computes for each of its retrieval tasks."""


@dataclass(frozen=True)
class Metric:
    """A number that mteb computes for a task.

    Args:
        word: name in `evaluation.metrics`; a k in it stands for a number.
        task: task of the tests that have it.
        key: name in mteb's scores of a test.
        each: name in mteb's scores of a query; None: mteb has no scores per query.
        k: number of ranked documents that count; None: all, or not a retrieval metric.
    """

    word: str
    task: Task
    key: str
    each: str | None = None
    k: int | None = None

    def at(self, k: int) -> "Metric":
        """The metric of a family at `k`."""

        def named(pattern: str) -> str:
            return pattern.removesuffix("k") + str(k)

        return replace(self, word=named(self.word), key=named(self.key), each=self.each and named(self.each), k=k)


METRICS = (
    Metric("ndcg@k", Task.retrieval, "ndcg_at_k", "ndcg_cut_k"),
    Metric("recall@k", Task.retrieval, "recall_at_k", "recall_k"),
    Metric("mrr@k", Task.retrieval, "mrr_at_k", "MRR@k"),
    Metric("map@k", Task.retrieval, "map_at_k", "map_cut_k"),
    Metric("precision@k", Task.retrieval, "precision_at_k", "P_k"),
    Metric("hit_rate@k", Task.retrieval, "hit_rate_at_k", "success_k"),
    Metric("spearman", Task.sts, "cosine_spearman"),
    Metric("pearson", Task.sts, "cosine_pearson"),
    Metric("accuracy", Task.classification, "accuracy"),
    Metric("f1", Task.classification, "f1"),  # macro
    Metric("f1_weighted", Task.classification, "f1_weighted"),
    Metric("v_measure", Task.clustering, "v_measure"),
)  # no `ap` of a classification, which mteb computes only for two labels


def parse_metrics(words: Sequence[str] | None) -> list[Metric]:
    """The metrics of a list of words, in order and without repetition.

    Raises:
        ConfigError: an unknown word, or a k that mteb does not compute.
    """
    return [_metric(word) for word in dict.fromkeys(words or ())]


def metrics_of(words: Sequence[str] | None, task: str) -> list[Metric]:
    """The metrics of a task among `words`, its main metric first; empty: the task keeps mteb's main metric."""
    return [metric for metric in parse_metrics(words) if metric.task == task]


def _metric(word: str) -> Metric:
    known = {metric.word: metric for metric in METRICS}
    name, _, k = str(word).partition("@")
    pattern = f"{name}@k" if k else name
    if pattern not in known or k == "k":
        hint = nearest(pattern.casefold(), known)
        raise ConfigError(f"evaluation.metrics: no metric {word!r}. {hint} k is one of {_listed()}, e.g. recall@100.")
    if k and k not in map(str, K_VALUES):
        raise ConfigError(
            f"evaluation.metrics: {word!r} is not computed by mteb. Use {name}@k with k one of {_listed()}."
        )
    return known[pattern].at(int(k)) if k else known[pattern]


def _listed() -> str:
    return ", ".join(map(str, K_VALUES))
