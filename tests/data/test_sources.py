"""Sources of records: in memory, on the hub, of save_to_disk."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import pyarrow
import pytest

from lightning_embed.data import DatasetOptions, load_datasets
from lightning_embed.data.options import DatasetOptions as Options
from lightning_embed.data.options import Format
from lightning_embed.data.readers import read_source
from lightning_embed.data.sources import is_in_memory, joined, of_file, of_hub, of_memory, of_saved
from lightning_embed.errors import ConfigError, DataError
from lightning_embed.types import Task

ROWS = [{"query": f"q{i}", "positives": [f"p{i}", f"r{i}"], "negatives": ["n"] * (i % 2)} for i in range(30)]
PAIRS = [{"query": f"q{i}", "positives": f"p{i}"} for i in range(30)]

TABLES: dict[str, Any] = {
    "a list": ROWS,
    "a tuple": tuple(ROWS),
    "a Dataset": datasets.Dataset.from_list(ROWS),
    "a table of pyarrow": pyarrow.Table.from_pylist(ROWS),
    "a DataFrame of pandas": pandas.DataFrame(ROWS),
    "lists of numpy": [{**row, "positives": np.array(row["positives"])} for row in ROWS],
}


def _load(tmp_path: Path, name: str = "d", **options: Any) -> Any:
    made = DatasetOptions(Task.retrieval, dev_share=0.0, **options)
    return load_datasets({name: made}, cache=tmp_path / "cache")[name]


@pytest.mark.parametrize("name", TABLES)
def test_rows_in_memory(tmp_path: Path, name: str) -> None:
    assert is_in_memory(TABLES[name])
    rows = _load(tmp_path, path=TABLES[name]).train.table
    assert [{key: row[key] for key in ROWS[0]} for row in rows] == ROWS
    assert _load(tmp_path, train=TABLES[name]).train.table["query"][:] == rows["query"][:]


def test_polars() -> None:
    polars = pytest.importorskip("polars")
    assert [row for _, row in of_memory("d", polars.DataFrame(ROWS)).records()] == ROWS


PARTS: dict[str, Any] = {
    "a dict": {"train": PAIRS, "dev": PAIRS[:3], "test": PAIRS[3:5]},
    "a DatasetDict": datasets.DatasetDict(
        {n: datasets.Dataset.from_list(r) for n, r in {"train": PAIRS, "validation": PAIRS[:3], "test": PAIRS[3:5]}.items()}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_parts_in_memory(tmp_path: Path, name: str) -> None:
    data = _load(tmp_path, path=PARTS[name])
    assert (len(data.train), len(data.dev)) == (30, 3)
    assert [each.split for each in data.eval_sets] == ["dev", "test"]
    other = _load(tmp_path, path=PARTS[name], dev="test")
    assert other.dev.table["query"][:] == ["q3", "q4"]


def test_a_file_beside_rows_in_memory(tmp_path: Path, write: Any) -> None:
    data = _load(tmp_path, path=str(write("a.jsonl", PAIRS)), dev=PAIRS[:3])
    assert (len(data.train), len(data.dev)) == (30, 3)
    data = _load(tmp_path, path=PAIRS, dev=str(write("b.jsonl", PAIRS[:4])))
    assert (len(data.train), len(data.dev)) == (30, 4)
    data = _load(tmp_path, path={"train": PAIRS, "dev": PAIRS[:3]}, dev=str(tmp_path / "b.jsonl"))
    assert (len(data.train), len(data.dev)) == (30, 4)
    for path in (PAIRS, {"train": PAIRS, "dev": PAIRS[:3]}):
        with pytest.raises(DataError, match=r"d: no dev file absent"):
            _load(tmp_path, path=path, dev="absent")


def test_paths_of_pathlib(tmp_path: Path, write: Any) -> None:
    write("d/train.jsonl", PAIRS)
    file = write("d/dev.jsonl", PAIRS[:3])
    assert len(_load(tmp_path, path=tmp_path / "d").dev) == 3
    assert len(_load(tmp_path, path=[file, tmp_path / "d/train.jsonl"]).train) == 33


@pytest.mark.parametrize(
    "options", [{"task": "retrieval"}, {"task": "sts", "format": "rows"}, {"task": "clustering", "pad": "repeat"}]
)
def test_words_for_enums(options: dict) -> None:
    made = DatasetOptions(**options, path="x")
    assert (made.task is Task(options["task"]), made.format is Format(options.get("format", "auto"))) == (True, True)


@pytest.mark.parametrize(
    "options", [{"task": "retreival"}, {"task": "sts", "format": "flag"}, {"task": "sts", "pad": "no"}]
)
def test_other_words(options: dict) -> None:
    with pytest.raises(ConfigError, match=r"(task|format|pad): no such word as '\w+'\. .*Known: "):
        DatasetOptions(**options, path="x")


@pytest.mark.parametrize("place", ["a", ["a", "b"], 7, [], None, Path("a")])
def test_what_is_a_path(place: Any) -> None:
    assert not is_in_memory(place)


def test_missing_values_of_pandas() -> None:
    frame = pandas.DataFrame({"a": ["x", None], "b": [1.5, float("nan")], "c": pandas.array([1, None], "Int64")})
    assert [record for _, record in of_memory("d", frame).records()] == [
        {"a": "x", "b": 1.5, "c": 1}, {"a": None, "b": None, "c": None}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"query": "q", "positives": ["p"]}, {"query": "", "positives": ["p"]}], "d: train: row 1: 'query' is an empty text"),
        ([{"query": "q", "positives": ["p"]}, ["q", "p"]], "d: train: row 1: expected a dict of column and value, got list"),
        ([{"query": 3, "positives": ["p"]}], "d: train: row 0: 'query' must be a text, got int 3"),
        ((row for row in ROWS), "d: train: expected a list of dicts, a datasets.Dataset or a DataFrame, got generator"),
        (np.zeros(3), "d: train: expected a list of dicts, .* got ndarray"),
        ({"train": 3}, "d: train: expected a list of dicts, .* got int"),
        ({"training": ROWS}, "d: nothing to train on"),
        (pandas.DataFrame({"query": ["q"], "positives": [None]}), "d: train: row 0: column 'positives' is missing"),
        ([{}], "column 'query' is missing|column 'positives' is missing"),
    ],
)  # fmt: skip
def test_refusals_in_memory(tmp_path: Path, rows: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _load(tmp_path, path=rows)


def test_rows_in_memory_are_known_by_their_content(tmp_path: Path) -> None:
    same = [of_memory("d", rows).content for rows in (PAIRS, [dict(row) for row in PAIRS], pandas.DataFrame(PAIRS))]
    assert len(set(same)) == 1
    for number in range(len(PAIRS)):
        changed = [dict(row) for row in PAIRS]
        changed[number]["positives"] += "."
        assert of_memory("d", changed).content != same[0]
    long = [{"a": np.arange(5000)}, {"a": np.arange(5000)}]
    long[1]["a"][2500] = 0  # which its repr leaves out
    assert of_memory("d", long[:1]).content != of_memory("d", long[1:]).content


def _saved(folder: Path) -> Path:
    other = [{key: f"{text}, in other words" for key, text in row.items()} for row in PAIRS[:5]]
    splits = {"train": PAIRS, "validation": other[:3], "test": other[3:]}
    datasets.DatasetDict({n: datasets.Dataset.from_list(r) for n, r in splits.items()}).save_to_disk(str(folder))
    return folder


def test_folders_of_save_to_disk(tmp_path: Path) -> None:
    folder = _saved(tmp_path / "d")
    data = _load(tmp_path, path=str(folder))
    assert data.train.table["query"][:] == [row["query"] for row in PAIRS]
    assert (len(data.dev), [each.split for each in data.eval_sets]) == (3, ["dev", "test"])
    assert data.notes == []
    single = _load(tmp_path, path=str(folder / "validation"))
    assert (len(single.train), single.eval_sets) == (3, [])
    assert len(_load(tmp_path, path=str(folder), dev="test").dev) == 2
    assert len(_load(tmp_path, train=[str(folder / "train"), str(folder / "test")]).train) == 32


def test_an_error_in_a_folder_of_save_to_disk(tmp_path: Path) -> None:
    datasets.Dataset.from_list([*PAIRS[:7], {"query": " ", "positives": "p"}]).save_to_disk(str(tmp_path / "d"))
    with pytest.raises(DataError, match=rf"{tmp_path}/d: row 7: 'query' is an empty text"):
        _load(tmp_path, path=str(tmp_path / "d"))


@pytest.mark.parametrize("damage", ["state.json", "data-00000-of-00001.arrow"])
@pytest.mark.parametrize("kind", ["removed", "cut"])
def test_a_damaged_folder_of_save_to_disk(tmp_path: Path, damage: str, kind: str) -> None:
    file = _saved(tmp_path / "d") / "train" / damage
    if kind == "cut":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif damage == "state.json":
        return  # it is no such folder then
    else:
        file.unlink()
    with pytest.raises(DataError, match=r"d/train: a folder of save_to_disk that cannot be read"):
        _load(tmp_path, path=str(tmp_path / "d"))


def test_changed_content_of_a_folder(tmp_path: Path) -> None:
    first = of_saved(_saved(tmp_path / "a") / "train").content
    datasets.Dataset.from_list(PAIRS[1:]).save_to_disk(str(tmp_path / "b"))
    assert of_saved(tmp_path / "b").content != first


def test_subsets_splits_and_revisions_of_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def load_dataset(*names: str, split: str, revision: str | None) -> datasets.Dataset:
        asked.append((names, split, revision))
        if "absent" in names:
            raise ValueError("BuilderConfig 'absent' not found. Available: ['pair', 'triplet']")
        return datasets.Dataset.from_list(PAIRS[: {"train": 30, "validation": 3, "test": 5}[split]])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    commit = "a" * 40
    hub = {"path": "owner/name", "revision": commit}
    data = _load(tmp_path, **hub, subset="pair", dev="validation", test="test")
    assert (len(data.train), len(data.dev), len(data.eval_sets[1].content.queries)) == (30, 3, 5)
    assert set(asked) == {(("owner/name", "pair"), split, commit) for split in ("train", "validation", "test")}
    assert _load(tmp_path, **hub, train="validation").eval_sets == []
    assert asked[-1] == (("owner/name",), "validation", commit)
    with pytest.raises(
        DataError, match=r"no split 'train' of it in the subset 'absent' \(.*Available: \['pair', 'triplet'\]"
    ):
        _load(tmp_path, **hub, subset="absent")


@pytest.mark.slow
def test_a_local_folder_as_the_hub_lays_it_out(tmp_path: Path) -> None:
    """What load_dataset reads from a folder with two configs is what our reader of the hub gives."""
    for config, rows in {"pair": PAIRS, "few": PAIRS[:5]}.items():
        (tmp_path / "d" / config).mkdir(parents=True)
        datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / f"d/{config}/train-00000-of-00001.parquet"))
    configs = "".join(f"- config_name: {c}\n  data_files: {c}/train-*.parquet\n" for c in ("pair", "few"))
    (tmp_path / "d/README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    source = of_hub(str(tmp_path / "d"), "few", "train", "a" * 40)
    assert len(read_source(source, Options(Task.retrieval, path="x"), tmp_path / "cache")) == 5
    assert source.name == f"{tmp_path}/d:few[train]"


def test_several_files_are_one_source_in_pieces(tmp_path: Path, write: Any) -> None:
    files = [write(f"{name}.jsonl", PAIRS[:count]) for name, count in (("a", 3), ("b", 4))]
    source = joined([of_file(file) for file in files])
    assert [sum(len(list(part)) for part in reader()) for reader in source.readers] == [3, 4]
    assert source.size == sum(file.stat().st_size for file in files) == sum(part.size for part in source.parts())
    assert [where for where, _ in source.records()][2:4] == [f"{files[0]}: line 3", f"{files[1]}: line 1"]
    assert source.content != joined([of_file(file) for file in reversed(files)]).content
    assert source.name == f"{files[0]} and 1 more"
