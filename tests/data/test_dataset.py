"""Folders into datasets: parts found by name, dev sets cut off, rows into groups."""

import os
from pathlib import Path

import pytest

from lightning_embed.data import DatasetOptions, load_datasets
from lightning_embed.data.options import Pad
from lightning_embed.errors import ConfigError, DataError
from lightning_embed.types import RetrievalSet, StsSet, Task


def _load(options: DatasetOptions, tmp_path: Path, seed: int = 0):
    return load_datasets({"d": options}, seed=seed, cache=tmp_path / "cache")["d"]


def _retrieval_rows(count: int) -> list[dict]:
    """Two rows a document."""
    return [
        {
            "query": f"q{i}",
            "positives": [f"d{i // 2}", f"e{i // 2}", f"f{i // 2}"],
            "negatives": [f"d{i + 1000}", f"d{i + 2000}"],
        }
        for i in range(count)
    ]


def test_a_folder_is_found_by_names(write, tmp_path: Path) -> None:
    write("d/train.jsonl", _retrieval_rows(20))
    write("d/dev.jsonl", [{"query": "dq", "positives": ["dd"], "negatives": ["dn"]}])
    write("d/corpus.jsonl", [{"id": "1", "title": "T", "text": "one"}, {"id": "2", "text": "two"}])
    write("d/queries.jsonl", [{"id": "a", "text": "qa"}, {"id": "unjudged", "text": "qb"}])
    (tmp_path / "d/qrels.tsv").write_text("a\t2\t1\na\t1\t0\n")
    data = _load(DatasetOptions(Task.retrieval, path=str(tmp_path / "d")), tmp_path)
    assert (len(data.train), len(data.dev)) == (20, 1)
    dev, test = data.eval_sets
    assert (dev.split, test.split, test.in_domain) == ("dev", "test", True)
    assert isinstance(dev.content, RetrievalSet)
    assert {d["text"] for d in dev.content.corpus.values()} == {"dd", "dn"}
    assert test.content == RetrievalSet(
        {"1": {"title": "T", "text": "one"}, "2": {"title": "", "text": "two"}}, {"a": "qa"}, {"a": {"2": 1, "1": 0}}
    )


def test_a_folder_of_beir(write, tmp_path: Path) -> None:
    """As it is downloaded: _id, a header, qrels of each part; those of train become rows."""
    write("d/corpus.jsonl", [{"_id": "1", "title": "T", "text": "one"}, {"_id": "2", "text": "two", "metadata": {}}])
    write("d/queries.jsonl", [{"_id": "a", "text": "qa"}, {"_id": "b", "text": "qb"}])
    (tmp_path / "d/qrels").mkdir()
    for part, line in {"train": "a\t1\t1", "dev": "b\t1\t2", "test": "a\t2\t1"}.items():
        (tmp_path / f"d/qrels/{part}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{line}\n")
    data = _load(DatasetOptions(Task.retrieval, path=str(tmp_path / "d")), tmp_path)
    dev, test = data.eval_sets
    assert [(row["query"], row["positives"]) for row in data.train.table] == [("qa", ["T one"])]
    assert (dev.split, dev.content.qrels, dev.content.queries) == ("dev", {"b": {"1": 2}}, {"b": "qb"})
    assert (test.split, test.content.qrels, test.content.queries) == ("test", {"a": {"2": 1}}, {"a": "qa"})
    assert set(test.content.corpus) == {"1", "2"}


def test_dev_share_keeps_documents_together(write, tmp_path: Path) -> None:
    write("d/train.jsonl", _retrieval_rows(200))
    options = DatasetOptions(Task.retrieval, path=str(tmp_path / "d"), dev_share=0.1)
    data = _load(options, tmp_path)
    parts = [{text for row in rows.table for text in row["positives"]} for rows in (data.train, data.dev)]
    assert len(data.dev) == 20
    assert len(data.train) == 180
    assert not parts[0] & parts[1]
    again, other = _load(options, tmp_path), _load(options, tmp_path, seed=1)
    assert again.dev.table["query"][:] == data.dev.table["query"][:]
    assert other.dev.table["query"][:] != data.dev.table["query"][:]


