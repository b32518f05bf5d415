"""Parts of a dataset: shards, patterns, folders, and the same on a remote file system."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from lightning_embed.config.content import dataset_content
from lightning_embed.data import DatasetOptions, load_datasets
from lightning_embed.data.dataset_files import Files
from lightning_embed.errors import ConfigError, DataError
from lightning_embed.types import Task

ROWS = [{"query": f"q{i}", "positives": [f"p{i}"]} for i in range(12)]
LINES = ["".join(json.dumps(row) + "\n" for row in ROWS[start : start + 4]) for start in (0, 4, 8)]
SHARDS = {f"train-{i:05}-of-00003.jsonl": LINES[i] for i in range(3)}
ALL = [row["query"] for row in ROWS]

LAYOUTS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "one file": ({"train.jsonl": "".join(LINES)}, {}),
    "shards": (SHARDS, {}),
    "shards in data/": ({f"data/{name}": text for name, text in SHARDS.items()}, {}),
    "a folder train/": ({f"train/part-{i}.jsonl": text for i, text in enumerate(LINES)}, {}),
    "a pattern": ({f"a{i}.jsonl": text for i, text in enumerate(LINES)}, {"train": "a*.jsonl"}),
    "a list": ({f"{name}.jsonl": text for name, text in zip("xay", LINES, strict=True)},
               {"train": ["x.jsonl", "a.jsonl", "y.jsonl"]}),
    "a list of kinds": ({"x.jsonl": LINES[0], "a.json": "[" + LINES[1].strip().replace("\n", ",") + "]",
                         "b.csv": "query,positives\n" + "".join(f"q{i},p{i}\n" for i in range(8, 12))},
                        {"train": ["x.jsonl", "a.json", "b.csv"]}),
    "a named folder": ({f"sub/{name}": text for name, text in SHARDS.items()}, {"train": "sub"}),
}  # fmt: skip


def _queries(path: Any, cache: Path, **options: Any) -> list[str]:
    made = DatasetOptions(Task.retrieval, path=path, dev_share=0.0, **options)
    data = load_datasets({"d": made}, cache=cache)["d"]
    assert data.train is not None
    return list(data.train.table["query"])


def _write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(tmp_path: Path, name: str) -> None:
    files, options = LAYOUTS[name]
    assert _queries(str(_write(tmp_path / "d", files)), tmp_path / "cache", **options) == ALL


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_through_fsspec(tmp_path: Path, memory: fsspec.AbstractFileSystem, name: str) -> None:
    files, options = LAYOUTS[name]
    for file, text in files.items():
        memory.pipe(f"/bucket/d/{file}", text.encode())
    assert _queries("memory://bucket/d", tmp_path / "cache", **options) == ALL
    local = _write(tmp_path / "d", files)
    assert _queries(f"file://{local}", tmp_path / "cache", **options) == ALL
    given = {"task": "retrieval", **options}
    contents = [dataset_content("d", {**given, "path": path}, ["train"]) for path in ("memory://bucket/d", str(local))]
    assert contents[0] == contents[1], "the name of a run depends on the content, wherever it lies"


@pytest.mark.parametrize(
    "path", ["d/a*.jsonl", ["d/a0.jsonl", "d/a1.jsonl", "d/a2.jsonl"], ["d/a0.jsonl", "d/a[12].jsonl"]]
)
def test_paths_of_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Any, memory: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for i, text in enumerate(LINES):
        _write(tmp_path, {f"d/a{i}.jsonl": text})
        memory.pipe(f"/d/a{i}.jsonl", text.encode())
    assert _queries(path, tmp_path / "cache") == ALL
    remote = [f"memory://{each}" for each in ([path] if isinstance(path, str) else path)]
    assert _queries(remote, tmp_path / "cache") == ALL


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def test_every_kind_of_remote_file(tmp_path: Path, memory: fsspec.AbstractFileSystem) -> None:
    import datasets

    table = datasets.Dataset.from_list(ROWS)
    table.to_parquet(str(tmp_path / "a.parquet"))
    memory.pipe("/b/a.parquet", (tmp_path / "a.parquet").read_bytes())
    memory.pipe("/b/a.jsonl.gz", gzip.compress("".join(LINES).encode()))
    memory.pipe("/b/a.csv", ("query,positives\n" + "".join(f"q{i},p{i}\n" for i in range(12))).encode())
    memory.pipe("/b/a.json", json.dumps(ROWS).encode())
    for name in ("a.parquet", "a.jsonl.gz", "a.csv", "a.json"):
        assert _queries(f"memory://b/{name}", tmp_path / "cache") == ALL
    table.save_to_disk("memory://b/saved")
    assert _queries("memory://b/saved", tmp_path / "cache") == ALL


def test_a_remote_folder_of_beir_and_a_remote_corpus(tmp_path: Path, memory: fsspec.AbstractFileSystem) -> None:
    corpus = "".join(json.dumps({"_id": f"d{i}", "title": "T", "text": f"p{i}"}) + "\n" for i in range(12))
    memory.pipe("/b/corpus.jsonl", corpus.encode())
    memory.pipe("/b/queries.jsonl", "".join(json.dumps({"_id": i, "text": f"q{i}"}) + "\n" for i in range(12)).encode())
    for part in ("train", "test"):
        memory.pipe(f"/b/qrels/{part}.tsv", "".join(f"{i}\td{i}\t1\n" for i in range(12)).encode())
    options = DatasetOptions(Task.retrieval, path="memory://b", dev_share=0.0)
    data = load_datasets({"d": options}, cache=tmp_path / "cache")["d"]
    assert data.train is not None
    assert (list(data.train.table["query"]), data.train.table["positives"][0]) == (ALL, ["T p0"])
    assert len(data.eval_sets[0].content.queries) == 12
    rows = "".join(json.dumps({"query": f"q{i}", "pos_id": [f"d{i}"]}) + "\n" for i in range(12))
    memory.pipe("/rows.jsonl", rows.encode())
    assert _queries("memory://rows.jsonl", tmp_path / "cache", corpus="memory://b/corpus.jsonl") == ALL


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"path": "memory://absent/d"}, DataError, "memory://absent/d: expected a file of rows .*, found nothing"),
        ({"path": "memory://absent/a.jsonl"}, DataError, r"memory://absent/a\.jsonl.*"),
        ({"path": "memory://b/*.csv"}, DataError, r"d: no file matches memory://b/\*\.csv"),
        ({"path": "memory://b/bad.jsonl"}, DataError, r"memory://b/bad\.jsonl: line 2: broken JSON"),
        ({"path": "memory://b/a.txt"}, DataError, r"memory://b/a\.txt: expected \.jsonl"),
        ({"path": "s3://b/a.jsonl"}, ConfigError, r"s3://b/a\.jsonl: its package is not installed\. Install s3fs"),
        ({"path": "nothing://b/a.jsonl"}, ConfigError, "nothing://b/a.jsonl: expected a file system of fsspec"),
        ({"train": "memory://b/bad.jsonl", "dev": "memory://absent.jsonl"}, DataError, r"d: no dev file memory://absent\.jsonl"),
    ],
)  # fmt: skip
def test_remote_refusals(memory: Any, tmp_path: Path, options: dict, error: type, message: str) -> None:
    memory.pipe("/b/bad.jsonl", (LINES[0].splitlines()[0] + "\n{broken\n").encode())
    memory.pipe("/b/a.txt", b"a")
    with pytest.raises(error, match=message):
        load_datasets({"d": DatasetOptions(Task.retrieval, **options)}, cache=tmp_path / "cache")


def test_a_remote_file_that_changes_is_read_again(memory: Any, tmp_path: Path) -> None:
    memory.pipe("/a.jsonl", LINES[0].encode())
    assert _queries("memory://a.jsonl", tmp_path / "cache") == ALL[:4]
    memory.pipe("/a.jsonl", LINES[1].encode())
    assert _queries("memory://a.jsonl", tmp_path / "cache") == ALL[4:8]


def test_a_file_system_that_fails(memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class AccessDenied(Exception):
        pass

    def denied(*_: Any, **__: Any) -> Any:
        raise AccessDenied("Access Denied")

    memory.pipe("/a.jsonl", LINES[0].encode())
    monkeypatch.setattr(type(memory), "info", denied)
    with pytest.raises(DataError, match=r"^memory://a\.jsonl: cannot be read \(Access Denied\)\. Check the address"):
        _queries("memory://a.jsonl", tmp_path / "cache")
    found = dataset_content("d", {"task": "retrieval", "path": "memory://a.jsonl"}, ["train"])
    assert found == {"data.d.train": "not readable"}


BAD = [
    ({"d/train-00000-of-00002.jsonl": LINES[0]}, {}, "d: train-00001-of-00002.jsonl of 00002 files missing"),
    ({"d/data/train-1-of-2.csv": ""}, {}, "data: train-0-of-2.csv of 2 files missing"),
    ({"d/part-0.jsonl": LINES[0]}, {}, r"nothing to test on in .*/d, which has part-0\.jsonl\. Name its files"),
    ({"d/train/README.md": "x"}, {}, "train: expected a file of rows .*, found a folder"),
    ({"d/sub/README.md": "x", "d/train.jsonl": LINES[0]}, {"dev": "sub"}, "expected corpus.jsonl, queries.jsonl and"),
    ({"d/train.jsonl": LINES[0]}, {"test": "*.csv"}, r"d: no test file matches .*/d/\*\.csv"),
    ({"d/train.jsonl": LINES[0], "d/x.csv": "a\n1\n"}, {"train": ["train.jsonl", "x.csv"]}, "x.csv: line 2: column 'positives' is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "options", "message"), BAD)
def test_refusals(tmp_path: Path, files: dict, options: dict, message: str) -> None:
    _write(tmp_path, files)
    with pytest.raises(DataError, match=message):
        _queries(str(tmp_path / "d"), tmp_path / "cache", **options)


def test_an_sts_dev_folder_that_is_named_is_not_left_out(tmp_path: Path) -> None:
    _write(tmp_path, {"d/train.jsonl": '{"text1": "a", "text2": "b", "score": 1}\n', "d/sub/README.md": ""})
    options = DatasetOptions(Task.sts, path=str(tmp_path / "d"), dev="sub")
    with pytest.raises(DataError, match=r"sub: expected a file of rows .*, found a folder"):
        load_datasets({"d": options}, cache=tmp_path / "cache")


def test_a_validation_file_is_the_dev_set(tmp_path: Path) -> None:
    _write(tmp_path, {"d/train.jsonl": LINES[0], "d/validation.jsonl": LINES[1]})
    data = load_datasets({"d": DatasetOptions(Task.retrieval, path=str(tmp_path / "d"))}, cache=tmp_path / "cache")["d"]
    assert (len(data.train), list(data.dev.table["query"]), data.notes) == (4, ALL[4:8], [])


def test_the_content_of_shards_counts_for_a_run(tmp_path: Path) -> None:
    folder = _write(tmp_path / "d", SHARDS)
    options = {"task": "retrieval", "path": str(folder)}
    first = dataset_content("d", options, ["train"])
    (folder / "train-00002-of-00003.jsonl").write_text(LINES[0])
    assert dataset_content("d", options, ["train"]) != first
    assert [
        file.name for file in Files("d", DatasetOptions(Task.retrieval, path=str(folder)), tmp_path).files("train")
    ] == list(SHARDS)


def test_the_corpus_and_the_subset_count_for_a_run(tmp_path: Path) -> None:
    folder = _write(tmp_path / "d", {"train.jsonl": LINES[0], "c.jsonl": '{"id": "p0", "text": "a"}\n'})
    options = {"task": "retrieval", "path": str(folder), "corpus": "c.jsonl"}
    first = dataset_content("d", options, ["train"])
    (folder / "c.jsonl").write_text('{"id": "p0", "text": "b"}\n')
    assert dataset_content("d", options, ["train"]) != first
    hub = {"task": "retrieval", "path": "owner/name", "revision": "a" * 40, "dev": "validation"}
    assert dataset_content("d", {**hub, "subset": "x"}, ["train", "dev"]) == {
        f"data.d.{part}": f"owner/name:x@{'a' * 40}[{split}]" for part, split in {"train": "train", "dev": "validation"}.items()
    }  # fmt: skip
    assert dataset_content("d", hub, ["train"]) == {"data.d.train": f"owner/name@{'a' * 40}[train]"}
