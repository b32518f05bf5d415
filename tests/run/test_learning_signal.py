"""Learning signal: which rows can teach something, for every loss, in batches as training makes them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightning_embed import DatasetOptions, load_datasets, registry
from lightning_embed.data.collator import RowPrompts
from lightning_embed.data.row_groups import Rows
from lightning_embed.loss import Loss
from lightning_embed.loss.distill import DistillKind
from lightning_embed.loss.distill_embeddings import EmbeddingDistance
from lightning_embed.run.learning_signal import Signal, measure
from lightning_embed.types import Task
from tests.training.parity import CASES, loss_of

Make = Callable[[int], dict[str, Any]]


def _rows(folder: Path, task: Task, make: Make, count: int = 64, **options: Any) -> Rows:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(make(n)) + "\n" for n in range(count)))
    given = DatasetOptions(task, path=str(file), dev_share=0.0, **options)
    rows = load_datasets({"d": given}, cache=folder / "cache")["d"].train
    assert rows is not None
    return rows


def _signal(rows: Rows, loss: Loss, size: int = 8) -> Signal:
    return measure(rows, loss, size, RowPrompts(), 32, 0)


def _ordinary(task: Task) -> Make:
    if task is Task.sts:
        return lambda n: {"text1": f"a {n}", "text2": f"b {n}", "score": 1.0 if n % 2 else n / 64}
    if task is Task.retrieval:
        return lambda n: {
            "query": f"q {n}", "positives": [f"p {n}"], "negatives": [f"n {n}"], "positive_scores": [2.0], "negative_scores": [n / 64]
        }  # fmt: skip
    return lambda n: {"text": f"t {n}", "label": str(n % 3)}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("cross_device", [True, False])
def test_ordinary_rows_teach(case: str, cross_device: bool, tmp_path: Path) -> None:
    """A law over all losses."""
    task = CASES[case][0]
    found = _signal(_rows(tmp_path, task, _ordinary(task)), loss_of(case, cross_device))
    assert found == Signal(rows=64, silent=0, equal_texts=0, own_positives=0, one_query=False)


def _infonce(**options: Any) -> Loss:
    return registry.build("loss", {"name": "infonce", **options})


def _loss(word: str, **options: Any) -> Loss:
    return registry.build("loss", {"name": word, **options})


OWN = {"in_batch": False}
DISTILL = {"loss_weight": 0.0}
# what it is: (task, loss, row, silent of 64, of them by equal texts)
SILENT: dict[str, tuple[Task, Loss, Make, int, int]] = {
    "one positive": (Task.retrieval, _infonce(), lambda n: {"query": f"q {n}", "positives": ["p"]}, 64, 64),
    "one positive, symmetric": (Task.retrieval, _infonce(symmetric=True), lambda n: {"query": f"q {n}", "positives": ["p"]}, 64, 64),
    "one positive, multi_positive": (Task.retrieval, _loss("multi_positive"), lambda n: {"query": f"q {n}", "positives": ["p"]}, 64, 64),
    "one positive, matryoshka": (Task.retrieval, _loss("matryoshka", dims=[32, 8]), lambda n: {"query": f"q {n}", "positives": ["p"]}, 64, 64),
    "one positive, spread_out": (Task.retrieval, _loss("spread_out"), lambda n: {"query": f"q {n}", "positives": ["p"]}, 64, 64),
    "one positive, spread_out in matryoshka": (Task.retrieval, _loss("matryoshka", dims=[32, 8], loss={"name": "spread_out"}), lambda n: {"query": f"q {n}", "positives": ["p"]}, 64, 64),
    "one pair, infonce_joint": (Task.retrieval, _loss("infonce_joint"), lambda n: {"query": "q", "positives": ["p"]}, 64, 64),
    "one positive, quantized": (Task.retrieval, _loss("quantized"), lambda n: {"query": f"q {n}", "positives": ["p"]}, 64, 64),
    "one query, multi_positive": (Task.retrieval, _loss("multi_positive"), lambda n: {"query": "q", "positives": [f"p {n}"]}, 64, 64),
    "one pair": (Task.retrieval, _infonce(), lambda n: {"query": "q", "positives": ["p"]}, 64, 64),
    "one text": (Task.retrieval, _infonce(), lambda n: {"query": "q", "positives": ["q"]}, 64, 64),
    "one positive, with negatives": (Task.retrieval, _infonce(), lambda n: {"query": f"q {n}", "positives": ["p"], "negatives": [f"n {n}"]}, 0, 0),
    "negative is the positive": (Task.retrieval, _infonce(**OWN), lambda n: {"query": f"q {n}", "positives": [f"p {n}"], "negatives": [f"p {n}"]}, 64, 64),
    "negative is the query": (Task.retrieval, _infonce(**OWN), lambda n: {"query": f"q {n}", "positives": [f"p {n}"], "negatives": [f"q {n}"]}, 64, 64),
    "negative is the positive, in batch": (Task.retrieval, _infonce(), lambda n: {"query": f"q {n}", "positives": [f"p {n}"], "negatives": [f"p {n}"]}, 0, 0),
    "a half without negatives": (Task.retrieval, _infonce(**OWN), lambda n: {"query": f"q {n}", "positives": [f"p {n}"], "negatives": ["n"][: n % 2]}, 32, 0),
    "a quarter of equal negatives": (Task.retrieval, _infonce(**OWN), lambda n: {"query": f"q {n}", "positives": [f"p {n}"], "negatives": [f"{'n' if n % 4 else 'p'} {n}"]}, 16, 16),
    "SimCSE": (Task.retrieval, _infonce(), lambda n: {"query": f"q {n}", "positives": [f"q {n}"]}, 0, 0),
    "margins of equal documents": (Task.retrieval, _loss("distill", kind=DistillKind.margin_mse, **DISTILL), lambda n: {"query": f"q {n}", "positives": [f"p {n}"], "negatives": [f"p {n}"], "positive_scores": [n], "negative_scores": [1]}, 64, 64),
    "one scored document": (Task.retrieval, _loss("distill", **DISTILL), lambda n: {"query": f"q {n}", "positives": [f"p {n}"], "positive_scores": [n]}, 64, 0),
    "one pair, a teacher's embeddings": (Task.retrieval, _loss("distill_embeddings", **DISTILL), lambda n: {"query": "q", "positives": ["p"]}, 0, 0),
    "one document, a teacher's similarities": (Task.retrieval, _loss("distill_embeddings", kind=EmbeddingDistance.kl, **DISTILL), lambda n: {"query": f"q {n}", "positives": ["p"]}, 64, 64),
    "one text of several labels": (Task.classification, _infonce(**OWN), lambda n: {"text": "t", "label": str(n % 2)}, 64, 64),
    "one text a label": (Task.classification, _infonce(**OWN), lambda n: {"text": f"t {n % 2}", "label": str(n % 2)}, 0, 0),
    "pairs of one text": (Task.sts, _loss("cosent"), lambda n: {"text1": f"a {n}", "text2": f"a {n}", "score": n / 64}, 64, 64),
    "pairs of one text, pearson": (Task.sts, _loss("pearson"), lambda n: {"text1": f"a {n}", "text2": f"a {n}", "score": n / 64}, 64, 64),
    "a quarter of one text": (Task.sts, _loss("cosent"), lambda n: {"text1": f"a {n}", "text2": f"{'b' if n % 4 else 'a'} {n}", "score": n / 64}, 16, 16),
    "one score but for one": (Task.sts, _loss("cosent"), lambda n: {"text1": f"a {n}", "text2": f"b {n}", "score": float(not n)}, 56, 0),
    "one score but for one, cosine_mse": (Task.sts, _loss("cosine_mse"), lambda n: {"text1": f"a {n}", "text2": f"b {n}", "score": float(not n)}, 0, 0),
    "no pair from min_score on": (Task.sts, _infonce(), lambda n: {"text1": f"a {n}", "text2": f"b {n}", "score": n / 100}, 64, 0),
}  # fmt: skip


@pytest.mark.parametrize("what", SILENT)
def test_silent_rows(what: str, tmp_path: Path) -> None:
    task, loss, make, silent, equal = SILENT[what]
    found = _signal(_rows(tmp_path, task, make), loss)
    assert (found.silent, found.equal_texts) == (silent, equal)
    assert found.rows == 64


def test_own_positives_and_queries_are_counted(tmp_path: Path) -> None:
    rows = _rows(tmp_path, Task.retrieval, lambda n: {"query": f"q {n}", "positives": [f"{'q' if n % 4 else 'p'} {n}"]})
    assert _signal(rows, _infonce()).own_positives == 48
    assert measure(rows, _infonce(), 8, RowPrompts("query: ", "passage: "), 32, 0).own_positives == 0
    assert not _signal(rows, _infonce()).one_query


def test_a_batch_decides(tmp_path: Path) -> None:
    """Of two documents, a batch of two rows has one and the same in half of the cases; one of 64 never has."""
    rows = _rows(tmp_path, Task.retrieval, lambda n: {"query": f"q {n}", "positives": [f"p {n % 2}"]})
    assert 16 <= _signal(rows, _infonce(), 2).silent <= 48
    assert _signal(rows, _infonce(), 64).silent == 0
    assert _signal(rows, _infonce(), 1).silent == 64


def test_cost_does_not_grow_with_the_data(tmp_path: Path) -> None:
    rows = _rows(tmp_path, Task.retrieval, lambda n: {"query": f"q {n}", "positives": [f"p {n}"]}, 2000)
    assert _signal(rows, _infonce(), 8).rows == 512
    assert _signal(rows, _infonce(), 1000).rows == 512