def test_dev_share_refuses_one_large_group(write, tmp_path: Path) -> None:
    write("d/train.jsonl", [{"query": f"q{i}", "positives": ["the same"]} for i in range(50)])
    with pytest.raises(DataError, match=r"d: dev_share=0.05 of 50 rows finds only 0: the largest group .* has 50"):
        _load(DatasetOptions(Task.retrieval, path=str(tmp_path / "d")), tmp_path)


def test_out_of_domain_is_never_trained_on(write, tmp_path: Path) -> None:
    write("d/train.jsonl", [{"text": f"t{i}", "label": i % 2} for i in range(10)])
    write("d/test.jsonl", [{"text": "x", "label": 0}, {"text": "y", "label": 1}])
    data = _load(DatasetOptions(Task.classification, path=str(tmp_path / "d"), in_domain=False), tmp_path)
    assert data.train is None
    assert data.dev is None
    (test,) = data.eval_sets
    assert not test.in_domain
    assert len(test.content.train_texts) == 10


def test_sts_files(write, tmp_path: Path) -> None:
    train = write("a.jsonl", [{"text1": f"a{i}", "text2": f"b{i}", "score": i % 6} for i in range(40)])
    test = write("b.jsonl", [{"text1": "x", "text2": "y", "score": 5}, {"text1": "z", "text2": "y", "score": 0}])
    options = DatasetOptions(Task.sts, train=str(train), test=str(test), score_range=[0.0, 5.0], dev_share=0.0)
    data = _load(options, tmp_path)
    assert data.dev is None
    assert data.eval_sets[0].content == StsSet(["x", "z"], ["y", "y"], [1.0, 0.0])
    group = data.train.group(3, seed=0)
    assert (group.query, list(group.positives), group.score) == ("a3", ["b3"], 0.6)


def test_groups_draw_at_most_the_wanted_number(write, tmp_path: Path) -> None:
    write("d/train.jsonl", _retrieval_rows(8))
    options = DatasetOptions(Task.retrieval, path=str(tmp_path / "d"), num_positives=2, num_negatives=5, dev_share=0.0)
    rows = _load(options, tmp_path).train
    group = rows.group(0, seed=1)
    assert len(set(group.positives)) == 2
    assert set(group.positives) <= {"d0", "e0", "f0"}
    assert sorted(group.negatives) == ["d1000", "d2000"], "nothing is invented where there are fewer"
    assert rows.group(0, seed=1) == group
    assert any(rows.group(0, seed=s).positives != group.positives for s in range(2, 9))


def test_short_rows_are_filled_by_repetition_where_asked(write, tmp_path: Path) -> None:
    """As the papers' scripts: of the texts repeated as often as needed, as many as asked; drawn by seed and row."""
    records = _retrieval_rows(8)
    records[0]["negatives"], records[1]["negatives"] = [], ["only"]
    write("d/train.jsonl", [{**row, "negative_scores": [len(text) for text in row["negatives"]]} for row in records])
    given = {"task": Task.retrieval, "path": str(tmp_path / "d"), "num_positives": 5, "dev_share": 0.0}
    padded, plain = (
        _load(DatasetOptions(**given, num_negatives=n, pad=pad), tmp_path).train
        for n, pad in ((5, Pad.repeat), (5, Pad.none))
    )
    for row in range(8):
        group, short = padded.group(row, seed=1), plain.group(row, seed=1)
        own = set(records[row]["negatives"])
        assert sorted(short.negatives) == sorted(own), "nothing is invented by default"
        assert len(group.negatives) == (5 if own else 0), "of nothing, nothing is repeated"
        assert set(group.negatives) <= own
        assert max((group.negatives.count(text) for text in own), default=0) <= (5 if row == 1 else 3)
        assert group.negative_scores == [len(text) for text in group.negatives]
        assert len(group.positives) == 5
        assert set(group.positives) <= set(records[row]["positives"])
        assert padded.group(row, seed=1) == group
    assert any(padded.group(3, seed=s).negatives != padded.group(3, seed=1).negatives for s in range(2, 9))
    enough = (
        _load(DatasetOptions(**{**given, "num_positives": 1}, num_negatives=1, pad=pad), tmp_path).train for pad in Pad
    )
    assert len({tuple(rows.group(5, seed=3).negatives) for rows in enough}) == 1, (
        "rows that are long enough stay as they are"
    )


