"""Files of a part by patterns, lists, and the names of a folder."""

from pathlib import Path

import pytest

from lightning_embed.data.part_files import found_in, is_pattern, listed, named, require_whole, rows_in
from lightning_embed.errors import DataError


def _make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


SHARDS = [f"train-{i:05}-of-00003.parquet" for i in range(3)]

FOUND = {
    "one file": (["train.jsonl", "dev.jsonl"], ["train.jsonl"]),
    "jsonl before parquet before csv": (["train.csv", "train.parquet", "train.jsonl.gz"], ["train.jsonl.gz"]),
    "parquet before json": (["train.json", "train.parquet"], ["train.parquet"]),
    "shards": (SHARDS, SHARDS),
    "shards of ten and more": (
        [f"train-{i}-of-11.jsonl" for i in (10, 2, 1, 0, *range(3, 10))], [f"train-{i}-of-11.jsonl" for i in range(11)]),
    "shards counted from 1": (["train-1-of-2.jsonl", "train-2-of-2.jsonl"], ["train-1-of-2.jsonl", "train-2-of-2.jsonl"]),
    "one shard": (["train-00000-of-00001.parquet"], ["train-00000-of-00001.parquet"]),
    "packed shards": (["train-0-of-1.jsonl.gz"], ["train-0-of-1.jsonl.gz"]),
    "in data/": ([f"data/{name}" for name in SHARDS], [f"data/{name}" for name in SHARDS]),
    "a file in data/": (["data/train.csv"], ["data/train.csv"]),
    "the folder before data/": (["train.csv", *[f"data/{name}" for name in SHARDS]], ["train.csv"]),
    "a folder": (["train/a.jsonl", "train/b.jsonl"], ["train"]),
    "nothing": (["dev.jsonl", "train.txt", "train-old.jsonl", "train-00000-of-00001.txt"], []),
    "shards of other parts": (["test-00000-of-00001.parquet"], []),
    "a name before ours": (["mytrain-00000-of-00001.parquet"], []),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_found_by_name(tmp_path: Path, name: str) -> None:
    files, expected = FOUND[name]
    _make(tmp_path, *files)
    assert [str(path.relative_to(tmp_path)) for path in found_in(tmp_path, listed(tmp_path), "train")] == expected


@pytest.mark.parametrize("name", ["dev.csv", "validation.jsonl", "valid.tsv", "val.json", "validation-00000-of-00001.parquet"])  # fmt: skip
def test_names_of_dev_sets(tmp_path: Path, name: str) -> None:
    _make(tmp_path, name, "train.jsonl", "test.jsonl")
    assert found_in(tmp_path, listed(tmp_path), "dev") == [tmp_path / name]


def test_the_first_name_of_dev_sets_counts(tmp_path: Path) -> None:
    _make(tmp_path, "validation.jsonl", "dev.tsv")
    assert found_in(tmp_path, listed(tmp_path), "dev") == [tmp_path / "dev.tsv"]


HOLES = {
    "the first": (SHARDS[1:], SHARDS[0]),
    "the last": (SHARDS[:2], SHARDS[2]),
    "of two series": ([*SHARDS, "b-0-of-2.jsonl"], "b-1-of-2.jsonl"),
    "counted from 1": (["a-2-of-3.csv", "a-3-of-3.csv"], "a-1-of-3.csv"),
    "several": (["a-0-of-9.csv"], "a-1-of-9.csv, a-2-of-9.csv, a-3-of-9.csv and 5 more of 9 files missing"),
}


@pytest.mark.parametrize("name", HOLES)
def test_a_series_with_a_hole(tmp_path: Path, name: str) -> None:
    files, missing = HOLES[name]
    with pytest.raises(DataError, match=f"^{tmp_path}: {missing}"):
        require_whole([tmp_path / file for file in files])


def test_two_series_of_one_name(tmp_path: Path) -> None:
    """As two uploads leave them, of which the second has other shards."""
    _make(tmp_path, *SHARDS, "train-00000-of-00001.parquet")
    with pytest.raises(DataError, match=r"files of two series, train-\.\.\.-of-00001\.parquet and .*00003\.parquet"):
        found_in(tmp_path, listed(tmp_path), "train")


NAMED = {
    "a path": ("a1.jsonl", ["a1.jsonl"]),
    "a pattern": ("a*.jsonl", ["a1.jsonl", "a2.jsonl", "a10.jsonl"]),
    "a list": (["b.parquet", "a1.jsonl"], ["b.parquet", "a1.jsonl"]),
    "a list of patterns": (["[ab]1.jsonl", "b.*"], ["a1.jsonl", "b.parquet"]),
    "a folder": ("sub", ["sub"]),
    "folders": ("*/c.csv", ["sub/c.csv"]),
    "any folders": ("**/*.csv", ["sub/c.csv", "sub/sub/d.csv"]),
    "a name with brackets": ("[x].jsonl", ["[x].jsonl"]),
    "a number": (7, ["7"]),
}


@pytest.mark.parametrize("name", NAMED)
def test_named(tmp_path: Path, name: str) -> None:
    place, expected = NAMED[name]
    _make(tmp_path, "a1.jsonl", "a2.jsonl", "a10.jsonl", "b.parquet", "sub/c.csv", "sub/sub/d.csv", "[x].jsonl", "7")
    assert named(place, tmp_path, "d: no train file") == [tmp_path / path for path in expected]
    absolute = [str(tmp_path / str(each)) for each in (place if isinstance(place, list) else [place])]
    assert named(absolute, Path("elsewhere"), "d: no train file") == [tmp_path / path for path in expected]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("absent.jsonl", r"d: no train file .*/absent\.jsonl\.$"),
        ("absent-*.jsonl", r"d: no train file matches .*/absent-\*\.jsonl\.$"),
        (["a1.jsonl", "a2.jsonl"], r"d: no train file .*/a2\.jsonl"),
        (["a1.jsonl", "a*.jsonl"], r"d: .*/a1\.jsonl is named twice\. Name it once"),
        ("s-*.csv", "s-1-of-2.csv of 2 files missing"),
    ],
)
def test_named_refusals(tmp_path: Path, place: object, message: str) -> None:
    _make(tmp_path, "a1.jsonl", "s-0-of-2.csv")
    with pytest.raises(DataError, match=message):
        named(place, tmp_path, "d: no train file")
    assert named("s-0-of-2.csv", tmp_path, "d: no train file"), "a file that is named by its whole name is meant"


def test_a_path_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dev: my-data/d/more.jsonl` beside `path: my-data/d`; what is in the folder comes first."""
    monkeypatch.chdir(tmp_path)
    _make(tmp_path, "my-data/d/train.jsonl", "my-data/d/more.jsonl", "both.jsonl", "my-data/d/both.jsonl")
    folder = Path("my-data/d")
    assert named("my-data/d/more.jsonl", folder, "") == [folder / "more.jsonl"]
    assert named("my-data/d/mo*.jsonl", folder, "") == [folder / "more.jsonl"]
    assert named("both.jsonl", folder, "") == [folder / "both.jsonl"]


def test_patterns(tmp_path: Path) -> None:
    _make(tmp_path, "[x].jsonl")
    assert [is_pattern(str(tmp_path / name)) for name in ("a*.jsonl", "[x].jsonl", "[y].jsonl", "a.jsonl")] == [
        True, False, True, False
    ]  # fmt: skip


def test_rows_in_a_folder(tmp_path: Path) -> None:
    _make(tmp_path, "part-10.parquet", "part-2.parquet", "README.md", "_SUCCESS", "x/a.jsonl")
    assert rows_in(tmp_path) == [tmp_path / "part-2.parquet", tmp_path / "part-10.parquet"]
