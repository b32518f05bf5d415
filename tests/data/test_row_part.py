"""Parts of files into Arrow, with the hashes of their texts."""

from typing import Any

import pyarrow as pa
import pytest

from lightning_embed.data.options import DatasetOptions
from lightning_embed.data.row_part import DOCUMENTS, NEGATIVES, PartReader, schema, text_hash
from lightning_embed.errors import DataError
from lightning_embed.types import Task

ROWS: dict[Task, list[dict[str, Any]]] = {
    Task.retrieval: [
        {"query": "q", "positives": ["p", "r"], "negatives": ["n"], "negative_scores": [0.5], "prompt": "x: "},
        {"query": "ü", "positives": ["p"], "negatives": []},
    ],
    Task.sts: [{"text1": "a", "text2": "b", "score": 0.25}, {"text1": "a", "text2": "a", "score": 1}],
    Task.classification: [{"text": "t", "label": 3}],
    Task.clustering: [{"text": "t", "label": "x"}, {"text": "u", "label": "x", "prompt": ""}],
}
HASHED = {
    Task.retrieval: ([["q", "p", "r"], ["ü", "p"]], [["n"], []]),
    Task.sts: ([["a", "b"], ["a", "a"]], None),
    Task.classification: ([["t"]], None),
    Task.clustering: ([["t"], ["u"]], None),
}


@pytest.mark.parametrize("task", ROWS)
def test_rows_and_hashes(task: Task) -> None:
    records = [(f"f: line {n}", row) for n, row in enumerate(ROWS[task], 1)]
    part = PartReader(DatasetOptions(task, "x"), ROWS[task][0])(records)
    batch = pa.ipc.read_record_batch(pa.py_buffer(part.batch), schema(task))
    assert part.problem is None
    assert part.rows == batch.num_rows == len(ROWS[task])
    for row, made in zip(ROWS[task], batch.to_pylist(), strict=True):
        for name, value in row.items():
            assert made[name] == (str(value) if name == "label" else value)
    documents, negatives = HASHED[task]
    assert batch.column(DOCUMENTS).to_pylist() == [[text_hash(text) for text in texts] for texts in documents]
    if negatives is not None:
        assert batch.column(NEGATIVES).to_pylist() == [[text_hash(text) for text in texts] for texts in negatives]


@pytest.mark.parametrize("text", ["", "a", "ü", "\U0001f600", "a" * 1000])
def test_hashes_are_those_of_every_machine(text: str) -> None:
    import xxhash

    assert text_hash(text) == xxhash.xxh3_64(text.encode("utf-8")).intdigest() < 2**64


def test_the_first_invalid_row_ends_a_part() -> None:
    good = {"text1": "a", "text2": "b", "score": 0}
    records = [("f: line 4", good), ("f: line 5", {**good, "text1": " ", "late": 1}), ("f: line 6", {"text1": 3})]
    part = PartReader(DatasetOptions(Task.sts, "x"), good)(records)
    assert isinstance(part.problem, DataError)
    assert str(part.problem) == "f: line 5: 'text1' is an empty text."
    assert not part.batch


def test_columns_are_noted_before_they_are_left_out() -> None:
    first = {"text": "a", "label": "x", "none": None, "more": ""}
    options = DatasetOptions(Task.clustering, "x", ignore_columns=["more"])
    part = PartReader(options, first)(
        [("1", first), ("2", {**first, "more": [], "none": 0}), ("3", {**first, "more": 7})]
    )
    assert part.found == {"text": 1, "label": 1, "none": 2, "more": 3}
