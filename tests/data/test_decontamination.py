"""Train rows that have a text of a dev or test set: counted by set, left out, refused; the same on every rank and start."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from lightning_embed.data import DatasetOptions, decontamination, eval_sets, load_datasets
from lightning_embed.data.dataset import EmbeddingDataset
from lightning_embed.data.options import Decontaminate
from lightning_embed.errors import ConfigError, DataError
from lightning_embed.types import Task

LONG = "the old king of the small city near the river sees the red house on the road and likes the blue bird that sleeps in it all the day long "
Write = Callable[..., Path]


def _pairs(*texts: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"query": query, "positives": [positive]} for query, positive in texts]


TRAIN = [(f"question {i}", f"answer {i}") for i in range(20)]


def _load(
    folder: Path,
    parts: dict[str, dict[str, Sequence[Any]]],
    task: Task = Task.retrieval,
    examine: bool = True,
    **options: Any,
) -> dict[str, EmbeddingDataset]:
    """Datasets from the rows of their parts."""
    for name, files in parts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for part, rows in files.items():
            (folder / name / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {name: DatasetOptions(task, str(folder / name), dev_share=0, **options) for name in parts}
    return load_datasets(given, examine=examine, cache=folder / "cache")


def _queries(data: EmbeddingDataset) -> list[str]:
    assert data.train is not None
    return list(data.train.table["query"])


PLANTED = {
    "a query": (("Question 3!", "another answer"), 1, 1, 1),
    "a positive": (("another question", " ANSWER 3"), 1, 0, 1),
    "both": (("question 3", "answer 3"), 1, 1, 1),
    "a query as a document": (("another question", "question 3"), 1, 1, 1),
    "a document as a query": (("answer 3", "another answer"), 1, 0, 1),
    "nearly": (("another question", LONG + "too"), 1, 0, 0),
    "nothing": (("question 30", "answer 30"), 0, 0, 0),
}


@pytest.mark.parametrize("kind", PLANTED)
@pytest.mark.parametrize("split", ["dev", "test"])
def test_planted(kind: str, split: str, tmp_path: Path) -> None:
    pair, rows, queries, equal = PLANTED[kind]
    train = _pairs(*TRAIN, ("a long one", LONG))
    sets = {split: _pairs(("other", "document"), pair)}
    keep = _load(tmp_path, {"a": {"train": train, **sets}})["a"]
    assert len(_queries(keep)) == 21, "the default changes no rows"
    assert [(o.test, o.split, o.total, o.rows, o.queries, o.equal) for o in keep.overlaps] == (
        [("a", split, 21, rows, queries, equal)] if rows else []
    )
    assert len(keep.notes) == rows
    drop = _load(tmp_path, {"a": {"train": train, **sets}}, decontaminate=Decontaminate.drop)["a"]
    lost = {"question 3"} if kind != "nearly" else {"a long one"}
    assert _queries(drop) == [query for query in _queries(keep) if not rows or query not in lost]
    assert drop.overlaps == keep.overlaps


def test_the_sentences(tmp_path: Path) -> None:
    parts = {
        "a": {"train": _pairs(*TRAIN)},
        "b": {"test": _pairs(("question 3", "answer 4"), ("question 5", "x"))},
        "c": {"train": _pairs(("u", "v"), ("w", "z")), "test": _pairs(("y", "Answer 4."))},
    }
    found = (
        "a: 3 of 20 train rows (15.00%) have a text of a dev or test set, 2 of them as their query (b test 3, c test 1)"
    )
    keep = _load(tmp_path, parts)
    assert list(keep["a"].notes) == [f"{found}. data.decontaminate=drop leaves them out."]
    assert not keep["b"].notes
    assert not keep["c"].notes
    drop = _load(tmp_path, parts, decontaminate=Decontaminate.drop)
    assert list(drop["a"].notes) == [f"{found}: left out."]
    assert _queries(drop["a"]) == [q for q, _ in TRAIN if q not in ("question 3", "question 4", "question 5")]
    with pytest.raises(DataError) as error:
        _load(tmp_path, parts, decontaminate=Decontaminate.refuse)
    assert str(error.value) == f"{found}. Remove them, or leave them out by decontaminate=drop."


@pytest.mark.parametrize("seed", range(6))
def test_equal_texts_are_found_by_their_hashes(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rows are kept and not examined: no text of a set is read, and the counts are those of a comparison."""
    draw = random.Random(seed)
    texts = [f"{word} {number}" for word in ("Text", "text", "text!") for number in range(6)]

    def rows(count: int) -> list[dict[str, Any]]:
        several = [draw.sample(texts, draw.randint(2, 4)) for _ in range(count)]
        return [{"query": query, "positives": documents} for query, *documents in several]

    parts = {"a": {"train": rows(30), "dev": rows(2)}, "b": {"train": rows(20), "test": rows(1)}}
    monkeypatch.setattr(eval_sets, "_retrieval_from_rows", lambda _: pytest.fail("a set was read"))
    monkeypatch.setattr(eval_sets, "_may_have_copies", lambda _: False)
    data = _load(tmp_path, parts, examine=False)
    sets = {
        (n, s): {t for r in parts[n][s] for t in (r["query"], *r["positives"])}
        for n, s in (("a", "dev"), ("b", "test"))
    }
    for name, each in data.items():
        train = parts[name]["train"]
        expected = {
            key: (
                sum(bool(known & {row["query"], *row["positives"]}) for row in train),
                sum(row["query"] in known for row in train),
            )
            for key, known in sets.items()
        }
        found = {(o.test, o.split): (o.rows, o.queries) for o in each.overlaps}
        assert found == {key: counts for key, counts in expected.items() if counts[0]}
        assert all(o.equal == o.rows and o.total == len(train) for o in each.overlaps)
        whole = sum(any(known & {row["query"], *row["positives"]} for known in sets.values()) for row in train)
        assert not whole or f"{name}: {whole} of {len(train)} train rows" in each.notes[0]


