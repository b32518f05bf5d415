"""Confidence intervals for differences of recipes: paired bootstrap over queries and pairs, and spread over seeds."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, stdev
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from lightning_embed.report.scores.summary import metric_word
from lightning_embed.runtime.seeding import derive_seed
from lightning_embed.types import Results, Score

NUM_SAMPLES = 500
_CHUNK = 100  # samples at a time: memory for a few times as many copies of a test's scores
Array = Any  # mypy cannot check the shapes of NumPy's arrays


@dataclass(frozen=True)
class Interval:
    """A difference of means in percent points, and its 95 % interval.

    Args:
        difference: mean over seeds, of the mean over tasks.
        low: end of the interval.
        high: end of the interval.
        num_seeds: seeds that both recipes have; with one, the interval covers the noise of queries only.
    """

    difference: float
    low: float
    high: float
    num_seeds: int

    @property
    def outside_noise(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def interval(
    ours: Mapping[int, Results], theirs: Mapping[int, Results], split: str, in_domain: bool | None = None
) -> Interval | None:
    """The difference of two recipes over their common seeds, with its interval.

        half = sqrt((1.96 s_q)^2 + (t s_d)^2 / n)        n seeds, s_d: standard deviation of their n differences

    with s_q the standard deviation of the difference over samples of the queries (pairs) of every test, the same for
    both recipes, and t Student's 97.5 % quantile at n - 1 degrees of freedom: 12.7 at two seeds, 4.3 at three. (A
    bootstrap over three seeds would draw the smallest one three times in one of 27 samples.) One seed: the first term
    alone.

    Args:
        ours: seed -> scores with `each`. A model for all seeds, such as the base, is given at each of them.
        theirs: the same of the recipe that is subtracted.
        split: dev or test.
        in_domain: whether the tests are in domain; None: all tests.

    Returns:
        The interval; None if a test is missing in a model or has no `each`, or if no seed is common.
    """
    pairs = [
        (_tests(ours[seed], split, in_domain), _tests(theirs[seed], split, in_domain))
        for seed in sorted(ours.keys() & theirs.keys())
    ]
    if not pairs or not pairs[0][0] or not all(_comparable(one, other) for one, other in pairs):
        return None
    differences = [_mean(one) - _mean(other) for one, other in pairs]
    drawn = np.mean([_samples(one, split) - _samples(other, split) for one, other in pairs], axis=0)
    square = (1.96 * float(drawn.std(ddof=1))) ** 2
    if (count := len(pairs)) > 1:
        from scipy.stats import t as student  # half of the time that merge.py takes to start

        square += (float(student.ppf(0.975, count - 1)) * stdev(differences)) ** 2 / count
    found = fmean(differences)
    return Interval(found, found - square**0.5, found + square**0.5, count)


def resampled(score: Score, test: str, num_samples: int = NUM_SAMPLES) -> Float[Array, " samples"]:
    """The score on resamplings of its queries or pairs; which ones depends on `test` and their number alone.

    Raises:
        KeyError: the score is of pairs, and its metric is none of their correlations.
    """
    each = np.asarray(score["each"])
    draw = np.random.default_rng(derive_seed("bootstrap", test))
    found = []
    for start in range(0, num_samples, _CHUNK):
        counts = _counts(draw, len(each), min(_CHUNK, num_samples - start))
        if "gold" in score:
            found.append(_CORRELATIONS[metric_word(score["metric"])](each, np.asarray(score["gold"]), counts))
        else:
            found.append(counts @ each / len(each))
    joined: Array = 100 * np.concatenate(found)
    return joined


def spearman(
    one: Float[Array, " pairs"], other: Float[Array, " pairs"], counts: Int[Array, "samples pairs"]
) -> Float[Array, " samples"]:
    """Spearman's correlation in samples that hold pair i `counts[:, i]` times: Pearson's, of ranks in the sample."""
    return pearson(_ranks(one, counts), _ranks(other, counts), counts)


def pearson(
    one: Float[Array, "*samples pairs"], other: Float[Array, "*samples pairs"], counts: Int[Array, "samples pairs"]
) -> Float[Array, " samples"]:
    """Pearson's correlation in samples that hold pair i `counts[:, i]` times; values may differ between samples."""
    total = counts.sum(axis=1, keepdims=True)
    x = one - (counts * one).sum(axis=1, keepdims=True) / total
    y = other - (counts * other).sum(axis=1, keepdims=True) / total
    spread = np.sqrt((counts * x * x).sum(axis=1) * (counts * y * y).sum(axis=1))
    found: Array = (counts * x * y).sum(axis=1) / np.maximum(spread, 1e-12)
    return found


_CORRELATIONS = {"spearman": spearman, "pearson": pearson}


def _ranks(values: Float[Array, " pairs"], counts: Int[Array, "samples pairs"]) -> Float[Array, "samples pairs"]:
    """The rank of every pair in every sample; equal values, and the copies of a pair, share their mean rank."""
    distinct, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(distinct)))
    groups = np.add.reduceat(counts[:, order], starts, axis=1)
    ranks = np.cumsum(groups, axis=1) - groups + (groups + 1) / 2
    found: Array = ranks[:, place]
    return found


def _counts(draw: np.random.Generator, number: int, num_samples: int) -> Int[Array, "samples pairs"]:
    """The number of times that each query or pair is in each sample."""
    return np.stack([np.bincount(draw.integers(number, size=number), minlength=number) for _ in range(num_samples)])


def _samples(tests: Mapping[str, Score], split: str) -> Float[Array, " samples"]:
    """The mean over tasks of the mean over tests, in each sample."""
    by_task: dict[str, list[Array]] = {}
    for test, score in tests.items():
        gold = tuple(score["gold"]) if "gold" in score else None
        samples = _remembered(f"{split}/{test}", score["metric"], tuple(score["each"]), gold)
        by_task.setdefault(score["task"], []).append(samples)
    means: Array = np.mean([np.mean(scores, axis=0) for scores in by_task.values()], axis=0)
    return means


@lru_cache(maxsize=256)  # a reference is compared with every other recipe
def _remembered(
    test: str, metric: str, each: tuple[float, ...], gold: tuple[float, ...] | None
) -> Float[Array, " samples"]:
    score = Score(task="", metric=metric, score=0.0, in_domain=True, each=list(each))
    return resampled(score if gold is None else score | {"gold": list(gold)}, test)


def _comparable(one: Mapping[str, Score], other: Mapping[str, Score]) -> bool:
    """Whether two models were measured on the same queries and pairs, by a metric that these have."""
    return one.keys() == other.keys() and all(
        "each" in one[test]
        and len(one[test]["each"]) == len(other[test].get("each", ()))
        and one[test].get("gold") == other[test].get("gold")
        and ("gold" not in one[test] or metric_word(one[test]["metric"]) in _CORRELATIONS)
        for test in one
    )


def _tests(results: Results, split: str, in_domain: bool | None) -> Mapping[str, Score]:
    return {n: score for n, score in results.get(split, {}).items() if in_domain in (None, score["in_domain"])}


def _mean(tests: Mapping[str, Score]) -> float:
    by_task: dict[str, list[float]] = {}
    for score in tests.values():
        by_task.setdefault(score["task"], []).append(score["score"])
    return fmean(map(fmean, by_task.values()))
