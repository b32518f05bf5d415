"""Scores of three models, small enough to average in the head."""

import pytest

from lightning_embed.types import Results, Score

METRICS = {"retrieval": "ndcg_at_10", "sts": "cosine_spearman"}


def score(task: str, points: float, in_domain: bool = True) -> Score:
    return Score(task=task, metric=METRICS[task], score=float(points), in_domain=in_domain)


def results(dev: float, inside: tuple[float, float, float], outside: float) -> Results:
    return {
        "dev": {"squad": score("retrieval", dev)},
        "test": {
            "stsb": score("sts", inside[2]),
            "squad": score("retrieval", inside[0]),
            "wikiqa": score("retrieval", inside[1]),
            "sts13": score("sts", outside, in_domain=False),
        },
    }


@pytest.fixture
def models() -> dict[str, Results]:
    return {
        "base": results(50, (40, 60, 70), 80),
        "retrieval": results(61, (62, 64, 60), 70),
        "soup-1f3a9c": results(60, (60, 62, 75), 79.996),
    }
