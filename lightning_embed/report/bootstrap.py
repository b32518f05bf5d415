"""Whether two models differ by more than chance: a paired bootstrap over queries, pairs and seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from lightning_embed.seeding import derive_seed
from lightning_embed.types import Results, Score

NUM_SAMPLES = 1000
Array = Any  # numpy's arrays have no shape that mypy could check


@dataclass(frozen=True)
class Interval:
    """A difference of means in points, and the 95 % interval around it."""

    difference: float
    low: float
    high: float

    @property
    def outside_noise(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


class Bootstrap:
    """Differences between recipes, each of them models of one or several seeds.

        score of a sample = mean over seeds, tasks and tests of the metric on resampled queries (or pairs)

    Both recipes are scored on the same samples: the same queries, and the same seeds where they have equally many. The
    interval is from the 2.5th to the 97.5th percentile of `num_samples` differences. Seeds are resampled too; of three
    seeds that underestimates how much a fourth might differ. A test whose queries were not kept (a classification, a
    benchmark's) counts with its score, as if it were exact.

    Args:
        num_samples: samples; 1,000 usually.
    """

    def __init__(self, num_samples: int = NUM_SAMPLES) -> None:
        self.num_samples = num_samples
        self._known: dict[tuple[int, str, str], Array] = {}
        self._kept: list[Results] = []  # so that no id is used twice

    def interval(
        self, ours: Sequence[Results], theirs: Sequence[Results], split: str, in_domain: bool | None = None
    ) -> Interval | None:
        """The difference of two recipes; None where they were not measured on the same tests, or no test kept its queries.

        Args:
            ours: scores with `each`, one per seed.
            theirs: of the recipe that is compared with, in the order of the same seeds.
            split: dev or test.
            in_domain: which tests; None: all.
        """
        tests = [_tests(results, split, in_domain) for results in (*ours, *theirs)]
        same = all(found.keys() == tests[0].keys() for found in tests)
        if not same or not any("each" in score for score in tests[0].values()):
            return None
        ours_drawn, theirs_drawn = self._samples(ours, split, in_domain), self._samples(theirs, split, in_domain)
        difference = _mean_of(ours, split, in_domain) - _mean_of(theirs, split, in_domain)
        low, high = np.percentile(ours_drawn - theirs_drawn, [2.5, 97.5])
        return Interval(difference, float(low), float(high))

    def _samples(self, seeds: Sequence[Results], split: str, in_domain: bool | None) -> Float[Array, " samples"]:
        """The mean over tasks, in each sample."""
        drawn = np.random.default_rng(derive_seed("seeds")).integers(len(seeds), size=(self.num_samples, len(seeds)))
        each = np.stack([self._one_seed(results, split, in_domain) for results in seeds])  # (seeds, samples)
        means: Array = np.take_along_axis(each.T, drawn, axis=1).mean(axis=1)
        return means

    def _one_seed(self, results: Results, split: str, in_domain: bool | None) -> Float[Array, " samples"]:
        by_task: dict[str, list[Array]] = {}
        for test, score in _tests(results, split, in_domain).items():
            by_task.setdefault(score["task"], []).append(self._test(results, split, test))
        means: Array = np.mean([np.mean(scores, axis=0) for scores in by_task.values()], axis=0)
        return means

    def _test(self, results: Results, split: str, test: str) -> Float[Array, " samples"]:
        key = (id(results), split, test)
        if key not in self._known:
            self._kept.append(results)
            self._known[key] = resampled(results[split][test], f"{split}/{test}", self.num_samples)
        return self._known[key]


def resampled(score: Score, test: str, num_samples: int) -> Float[Array, " samples"]:
    """The score on `num_samples` resamplings of its queries or pairs, drawn by the name of the test."""
    if "each" not in score:
        return np.full(num_samples, score["score"])
    each = np.asarray(score["each"])
    counts = _counts(test, len(each), num_samples)
    if "gold" in score:
        return 100 * spearman(each, np.asarray(score["gold"]), counts)
    means: Array = 100 * (counts @ each) / len(each)
    return means


def spearman(
    one: Float[Array, " pairs"], other: Float[Array, " pairs"], counts: Int[Array, "samples pairs"]
) -> Float[Array, " samples"]:
    """Spearman's correlation in samples that hold pair i `counts[:, i]` times: Pearson's, of the ranks in the sample."""
    x, y = _ranks(one, counts), _ranks(other, counts)
    total = counts.sum(axis=1, keepdims=True)
    x -= (counts * x).sum(axis=1, keepdims=True) / total
    y -= (counts * y).sum(axis=1, keepdims=True) / total
    spread = np.sqrt((counts * x * x).sum(axis=1) * (counts * y * y).sum(axis=1))
    found: Array = (counts * x * y).sum(axis=1) / np.maximum(spread, 1e-12)
    return found


def _ranks(values: Float[Array, " pairs"], counts: Int[Array, "samples pairs"]) -> Float[Array, "samples pairs"]:
    """Of every pair in every sample, equal values (and the copies of a pair) sharing their mean rank."""
    distinct, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(distinct)))
    groups = np.add.reduceat(counts[:, order], starts, axis=1)
    ranks = np.cumsum(groups, axis=1) - groups + (groups + 1) / 2
    found: Array = ranks[:, place]
    return found


@lru_cache(maxsize=32)
def _counts(test: str, number: int, num_samples: int) -> Int[Array, "samples pairs"]:
    """How often each query or pair is in each sample."""
    draw = np.random.default_rng(derive_seed("bootstrap", test))
    return draw.multinomial(number, np.full(number, 1 / number), size=num_samples)


def _tests(results: Results, split: str, in_domain: bool | None) -> Mapping[str, Score]:
    return {n: score for n, score in results.get(split, {}).items() if in_domain in (None, score["in_domain"])}


def _mean_of(seeds: Sequence[Results], split: str, in_domain: bool | None) -> float:
    """The mean over seeds of the mean over tasks."""
    means = []
    for results in seeds:
        by_task: dict[str, list[float]] = {}
        for score in _tests(results, split, in_domain).values():
            by_task.setdefault(score["task"], []).append(score["score"])
        means.append(fmean(fmean(scores) for scores in by_task.values()))
    return fmean(means)
