"""Sets that are read when they are first looked into, and not before."""

import pickle
from pathlib import Path

import pytest
from datasets import Dataset

from lightning_embed.data import DatasetOptions, load_datasets
from lightning_embed.data import eval_sets as module
from lightning_embed.data.late import read_late, rows_of
from lightning_embed.types import RetrievalSet, Task

ROWS = Dataset.from_dict({"query": ["x"]})
CONTENT = RetrievalSet({"d": {"title": "", "text": "t"}}, {"q": "x"}, {"q": {"d": 1}}, {"q": "d"}, {"q": "p: "})


def _made(_: Dataset) -> RetrievalSet:
    return CONTENT


def test_like_the_set_itself() -> None:
    late = read_late(_made, ROWS, has_copies=True)
    assert repr(late) == repr(CONTENT), "it names scores in the cache"
    for name, value in vars(CONTENT).items():
        found = getattr(late, name)
        assert found == value
        assert (list(found), len(found), bool(found)) == (list(value), len(value), bool(value))
        assert {**found} == value
        assert "d" in found or "q" in found
        assert found.get("nothing") is None
    assert pickle.loads(pickle.dumps(late)).corpus == CONTENT.corpus


def test_read_once_when_needed() -> None:
    calls: list[int] = []
    late = read_late(lambda rows: calls.append(len(rows)) or CONTENT, ROWS, has_copies=False)  # type: ignore[func-returns-value]
    assert not late.copies
    assert not calls
    assert rows_of(late) is ROWS
    assert rows_of(CONTENT) is rows_of(None) is None
    assert not calls
    assert late.queries["q"] == "x"
    assert late.corpus
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("rows", "noted", "is_read"),
    [
        ([{"query": f"q{n}", "positives": [f"d{n}"]} for n in range(9)], 0, False),
        ([{"query": f"q{n}", "positives": [f"q{n}"]} for n in range(9)], 0, True),  # its own positive: no copy
        ([{"query": f"q{n}", "positives": [f"d{n}"], "negatives": ["q3"]} for n in range(9)], 1, True),
        ([{"query": f"q{n}", "positives": [f"d{n}", f"q{n + 1}"]} for n in range(9)], 8, True),
    ],
)
@pytest.mark.parametrize("part", ["dev", "test"])
def test_rows_are_read_at_once_only_where_a_query_is_a_document(
    rows: list[dict], noted: int, is_read: bool, part: str, write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    read = module._retrieval_from_rows
    monkeypatch.setattr(module, "_retrieval_from_rows", lambda given: calls.append(1) or read(given))
    write(f"d/{part}.jsonl", rows)
    write("d/train.jsonl", [{"query": "a", "positives": ["b"]}] * 4)
    options = DatasetOptions(Task.retrieval, path=str(tmp_path / "d"), dev_share=0.0)
    data = load_datasets({"d": options}, cache=tmp_path / "cache")["d"]
    before = len(calls)
    again = load_datasets({"d": options}, cache=tmp_path / "cache")["d"]
    assert [count > 0 for count in (before, len(calls) - before)] == [is_read, is_read]
    assert again.notes == data.notes
    assert [f"{noted} of the 9 queries" in note for note in data.notes] == [True] * bool(noted)
    assert len(data.eval_sets[0].content.copies) == noted
    assert len(data.eval_sets[0].content.queries) == 9