def test_labels_are_filled_by_repetition_too(write, tmp_path: Path) -> None:
    write("d/train.jsonl", [{"text": f"t{i}", "label": int(i < 2)} for i in range(4)])
    options = DatasetOptions(
        Task.clustering, path=str(tmp_path / "d"), num_positives=3, num_negatives=5, pad=Pad.repeat, dev_share=0.0
    )
    group = _load(options, tmp_path).train.group(0, seed=1)
    assert group.positives == ["t1"] * 3
    assert (len(group.negatives), set(group.negatives)) == (5, {"t2", "t3"})


def test_own_prompts_go_with_their_texts(write, tmp_path: Path) -> None:
    """Into groups: of labelled texts, with each text that is drawn."""
    write("r/train.jsonl", [{**row, "prompt": f"p{i} "} for i, row in enumerate(_retrieval_rows(2))])
    write("s/train.jsonl", [{"text1": f"a{i}", "text2": f"b{i}", "score": i, "prompt": f"p{i} "} for i in range(2)])
    write("c/train.jsonl", [{"text": f"t{i}", "label": i % 2} | ({"prompt": f"p{i} "} if i else {}) for i in range(8)])
    tasks = {"r": Task.retrieval, "s": Task.sts, "c": Task.classification}
    rows = {
        n: _load(DatasetOptions(task, path=str(tmp_path / n), num_negatives=3, dev_share=0.0), tmp_path).train
        for n, task in tasks.items()
    }
    retrieval, pair = rows["r"].group(1, seed=0), rows["s"].group(1, seed=0)
    assert (retrieval.prompt, retrieval.positive_prompts, retrieval.negative_prompts) == ("p1 ", None, None)
    assert (pair.prompt, pair.positive_prompts) == ("p1 ", ["p1 "])
    for row in range(8):
        group = rows["c"].group(row, seed=0)
        texts = [group.query, *group.positives, *group.negatives]
        prompts = [group.prompt, *group.positive_prompts, *group.negative_prompts]
        assert prompts == [f"p{text[1:]} " if text != "t0" else None for text in texts]


