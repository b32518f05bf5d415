"""Files into rows: formats, and every way in which a row can be bad."""

import gzip
from pathlib import Path

import pytest

from lightning_embed.data.options import DatasetOptions, Format
from lightning_embed.data.readers import read_hub, read_rows
from lightning_embed.errors import ConfigError, DataError
from lightning_embed.types import Task

RETRIEVAL = DatasetOptions(Task.retrieval, path="x")
STS = DatasetOptions(Task.sts, path="x", score_range=[0.0, 5.0])
LABELS = DatasetOptions(Task.classification, path="x")


def _read(path: Path, options: DatasetOptions = RETRIEVAL) -> list[dict]:
    rows = read_rows(path, options, path.parent / "cache").to_list()
    return [{column: value for column, value in row.items() if value is not None} for row in rows]


@pytest.mark.parametrize(
    "record",
    [
        {"query": "q", "positives": ["p1", "p2"], "negatives": ["n"]},
        {"query": "q", "pos": ["p1", "p2"], "neg": ["n"], "prompt": None},
    ],
)
def test_retrieval_formats(write, record: dict) -> None:
    assert _read(write("a.jsonl", [record])) == [{"query": "q", "positives": ["p1", "p2"], "negatives": ["n"]}]


def test_sentence_transformers_formats(write) -> None:
    triplet = {"anchor": "q", "positive": "p", "negative_1": "n1", "negative_2": "n2"}
    assert _read(write("a.jsonl", [triplet])) == [{"query": "q", "positives": ["p"], "negatives": ["n1", "n2"]}]
    pair = {"sentence1": "a", "sentence2": "b", "score": 2.5}
    assert _read(write("b.jsonl", [pair]), STS) == [{"text1": "a", "text2": "b", "score": 0.5}]


@pytest.mark.parametrize(
    "record",
    [
        {
            "query": "q",
            "positives": ["p", "r"],
            "positive_scores": [2, 0.5],
            "negatives": ["n"],
            "negative_scores": [-1],
        },
        {"query": "q", "pos": ["p", "r"], "pos_scores": [2, 0.5], "neg": ["n"], "neg_scores": [-1]},
        {"anchor": "q", "positive": ["p", "r"], "positive_scores": [2, 0.5], "negative_1": "n", "negative_scores": -1},
    ],
)
def test_scores_of_a_teacher(write, record: dict) -> None:
    texts = {"query": "q", "positives": ["p", "r"], "negatives": ["n"]}
    assert _read(write("a.jsonl", [record])) == [{**texts, "positive_scores": [2.0, 0.5], "negative_scores": [-1.0]}]


ROWS = {
    Task.retrieval: {"query": "q", "positives": ["p"], "negatives": []},
    Task.sts: {"text1": "a", "text2": "b", "score": 0.5},
    Task.clustering: {"text": "t", "label": "x"},
}


@pytest.mark.parametrize("task", ROWS)
@pytest.mark.parametrize("name", ["prompt", "instruction"])
def test_a_prompt_of_each_row(write, task: Task, name: str) -> None:
    """An empty one is one; none is the dataset's. By `columns` of any name, which changes the name in the cache."""
    rows = [{**ROWS[task], name: prompt} for prompt in ("Find it: ", "", None)]
    file = write("a.jsonl", [*rows, ROWS[task]])
    options = DatasetOptions(task, path="x", columns={} if name == "prompt" else {"prompt": name})
    assert _read(file, options) == [
        *({**ROWS[task], "prompt": prompt} for prompt in ("Find it: ", "")),
        *[ROWS[task]] * 2,
    ]
    if name != "prompt":
        assert all("prompt" not in row for row in _read(file, DatasetOptions(task, path="x")))
        assert len(list((file.parent / "cache").glob("*.arrow"))) == 2


@pytest.mark.parametrize(
    "record",
    [
        {"query": "q", "pos": ["p"], "neg": ["n"], "prompt": "Find it: "},
        {"anchor": "q", "positive": "p", "negative": "n", "prompt": "Find it: "},
    ],
)
def test_a_prompt_of_each_row_in_the_peers_formats(write, record: dict) -> None:
    expected = {"query": "q", "positives": ["p"], "negatives": ["n"], "prompt": "Find it: "}
    assert _read(write("a.jsonl", [record])) == [expected]


@pytest.mark.parametrize("task", ROWS)
@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        (3, "'prompt' must be a text, the prompt of this row, got int 3"),
        (["Find it"], "'prompt' must be a text, the prompt of this row, got list"),
        ("\ud800", "'prompt' has .ud800 at character 0, half of a surrogate pair"),
    ],
)
def test_a_prompt_that_is_none(write, task: Task, prompt: object, reason: str) -> None:
    file = write("a.jsonl", [ROWS[task], {**ROWS[task], "prompt": prompt}])
    with pytest.raises(DataError, match=rf"a\.jsonl: line 2: {reason}"):
        _read(file, DatasetOptions(task, path="x"))


def test_scores_may_be_missing(write) -> None:
    record = {"query": "q", "positives": ["p", "r"], "negatives": [], "positive_scores": [None, 1]}
    assert _read(write("a.jsonl", [record])) == [record]


def test_columns(write) -> None:
    options = DatasetOptions(Task.retrieval, path="x", columns={"query": "question", "positives": "answer"})
    assert _read(write("a.jsonl", [{"question": "q", "answer": "p"}]), options) == [
        {"query": "q", "positives": ["p"], "negatives": []}
    ]


