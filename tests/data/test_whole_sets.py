"""All texts of rows as they are encoded, and test sets as batches."""

from pathlib import Path

import pytest

from lightning_embed.data import DatasetOptions, load_datasets
from lightning_embed.data.collator import RowPrompts
from lightning_embed.data.whole_sets import TestSets, WholeRows
from lightning_embed.types import EvalSet, StsSet, Task, Tokens

ROWS = [
    '{"query": "a", "positives": ["b", "c"], "negatives": ["d"]}',
    '{"query": "e", "positives": ["a"], "prompt": "own: "}',
    '{"query": "f", "positives": ["f"]}',
]


class Spy:
    """Notes what it is asked to tokenize."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int | None]] = []

    def __call__(self, texts: list[str], prompt: list[str], max_length: list[int | None]) -> Tokens:
        self.asked += zip(prompt, texts, max_length, strict=True)
        return Tokens.of([[1]] * len(texts))


@pytest.mark.parametrize("batch_size", [2, 3, 64])
def test_prompts_lengths_and_places(batch_size: int, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(ROWS))
    options = DatasetOptions(
        Task.retrieval, str(file), batch_size=batch_size, query_max_length=8, document_max_length=16, dev_share=0.0
    )
    rows = load_datasets({"d": options}, cache=tmp_path)["d"].train
    assert rows is not None
    spy = Spy()
    whole = WholeRows({"d": rows}, spy, {"d": RowPrompts("q: ", "d: ")})
    batches = [whole[number] for number in range(len(whole))]
    assert len(batches) == -(-3 // batch_size)
    assert spy.asked == [
        ("q: ", "a", 8), ("d: ", "b", 16), ("d: ", "c", 16), ("d: ", "d", 16), ("own: ", "e", 8), ("d: ", "a", 16),
        ("q: ", "f", 8), ("d: ", "f", 16),
    ]  # fmt: skip
    assert [row for batch in batches for row in batch.row.tolist()] == [0, 0, 0, 0, 1, 1, 2, 2]
    assert [place for batch in batches for place in batch.place.tolist()] == [0, 1, 2, 3, 0, 1, 0, 1]


def test_a_test_set_is_a_batch() -> None:
    sets = [EvalSet(name, Task.sts, "test", True, StsSet(["a"], ["b"], [1.0])) for name in ("one", "two")]
    found = TestSets(sets)
    assert len(found) == 2
    for _ in range(2):  # Lightning iterates once for each test
        assert [batch.eval_set for batch in found] == sets
