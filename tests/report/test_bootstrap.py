"""The paired bootstrap: samples by hand, coverage, pairing."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from lightning_embed.report.scores.bootstrap import interval, pearson, resampled, spearman


def retrieval(each, in_domain=True):
    score = 100 * float(np.mean(each))
    return {"task": "retrieval", "metric": "ndcg_at_10", "score": score, "in_domain": in_domain, "each": list(each)}


def sts(each, gold):
    score = 100 * float(spearmanr(each, gold)[0])
    return {"task": "sts", "metric": "cosine_spearman", "score": score, "in_domain": True, "each": each, "gold": gold}


def test_correlations_of_a_sample_are_scipys_of_its_rows():
    draw = np.random.default_rng(0)
    gold = draw.integers(0, 6, 50).astype(float)  # many equal scores
    each = (gold + draw.normal(size=50)).round(1)
    counts = draw.multinomial(50, np.full(50, 1 / 50), size=20)
    for found, count in zip(spearman(each, gold, counts), counts, strict=True):
        rows = np.repeat(np.arange(50), count)
        assert found == pytest.approx(spearmanr(each[rows], gold[rows])[0], abs=1e-12)
    for found, count in zip(pearson(each, gold, counts), counts, strict=True):
        rows = np.repeat(np.arange(50), count)
        assert found == pytest.approx(pearsonr(each[rows], gold[rows])[0], abs=1e-12)


def test_samples_of_a_mean_spread_as_the_standard_error():
    each = np.random.default_rng(0).uniform(size=400)
    samples = resampled(retrieval(each), "squad", 4000)
    assert samples.mean() == pytest.approx(100 * each.mean(), abs=0.2)
    assert samples.std() == pytest.approx(100 * each.std() / 20, rel=0.1)


def test_queries_are_paired():
    """Two models that differ by the same on every query: the interval is a point, however much queries differ."""
    each = np.random.default_rng(0).uniform(0, 0.9, 200)
    ours, theirs = {"test": {"squad": retrieval(each + 0.01)}}, {"test": {"squad": retrieval(each)}}
    found = interval({0: ours}, {0: theirs}, "test")
    assert (found.difference, found.low, found.high) == (pytest.approx(1.0),) * 3
    assert found.outside_noise
    assert found.num_seeds == 1


def test_one_task_with_many_tests_does_not_outvote_another():
    squad, nq, pairs = [1.0, 1.0], [0.0, 0.0], sts([0.1, 0.2, 0.3], [1.0, 2.0, 3.0])
    ours = {"test": {"squad": retrieval(squad), "nq": retrieval(nq), "stsb": pairs}}
    theirs = {"test": {"squad": retrieval(nq), "nq": retrieval(nq), "stsb": pairs}}
    assert interval({0: ours}, {0: theirs}, "test").difference == pytest.approx((50 + 100) / 2 - (0 + 100) / 2)


def seed(level):
    """Queries that all score alike: what is left is the seeds."""
    return {"test": {"squad": retrieval([level] * 50)}}


def test_seeds_are_part_of_the_noise():
    """A t interval over the seeds' differences."""
    base = dict.fromkeys((1, 2, 3), seed(0.5))
    steady = interval(dict.fromkeys((1, 2, 3), seed(0.52)), base, "test")
    shaky = interval({1: seed(0.51), 2: seed(0.52), 3: seed(0.53)}, base, "test")
    assert steady.difference == pytest.approx(shaky.difference) == pytest.approx(2.0)
    assert (steady.low, steady.high) == (pytest.approx(2.0), pytest.approx(2.0))
    assert shaky.high - 2.0 == pytest.approx(4.302653 * 1.0 / 3**0.5, rel=1e-5)
    assert not shaky.outside_noise


def test_seeds_are_paired_by_their_number():
    """Seed 2 is a good one for both; at seed 1 alone, and at what both have, they are equal."""
    ours, theirs = {1: seed(0.5), 2: seed(0.9)}, {2: seed(0.9), 3: seed(0.1)}
    found = interval(ours, theirs, "test")
    assert (found.difference, found.num_seeds) == (0.0, 1)
    assert interval({1: seed(0.5)}, {2: seed(0.5)}, "test") is None


@pytest.mark.slow
@pytest.mark.parametrize("num_seeds", [1, 2, 3])
def test_an_interval_covers_the_truth_about_as_often_as_it_says(num_seeds):
    """Recipes that are equally good, noisy queries and noisy seeds: about one interval in twenty excludes zero."""
    draw, outside = np.random.default_rng(1), 0
    for number in range(100):
        queries, recipes = draw.normal(size=100), []
        for _ in range(2):
            spread = 0.0 if num_seeds == 1 else 0.1
            recipes.append(
                {
                    s: {"test": {f"{number}": retrieval(queries + draw.normal(size=100) + spread * draw.normal())}}
                    for s in range(num_seeds)
                }
            )
        outside += interval(*recipes, "test").outside_noise
    assert outside <= 11
    assert outside >= (1 if num_seeds == 1 else 0)


def test_what_was_not_measured_alike_cannot_be_compared():
    one, other = {"test": {"squad": retrieval([1.0])}}, {"test": {"nq": retrieval([1.0])}}
    longer = {"test": {"squad": retrieval([1.0, 1.0])}}
    bare = {"test": {"squad": {k: v for k, v in retrieval([1.0]).items() if k != "each"}}}
    for theirs in (other, longer, bare):
        assert interval({0: one}, {0: theirs}, "test") is None
    assert interval({0: one}, {0: one}, "dev") is None
    assert interval({0: one}, {0: one}, "test", in_domain=False) is None
    assert interval({0: one}, {0: one}, "test") is not None