def test_own_prompts_and_lengths_reach_the_evaluation_sets(write, tmp_path: Path) -> None:
    """Of dev rows set aside and of test files; one query under two prompts is two queries."""
    pair = {"query": "q", "positives": ["d"]}
    write("r/train.jsonl", [{"query": f"q{i}", "positives": [f"d{i}"], "prompt": f"p{i} "} for i in range(20)])
    write("r/test.jsonl", [{**pair, "prompt": "a "}, {**pair, "positives": ["e"], "prompt": "b "}, pair])
    lengths = {"max_length": 9, "query_max_length": 5}
    options = DatasetOptions(Task.retrieval, path=str(tmp_path / "r"), dev_share=0.25, **lengths)
    dev, test = _load(options, tmp_path).eval_sets
    assert sorted(dev.content.prompts) == sorted(dev.content.queries)
    assert all(prompt == f"p{dev.content.queries[q][1:]} " for q, prompt in dev.content.prompts.items())
    assert sorted(test.content.queries.values()) == ["q", "q", "q"]
    assert sorted(test.content.prompts.values()) == ["a ", "b "]
    relevant = {
        test.content.prompts.get(query): {test.content.corpus[d]["text"] for d in grades}
        for query, grades in test.content.qrels.items()
    }
    assert relevant == {"a ": {"d"}, "b ": {"e"}, None: {"d"}}
    assert {(each.query_length, each.document_length) for each in (dev, test)} == {(5, 9)}
    write("c/train.jsonl", [{"text": f"t{i}", "label": i % 2, "prompt": f"p{i} "} for i in range(8)])
    write("c/test.jsonl", [{"text": "x", "label": 0, "prompt": "a "}, {"text": "y", "label": 1}])
    (test,) = _load(DatasetOptions(Task.classification, path=str(tmp_path / "c"), dev_share=0.0), tmp_path).eval_sets
    assert (list(test.content.prompts), list(test.content.train_prompts)) == (
        ["a ", None],
        [f"p{i} " for i in range(8)],
    )


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (Task.retrieval, {"max_length": 2}, r"^max_length must be at least 3 tokens \(two are special\), got 2"),
        (Task.retrieval, {"query_max_length": 0}, "^query_max_length must be at least 3 tokens"),
        (Task.retrieval, {"document_max_length": -1}, "^document_max_length must be at least 3 tokens"),
        (
            Task.sts,
            {"document_max_length": 9},
            "^document_max_length: expected a retrieval dataset, got sts, which has",
        ),
        (Task.clustering, {"document_max_length": 9}, "Set query_max_length or max_length, for all of its texts"),
    ],
)
def test_lengths_that_are_refused(task: Task, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DatasetOptions(task, path="x", **options)


def test_scores_follow_the_drawn_documents(write, tmp_path: Path) -> None:
    scored = [
        {**row, "positive_scores": [1, 2, None], "negative_scores": [i, -i]} for i, row in enumerate(_retrieval_rows(8))
    ]
    write("d/train.jsonl", [*scored, *_retrieval_rows(2)])
    options = DatasetOptions(Task.retrieval, path=str(tmp_path / "d"), num_positives=2, num_negatives=1, dev_share=0.0)
    rows = _load(options, tmp_path).train
    assert rows.has_teacher
    for row in range(8):
        group = rows.group(row, seed=1)
        place = {"d": 1.0, "e": 2.0, "f": None}
        assert group.positive_scores == [place[text[0]] for text in group.positives]
        assert group.negative_scores == [row if group.negatives == [f"d{row + 1000}"] else -row]
    assert rows.group(9, seed=1).positive_scores is None
    write("e/train.jsonl", _retrieval_rows(2))
    assert not _load(
        DatasetOptions(Task.retrieval, path=str(tmp_path / "e"), dev_share=0.0), tmp_path
    ).train.has_teacher


def test_max_rows_are_drawn_after_the_dev_set(write, tmp_path: Path) -> None:
    write("d/train.jsonl", _retrieval_rows(200))
    folder = str(tmp_path / "d")
    whole, few, more = (
        _load(DatasetOptions(Task.retrieval, path=folder, dev_share=0.1, max_rows=n), tmp_path)
        for n in (None, 30, 1000)
    )
    assert (len(whole.train), len(few.train), len(more.train)) == (180, 30, 180)
    assert few.dev.table["query"][:] == whole.dev.table["query"][:]
    assert set(few.train.table["query"]) < set(whole.train.table["query"])
    options = DatasetOptions(Task.retrieval, path=folder, dev_share=0.1, max_rows=30)
    assert _load(options, tmp_path).train.table["query"][:] == few.train.table["query"][:]
    assert _load(options, tmp_path, seed=1).train.table["query"][:] != few.train.table["query"][:]


def test_max_rows_leaves_the_measurement_alone(write, tmp_path: Path) -> None:
    write("d/train.jsonl", [{"text": f"t{i}", "label": i % 2} for i in range(20)])
    write("d/test.jsonl", [{"text": "x", "label": 0}, {"text": "y", "label": 1}])
    options = DatasetOptions(Task.classification, path=str(tmp_path / "d"), dev_share=0.0, max_rows=8)
    data = _load(options, tmp_path)
    assert len(data.train) == 8
    assert len(data.eval_sets[0].content.train_texts) == 20


def test_labels_become_groups(write, tmp_path: Path) -> None:
    write(
        "d/train.jsonl",
        [{"text": f"t{i}", "label": "abc"[i % 3]} for i in range(30)] + [{"text": "alone", "label": "z"}],
    )
    options = DatasetOptions(Task.classification, path=str(tmp_path / "d"), num_negatives=7, dev_share=0.0)
    rows = _load(options, tmp_path).train
    assert len(rows) == 30, "a label that stands only once has no positive"
    label = {row["text"]: row["label"] for row in rows.table}
    for row in range(30):
        group = rows.group(row, seed=4)
        assert group.query not in group.positives
        assert [label[p] for p in group.positives] == [label[group.query]]
        assert len(set(group.negatives)) == 7
        assert label[group.query] not in {label[n] for n in group.negatives}


@pytest.mark.parametrize(
    ("task", "rows", "reason"),
    [
        (Task.sts, [{"text1": "a", "text2": "b", "score": 1}] * 2, "no two different scores"),
        (Task.clustering, [{"text": "a", "label": 1}] * 2, "no two different labels"),
        (Task.classification, [{"text": "a", "label": 1}, {"text": "b", "label": 2}], "no train texts of two labels"),
    ],
)
def test_a_test_that_cannot_be_measured(write, tmp_path: Path, task: Task, rows: list[dict], reason: str) -> None:
    test = write("test.jsonl", rows)
    with pytest.raises(DataError, match=f"d: its test set cannot be measured: it has {reason}"):
        _load(DatasetOptions(task, test=str(test)), tmp_path)


def test_refusals(write, tmp_path: Path) -> None:
    write("d/queries.jsonl", [{"id": "a", "text": "x"}])
    write("d/corpus.jsonl", [{"id": "1", "text": "x"}])
    (tmp_path / "d/qrels.tsv").write_text("a\t9\t1\n")
    options = DatasetOptions(Task.retrieval, path=str(tmp_path / "d"))
    with pytest.raises(DataError, match=r"qrels.tsv: line 1: no document '9'"):
        _load(options, tmp_path)
    (tmp_path / "d/qrels.tsv").write_text("a,1,1\n")
    with pytest.raises(DataError, match="line 1: expected query TAB document TAB relevance"):
        _load(options, tmp_path)
    with pytest.raises(DataError, match=r"d: no folder ./nowhere"):
        _load(DatasetOptions(Task.sts, path="./nowhere"), tmp_path)
    (tmp_path / "rows.xlsx").write_text("text1,text2,score\n")
    with pytest.raises(
        DataError, match=r"rows.xlsx is no file of rows: expected .jsonl, .json, .csv, .* or .parquet. Convert it."
    ):
        _load(DatasetOptions(Task.sts, path=str(tmp_path / "rows.xlsx")), tmp_path)
    with pytest.raises(DataError, match="d: no test file"):
        _load(DatasetOptions(Task.sts, test="nowhere.jsonl"), tmp_path)
    for options, message in [
        ({"score_range": [5.0, 0.0]}, r"score_range must be \[lowest, highest\]"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"num_positives": 0}, "num_positives must be at least 1"),
        ({"max_rows": 1}, "max_rows must be at least 2 rows, got 1"),
        ({"dev_share": 1.0}, "dev_share must be in"),
    ]:
        with pytest.raises(ConfigError, match=message):
            DatasetOptions(Task.sts, path="x", **options)
    with pytest.raises(ConfigError, match="needs a path"):
        DatasetOptions(Task.sts)


