"""Seconds of a step of each dataset: measured, and of many datasets estimated, so that hundreds cost no more than a few."""

import pytest
import torch

from lightning_embed.run import inspect
from lightning_embed.types import Batch, Task, Tokens


def _batch(name: str, task: Task, tokens: int) -> Batch:
    ids = Tokens(torch.zeros(tokens, dtype=torch.int64), torch.tensor([0, tokens]))
    empty = torch.zeros((1, 0), dtype=torch.int64)
    return Batch(name, task, ids, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), empty, empty)


BATCHES = [
    _batch("small", Task.sts, 10),
    _batch("large", Task.sts, 1000),
    _batch("queries", Task.retrieval, 300),
    _batch("labels", Task.clustering, 0),
]


def test_few_are_measured() -> None:
    found = inspect.step_seconds(BATCHES, lambda batch: 1.0 + len(batch.tokens.ids))
    assert found == {"small": 11.0, "large": 1001.0, "queries": 301.0, "labels": 1.0}


def test_of_many_the_largest_of_each_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect, "_MEASURING", 0.0)
    measured: list[str] = []

    def seconds(batch: Batch) -> float:
        measured.append(batch.dataset)
        return len(batch.tokens.ids) / 100

    more = [_batch(f"more {number}", Task.sts, number) for number in range(1, 200)]
    found = inspect.step_seconds([*more, *BATCHES], seconds)
    assert measured == ["large", "queries", "labels"]
    assert found["small"] == pytest.approx(0.1)
    assert found["more 50"] == pytest.approx(0.5)
