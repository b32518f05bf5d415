"""Scores of a teacher stand beside their texts, and rank something."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from lightning_embed.data.mining_models import Embedder, Scorer
from lightning_embed.data.options import DatasetOptions
from lightning_embed.data.teacher_scores import scored
from lightning_embed.errors import DataError
from lightning_embed.types import Task


class Counting:
    """A cross-encoder: ten times the letters of the query and those of the document; an embedding model: two counts."""

    max_seq_length = 9

    def __init__(self, value: float | None = None) -> None:
        self.value, self.calls = value, list[int]()

    def predict(self, pairs: Sequence[tuple[str, str]], activation_fn: Any, **how: Any) -> Any:
        assert type(activation_fn).__name__ == "Identity", "logits, whatever the model is configured with"
        self.calls.append(len(pairs))
        return np.array([10 * len(q) + len(d) if self.value is None else self.value for q, d in pairs])

    def encode_query(self, texts: Sequence[str], **how: Any) -> Any:
        self.calls.append(len(texts))
        return np.array([[1.0, 0.0] for _ in texts])

    def encode_document(self, texts: Sequence[str], **how: Any) -> Any:
        self.calls.append(len(texts))
        return np.array([[1.0 / len(t), 0.5] for t in texts])


ROWS = [
    ("a", {"query": "a", "positives": ["x", "xx"], "negatives": ["xxx"], "negative_scores": [7.0]}),
    ("bb", {"query": "bb", "positives": ["xx"], "negatives": []}),
    ("key", {"query": "a", "prompt": "p", "positives": ["x"], "negatives": ["xxx", "x y", "xxxx"]}),
    ("a", {"query": "a", "positives": ["xxx"], "negatives": ["x"]}),
]


def test_logits_of_a_cross_encoder() -> None:
    """Each pair once; a score of the file is replaced."""
    model = Counting()
    found = list(scored("toy", ROWS, Scorer(model, dict(ROWS)), 4))
    assert [(row["positive_scores"], row["negative_scores"]) for row in found] == [
        ([11, 12], [13]), ([22], []), ([11], [13, 13, 14]), ([13], [11]),
    ]  # fmt: skip
    assert [{k: v for k, v in row.items() if "scores" not in k} for row in found] == [
        {k: v for k, v in row.items() if "scores" not in k} for _, row in ROWS
    ]
    assert model.calls == [8], "eight different pairs"


def test_cosines_of_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_embed.data.teacher_scores._AT_ONCE", 3)
    model = Counting()
    found = list(scored("toy", ROWS, Embedder(model, DatasetOptions(Task.retrieval, "x"), None, dict(ROWS)), 4))
    assert [row["positive_scores"] for row in found] == [[1, 0.5], [0.5], [1], [pytest.approx(1 / 3)]]
    assert found[2]["negative_scores"] == [pytest.approx(1 / n) for n in (3, 3, 4)]
    assert sum(model.calls) == 3 + 5


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.25, "all 8 documents the score 0.25, which ranks nothing"),
        (float("nan"), "not finite"),
        (float("inf"), "not finite"),
    ],
)
def test_scores_that_teach_nothing(value: float, message: str) -> None:
    with pytest.raises(DataError, match=f"^toy: the teacher of mining.scores gives .*{message}"):
        list(scored("toy", ROWS, Scorer(Counting(value), dict(ROWS)), 4))