@pytest.mark.parametrize("task", [Task.sts, Task.classification, Task.clustering])
def test_equal_texts_of_other_tasks(task: Task, tmp_path: Path) -> None:
    names = ("text1", "text2", "score") if task is Task.sts else ("text", "label")
    train = [
        dict(zip(names, values, strict=False))
        for values in [("a b", "c", 0.5), ("d", "a b", 1), ("e", "c", 0), ("A b", "f", 0)]
    ]
    test = [dict(zip(names, values, strict=False)) for values in [("a b", "x", 0), ("y", "z", 1)]]
    if task is not Task.sts:
        for number, row in enumerate([*train, *test]):
            row["label"] = "even" if number % 2 else "odd"
    data = _load(tmp_path, {"a": {"train": train, "test": test}}, task, examine=False)
    assert [(o.rows, o.queries) for o in data["a"].overlaps] == [(2, 2) if task is Task.sts else (1, 1)]


def test_all_refusals_in_one_message(tmp_path: Path) -> None:
    rows = _pairs(*TRAIN)
    with pytest.raises(DataError, match=r"(?s)^a: 20 of 20 .*\nb: 20 of 20 "):
        _load(tmp_path, {"a": {"train": rows, "test": rows}, "b": {"train": rows}}, decontaminate=Decontaminate.refuse)


def test_nothing_left(tmp_path: Path) -> None:
    rows = _pairs(*TRAIN)
    with pytest.raises(DataError, match=r"nothing is left of it\. Give it decontaminate: keep, or other rows\."):
        _load(tmp_path, {"a": {"train": rows, "test": rows}}, decontaminate=Decontaminate.drop)


def test_the_option_of_a_dataset_goes_before_that_of_all(tmp_path: Path) -> None:
    rows = _pairs(*TRAIN)
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "t.jsonl").write_text(json.dumps(rows[0]) + "\n" + json.dumps(rows[1]) + "\n")
    given = {
        "a": DatasetOptions(
            Task.retrieval, train=str(tmp_path / "a.jsonl"), test=str(tmp_path / "t.jsonl"), dev_share=0
        ),
        "b": DatasetOptions(
            Task.retrieval, train=str(tmp_path / "b.jsonl"), dev_share=0, decontaminate=Decontaminate.keep
        ),
    }
    data = load_datasets(given, decontaminate=Decontaminate.drop, cache=tmp_path / "cache")
    assert [len(_queries(each)) for each in data.values()] == [18, 20]


@pytest.mark.parametrize("negative", ["answer 3", "question 3"])
def test_documents_that_answer_nothing_do_not_count(negative: str, tmp_path: Path) -> None:
    """Negatives of a test, and of train rows: collections are shared."""
    test = [{"query": "other", "positives": ["document"], "negatives": [negative]}]
    train = [{**row, "negatives": ["document"]} for row in _pairs(*TRAIN)]
    assert not _load(tmp_path, {"a": {"train": train, "test": test}})["a"].overlaps