def _folder(write, tmp_path: Path) -> Path:
    """A folder with every part of a retrieval dataset."""
    write("d/train.jsonl", _retrieval_rows(20))
    write("d/corpus.jsonl", [{"id": "1", "text": "one"}, {"id": "2", "text": "two"}])
    write("d/queries.jsonl", [{"id": "a", "text": "qa"}])
    (tmp_path / "d/qrels").mkdir()
    for part in ("dev", "test"):
        (tmp_path / f"d/qrels/{part}.tsv").write_text("a\t1\t1\n")
    return tmp_path / "d"


BEHIND = {
    "a dangling link": (lambda path: path.symlink_to("absent"), "a symbolic link to absent, which does not exist"),
    "a looping link": (lambda path: path.symlink_to(path.name), "a symbolic link that leads to itself"),
    "a folder": (lambda path: path.mkdir(), "a folder"),
    "a pipe": (os.mkfifo, "a named pipe"),
}


@pytest.mark.parametrize("name", BEHIND)
@pytest.mark.parametrize(
    "file",
    ["train.jsonl", "dev.jsonl", "test.jsonl", "train.parquet", "corpus.jsonl", "queries.jsonl", "qrels.tsv",
     "qrels/dev.tsv", "qrels/test.tsv"],
)  # fmt: skip
def test_a_part_that_cannot_be_opened_is_never_left_out(write, tmp_path: Path, file: str, name: str) -> None:
    make, found = BEHIND[name]
    folder = _folder(write, tmp_path)
    if not file.startswith(("corpus", "queries", "qrels")):
        for other in ("corpus.jsonl", "queries.jsonl", "qrels/dev.tsv", "qrels/test.tsv", "train.jsonl"):
            (folder / other).unlink()
        (folder / "qrels").rmdir()
    if file == "qrels.tsv":
        (folder / "qrels/test.tsv").unlink()
    (folder / file).unlink(missing_ok=True)
    make(folder / file)
    with pytest.raises(DataError) as caught:
        _load(DatasetOptions(Task.retrieval, path=str(folder)), tmp_path)
    assert f"{folder / file}: expected a file" in str(caught.value)
    assert f"found {found}." in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("target", ["absent", "qrels"])
