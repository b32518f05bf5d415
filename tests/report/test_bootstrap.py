"""The paired bootstrap: samples by hand, coverage, pairing."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from lightning_embed.report.bootstrap import Bootstrap, resampled, spearman


def retrieval(each, in_domain=True):
    score = 100 * float(np.mean(each))
    return {"task": "retrieval", "metric": "ndcg_at_10", "score": score, "in_domain": in_domain, "each": list(each)}


def sts(each, gold):
    score = 100 * float(spearmanr(each, gold)[0])
    return {"task": "sts", "metric": "cosine_spearman", "score": score, "in_domain": True, "each": each, "gold": gold}


def test_spearman_of_a_sample_is_scipys_of_its_rows():
    draw = np.random.default_rng(0)
    gold = draw.integers(0, 6, 50).astype(float)  # many equal scores
    each = (gold + draw.normal(size=50)).round(1)
    counts = draw.multinomial(50, np.full(50, 1 / 50), size=20)
    for found, count in zip(spearman(each, gold, counts), counts, strict=True):
        rows = np.repeat(np.arange(50), count)
        assert found == pytest.approx(spearmanr(each[rows], gold[rows])[0], abs=1e-12)


def test_samples_of_a_mean_spread_as_the_standard_error():
    each = np.random.default_rng(0).uniform(size=400)
    samples = resampled(retrieval(each), "squad", 4000)
    assert samples.mean() == pytest.approx(100 * each.mean(), abs=0.2)
    assert samples.std() == pytest.approx(100 * each.std() / 20, rel=0.1)


def test_a_test_without_rows_counts_as_it_is():
    score = {"task": "classification", "metric": "accuracy", "score": 71.0, "in_domain": True}
    assert set(resampled(score, "trec", 10)) == {71.0}


def test_queries_are_paired():
    """Two models that differ by the same on every query: the interval is a point, however much queries differ."""
    each = np.random.default_rng(0).uniform(0, 0.9, 200)
    ours, theirs = {"test": {"squad": retrieval(each + 0.01)}}, {"test": {"squad": retrieval(each)}}
    found = Bootstrap().interval([ours], [theirs], "test")
    assert (found.difference, found.low, found.high) == (pytest.approx(1.0),) * 3
    assert found.outside_noise


def test_one_task_with_many_tests_does_not_outvote_another():
    squad, nq, pairs = [1.0, 1.0], [0.0, 0.0], sts([0.1, 0.2, 0.3], [1.0, 2.0, 3.0])
    ours = {"test": {"squad": retrieval(squad), "nq": retrieval(nq), "stsb": pairs}}
    theirs = {"test": {"squad": retrieval(nq), "nq": retrieval(nq), "stsb": pairs}}
    assert Bootstrap().interval([ours], [theirs], "test").difference == pytest.approx((50 + 100) / 2 - (0 + 100) / 2)


def test_seeds_are_part_of_the_noise():
    """Queries that all score alike: what is left is the seeds."""

    def seed(level):
        return {"test": {"squad": retrieval([level] * 50)}}

    base = [seed(0.5)]
    steady = Bootstrap().interval([seed(0.52)] * 3, base, "test")
    shaky = Bootstrap().interval([seed(0.42), seed(0.52), seed(0.62)], base, "test")
    assert steady.difference == pytest.approx(shaky.difference) == pytest.approx(2.0)
    assert steady.outside_noise
    assert not shaky.outside_noise
    assert (shaky.low, shaky.high) == (pytest.approx(-8.0), pytest.approx(12.0))


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    """Models that are equally good: about one interval in twenty excludes zero."""
    draw, outside = np.random.default_rng(1), 0
    for number in range(200):
        ours, theirs = (draw.uniform(size=100) for _ in range(2))
        found = Bootstrap(400).interval(
            [{"test": {f"{number}": retrieval(ours)}}], [{"test": {f"{number}": retrieval(theirs)}}], "test"
        )
        outside += found.outside_noise
    assert 3 <= outside <= 20


def test_other_tests_cannot_be_compared():
    one, other = {"test": {"squad": retrieval([1.0])}}, {"test": {"nq": retrieval([1.0])}}
    assert Bootstrap().interval([one], [other], "test") is None
    assert Bootstrap().interval([one], [one], "dev") is None
    assert Bootstrap().interval([one], [one], "test", in_domain=False) is None
