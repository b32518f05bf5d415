"""Scores of three models, small enough to average in the head, and the records of their merges."""

from typing import Any

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


def part(
    norms: list[float], cosine: float = 0.071, merged: bool = True, ranks: list[float] | None = None
) -> dict[str, Any]:
    """What the doctor saw of two sources, in the whole or in a layer."""
    return {
        "base_norm": 100.0,
        "delta_norms": norms,
        "delta_cosines": [[1.0, cosine], [cosine, 1.0]],
        "sign_conflict_share": 0.412,
        "effective_directions": 1.9,
        "merged_norm": 1.5 if merged else None,
        "merged_cosines": [0.66, 0.77] if merged else None,
        "stable_ranks": ranks,
    }


def record(strategy: str, ranks: list[float] | None = None) -> dict[str, Any]:
    """A merge.json."""
    merged = strategy != "none"
    places = {"embeddings": [0.5, 0.25], "layer.0": [1.0, 2.0], "layer.1": [0.5, 0.5], "pooler": [0.0, 0.0]}
    groups = {name: part(norms, merged=merged, ranks=ranks) for name, norms in places.items()}
    facts = {"layer": "<b>", "sources": ["retrieval", "sts"], "cosine": -0.25}
    expectations = [
        "The task vectors are <b>nearly</b> orthogonal.",  # of an earlier version
        {"code": "opposed_in_layer", "facts": facts},
    ]
    return {
        "strategy": strategy,
        "options": {"weighting": "equal"},
        "plan": {"weights": [0.5, 0.5]},
        "sources": [{"name": name, "sha256": {"model.safetensors": name}} for name in ("retrieval", "sts")],
        "base": {"name": "base", "sha256": {"model.safetensors": "base"}},
        "geometry": part([1.234, 2.5], merged=merged, ranks=ranks) | {"groups": groups, "expectations": expectations},
        "seconds": 1.3,
        "bytes": 91_000_000,
    }