def test_a_corpus_with_titles(tmp_path: Path) -> None:
    corpus = [
        {"_id": "1", "title": "Answer", "text": "3"},
        {"_id": "2", "title": "", "text": "answer 5"},
        {"_id": "3", "text": "answer 6"},
    ]
    folder = tmp_path / "t"
    (folder / "qrels").mkdir(parents=True)
    for name, records in {"corpus": corpus, "queries": [{"_id": "q", "text": "Question 9"}]}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "qrels" / "test.tsv").write_text("q\t1\t1\nq\t2\t0\n")
    data = _load(tmp_path, {"a": {"train": _pairs(*TRAIN)}} | {"t": {}}, decontaminate=Decontaminate.drop)
    assert {query for query, _ in TRAIN} - set(_queries(data["a"])) == {"question 3", "question 9"}


TASKS = {
    Task.sts: [{"text1": f"one {i}", "text2": f"two {i}", "score": i % 2} for i in range(9)],
    Task.classification: [{"text": f"text {i}", "label": str(i % 2)} for i in range(9)],
    Task.clustering: [{"text": f"text {i}", "label": str(i % 2)} for i in range(9)],
}


@pytest.mark.parametrize("task", TASKS)
def test_other_tasks(task: Task, tmp_path: Path) -> None:
    rows = TASKS[task]
    new = [{k: f"{v} new" if isinstance(v, str) and k != "label" else v for k, v in row.items()} for row in rows[:4]]
    test = [*new, {**rows[4], **({"text2": "new"} if task is Task.sts else {})}]
    data = _load(tmp_path, {"a": {"train": rows, "test": test}}, task, decontaminate=Decontaminate.drop)["a"]
    assert data.train is not None
    assert data.train.table.to_list() == [
        row for row in _load(tmp_path / "all", {"a": {"train": rows}}, task)["a"].train.table.to_list() if not any(value in ("one 4", "text 4") for value in row.values())
    ]  # fmt: skip
    assert [(o.rows, o.queries, o.equal) for o in data.overlaps] == [(1, 1, 1)]


def test_a_label_that_is_left_with_one_text_goes_too(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": label} for i, label in enumerate("aaabbcc")]
    test = [{"text": "Text 3", "label": "b"}, {"text": "new", "label": "a"}]
    data = _load(tmp_path, {"a": {"train": rows, "test": test}}, Task.classification, decontaminate=Decontaminate.drop)
    assert data["a"].train is not None
    assert list(data["a"].train.table["label"]) == list("aaacc")


def test_searched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the rows, the tests or the code change; a broken result is made again."""
    calls: list[int] = []
    search = decontamination.EvalTexts._search

    def counted(self: Any, rows: Any) -> Any:
        calls.append(len(rows))
        return search(self, rows)

    monkeypatch.setattr(decontamination.EvalTexts, "_search", counted)
    rows, test = _pairs(*TRAIN), _pairs(("Question 1", "x"), ("Question 2", "y"))
    first = _load(tmp_path, {"a": {"train": rows, "test": test}})["a"]
    again = _load(tmp_path, {"a": {"train": rows, "test": test}})["a"]
    assert (calls, again.overlaps) == ([20], first.overlaps)
    (kept,) = (tmp_path / "cache").glob("*-overlap.json")
    kept.write_text(kept.read_text()[:-9])
    assert _load(tmp_path, {"a": {"train": rows, "test": test}})["a"].overlaps == first.overlaps
    assert _load(tmp_path, {"a": {"train": rows, "test": test[:1]}})["a"].overlaps[0].rows == 1
    assert _load(tmp_path, {"a": {"train": rows[:9], "test": test[:1]}})["a"].overlaps[0].total == 9
    assert calls == [20, 20, 20, 9]


def test_words_from_python(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _pairs(*TRAIN)))
    given: Any = {"a": DatasetOptions(Task.retrieval, str(tmp_path / "a.jsonl"), test=str(tmp_path / "a.jsonl"))}
    word: Any = "dorp"
    with pytest.raises(ConfigError, match=r"^decontaminate: no such word as 'dorp'\. Did you mean 'drop'"):
        load_datasets(given, decontaminate=word, cache=tmp_path / "cache")
    with pytest.raises(ConfigError, match=r"^decontaminate: no such word as 'dorp'\."):
        DatasetOptions(Task.retrieval, "x", decontaminate=word)
    word = "keep"
    assert DatasetOptions(Task.retrieval, "x", decontaminate=word).decontaminate is Decontaminate.keep