def test_a_folder_of_judgements_that_leads_nowhere(write, tmp_path: Path, target: str) -> None:
    folder = _folder(write, tmp_path)
    (folder / "qrels").rename(tmp_path / "moved")
    (folder / "qrels").symlink_to(target)
    with pytest.raises(DataError, match=r"d/qrels: .*symbolic link (to absent|that leads to itself)"):
        _load(DatasetOptions(Task.retrieval, path=str(folder)), tmp_path)


def test_a_root_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "root").symlink_to("absent")
    with pytest.raises(DataError, match="root: expected a folder, found a symbolic link to absent"):
        _load(DatasetOptions(Task.retrieval, path=str(tmp_path / "root" / "d")), tmp_path)


@pytest.mark.parametrize("missing", ["corpus.jsonl", "queries.jsonl"])
def test_judgements_without_their_texts_are_refused(write, tmp_path: Path, missing: str) -> None:
    folder = _folder(write, tmp_path)
    (folder / missing).unlink()
    with pytest.raises(DataError, match=f"{missing}: expected a file, found nothing"):
        _load(DatasetOptions(Task.retrieval, path=str(folder)), tmp_path)


@pytest.mark.parametrize("name", BEHIND)
@pytest.mark.parametrize("option", ["path", "train", "dev", "test"])
def test_an_option_that_names_what_is_no_file(write, tmp_path: Path, option: str, name: str) -> None:
    make, found = BEHIND[name]
    path = tmp_path / "given.jsonl"
    make(path)
    options = {"path": str(write("rows.jsonl", _retrieval_rows(20)))} if option != "path" else {}
    if option == "path" and name == "a folder":
        found = "nothing to train on and nothing to test on"
    if option in ("dev", "test") and name == "a folder":
        found = "a folder"
    with pytest.raises(DataError, match=found):
        _load(DatasetOptions(Task.retrieval, **(options | {option: str(path)})), tmp_path)