def test_gzip_parquet_and_bom(write, tmp_path: Path) -> None:
    plain = write("a.jsonl", [{"text": "t", "label": 3}])
    expected = [{"text": "t", "label": "3"}]
    zipped = tmp_path / "a.jsonl.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    with_bom = tmp_path / "bom.jsonl"
    with_bom.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes())
    import datasets

    parquet = tmp_path / "a.parquet"
    datasets.Dataset.from_list([{"text": "t", "label": 3}]).to_parquet(parquet)
    assert [_read(path, LABELS) for path in (plain, zipped, with_bom, parquet)] == [expected] * 4


BAD_ROWS = [
    (RETRIEVAL, {"query": "q"}, "column 'positives' is missing; the row has 'query'"),
    (RETRIEVAL, {"query": " ", "positives": ["p"]}, "'query' is an empty text"),
    (RETRIEVAL, {"query": ["q"], "positives": ["p"]}, "'query' must be a text, got list"),
    (RETRIEVAL, {"query": "q", "positives": []}, "'positives' is empty"),
    (RETRIEVAL, {"query": "q", "positives": ["p", 3]}, "'positives' must be a text, got int 3"),
    (RETRIEVAL, {"query": "q", "positives": ["p"], "negatives": [""]}, "'negatives' is an empty text"),
    (
        RETRIEVAL,
        {"query": "q", "positives": ["p"], "positive_scores": [1, 2]},
        "'positive_scores' has 2 numbers for the 1 texts of 'positives': give one each",
    ),
    (
        RETRIEVAL,
        {"query": "q", "positives": ["p"], "negatives": ["n"], "negative_scores": ["0.5"]},
        "'negative_scores' must be a number, got str '0.5'",
    ),
    (STS, {"text1": "a", "text2": "b", "score": 10**400}, "'score' must be a number, got int 10+"),
    (STS, {"text1": "a", "text2": "b", "score": 6}, r"'score' is 6, outside of score_range \[0, 5\]"),
    (STS, {"text1": "a", "text2": "b", "score": "3"}, "'score' must be a number, got str '3'"),
    (STS, {"text1": "a", "text2": "b", "score": float("nan")}, "'score' must be a number, got float nan"),
    (STS, {"text1": "a", "text2": "b", "score": True}, "'score' must be a number, got bool True"),
    (STS, {"text1": "a", "text2": "b"}, "column 'score' is missing"),
    (LABELS, {"text": "a"}, "column 'label' is missing"),
    (LABELS, {"text": "a", "label": 0.5}, "'label' must be a text or a whole number, got float"),
]


@pytest.mark.parametrize(("options", "record", "reason"), BAD_ROWS)
def test_bad_row_names_file_line_and_reason(write, options: DatasetOptions, record: dict, reason: str) -> None:
    good = {
        Task.retrieval: {"query": "q", "positives": ["p"]},
        Task.sts: {"text1": "a", "text2": "b", "score": 1},
        Task.classification: {"text": "a", "label": "b"},
    }[options.task]
    file = write("a.jsonl", [good, record])
    with pytest.raises(DataError, match=rf"a\.jsonl: line 2: {reason}"):
        _read(file, options)
    assert {path.suffix for path in file.parent.glob("cache/*")} <= {".lock"}, "a bad file leaves nothing in the cache"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"query": "q", "positives": ["p"]}\n{broken\n', "line 2: broken JSON"),
        (b'{"query": "q", "positives": ["p"]}\n\n', "line 2: a blank line"),
        (b"[1, 2]\n", "line 1: expected one JSON object, found list"),
        (b'{"query": "\xff"}\n', "line 1: byte 11 is not UTF-8"),
        (b"", "no rows"),
    ],
)
def test_bad_file(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason):
        _read(path)


def test_refusals(write, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a file of rows .* found nothing"):
        _read(tmp_path / "absent.jsonl")
    with pytest.raises(DataError, match="found a folder"):
        _read(tmp_path)
    with pytest.raises(DataError, match=r"a\.txt: expected \.jsonl"):
        _read(write("a.txt", [{}]))
    with pytest.raises(ConfigError, match=r"retrieval has no column 'qury'. Did you mean 'query'\?"):
        _read(write("a.jsonl", [{}]), DatasetOptions(Task.retrieval, path="x", columns={"qury": "a"}))
    with pytest.raises(ConfigError, match="format=flag_embedding has no sts rows"):
        _read(write("a.jsonl", [{}]), DatasetOptions(Task.sts, path="x", format=Format.flag_embedding))


def test_a_changed_file_is_read_again(write) -> None:
    assert len(_read(write("a.jsonl", [{"query": "q", "positives": ["p"]}]))) == 1
    assert len(_read(write("a.jsonl", [{"query": "q", "positives": ["p"]}] * 2))) == 2


def test_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load_dataset(name: str, split: str, revision: str | None) -> datasets.Dataset:
        if name != "owner/pairs":
            raise ConnectionError("no network")
        assert split == "validation"
        return datasets.Dataset.from_list([{"anchor": "q", "positive": "p"}, {"anchor": "q", "positive": ""}][: 1 + ok])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    ok = False
    rows = read_hub("owner/pairs", "validation", RETRIEVAL, tmp_path)
    assert rows["positives"][:] == [["p"]]
    ok = True
    with pytest.raises(DataError, match=r"owner/pairs\[validation\]: row 1: 'positive' is an empty text"):
        read_hub("owner/pairs", "validation", RETRIEVAL, tmp_path)
    with pytest.raises(
        DataError, match=r"owner/absent: no such folder or file, and the hub has no split 'train' of it"
    ):
        read_hub("owner/absent", "train", RETRIEVAL, tmp_path)