@pytest.mark.parametrize("name", ["a dangling link", "a looping link", "a pipe"])
def test_a_path_of_one_word_that_is_no_file_is_no_hub_name(tmp_path: Path, monkeypatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    BEHIND[name][0](Path("word"))
    with pytest.raises(DataError, match=f"word: expected a folder, or a file of rows, found {BEHIND[name][1]}"):
        _load(DatasetOptions(Task.retrieval, path="word"), tmp_path)


@pytest.mark.parametrize("call", ["is_dir", "stat", "lstat", "open"])
def test_no_permission(write, tmp_path: Path, monkeypatch, call: str) -> None:
    folder = _folder(write, tmp_path)
    options = DatasetOptions(Task.retrieval, path=str(folder))
    original = getattr(Path, call)

    def denied(path: Path, *arguments: object, **keywords: object) -> object:
        if path.name in ("corpus.jsonl", "test.tsv", "d"):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, *arguments, **keywords)

    monkeypatch.setattr(Path, call, denied)
    with pytest.raises(DataError, match=r"(?i)permission"):
        _load(options, tmp_path)


@pytest.mark.parametrize(
    "path", ["a" * 5000, "a/" * 3000, "/" + "a" * 300, "a\0b", "a" * 300 + ".jsonl", "./a\0.jsonl"]
)
@pytest.mark.parametrize("option", ["path", "train", "test"])
def test_a_path_that_no_file_can_have(option: str, path: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError):
        _load(DatasetOptions(Task.sts, **{option: path}), tmp_path)


def test_all_that_is_broken_is_told_at_once(write, tmp_path: Path) -> None:
    write("a/train.jsonl", [{"query": "q"}])
    write("a/dev.jsonl", [{"query": "q", "positives": []}])
    write("a/test.jsonl", [{"query": 3, "positives": ["p"]}])
    write("b.jsonl", [{"text1": "a", "text2": "b", "score": 9}])
    write("c.jsonl", _retrieval_rows(20))
    write("e.jsonl", [{"query": "q", "positives": ["p"], "negs": ["n"]}])
    tasks = {"a": Task.retrieval, "b.jsonl": Task.sts, "c.jsonl": Task.retrieval, "e.jsonl": Task.retrieval}
    datasets = {name: DatasetOptions(task, path=str(tmp_path / name), dev_share=0.0) for name, task in tasks.items()}
    with pytest.raises(DataError) as caught:
        load_datasets(datasets, cache=tmp_path / "cache")
    lines = str(caught.value).splitlines()
    assert len(lines) == 5
    for line, part in zip(lines, ["a/train.jsonl", "a/dev.jsonl", "a/test.jsonl", "b.jsonl", "e.jsonl"], strict=True):
        assert part in line
    del datasets["a"], datasets["b.jsonl"]
    with pytest.raises(ConfigError, match=r"e\.jsonl: the train rows"):
        load_datasets(datasets, cache=tmp_path / "cache")
    del datasets["e.jsonl"]
    assert load_datasets(datasets, cache=tmp_path / "cache").keys() == {"c.jsonl"}


def test_files_that_are_not_read_are_named(write, tmp_path: Path) -> None:
    folder = _folder(write, tmp_path)
    assert _load(DatasetOptions(Task.retrieval, path=str(folder)), tmp_path).notes == []
    for name in ("validation.jsonl", "train.parquet", "test.csv", "README.md"):
        write(f"d/{name}", [])
    notes = _load(DatasetOptions(Task.retrieval, path=str(folder)), tmp_path).notes
    assert notes == ["d: files in its folder that are not read: 'test.csv', 'train.parquet', 'validation.jsonl'."]
