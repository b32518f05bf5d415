"""Rows in the cache, the embedded data set and mined rows: cut, empty, foreign or a folder, they are made again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_embed.data.options import DatasetOptions
from lightning_embed.data.readers import read_rows
from lightning_embed.data.sample_folder import sample_folder
from lightning_embed.storage.publish import _hidden
from lightning_embed.types import Task

OPTIONS = DatasetOptions(Task.sts, path="x")
ROWS = [{"text1": f"a {number}", "text2": "b" * 50, "score": 0.5, "prompt": None} for number in range(3000)]


def _folder(file: Path) -> None:
    file.unlink()
    (file / "deep").mkdir(parents=True)


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _cut(share: float) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])


BREAKS: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""), "half": _cut(0.5), "a third, of whole batches": _cut(0.34),
    "a hundredth": _cut(0.01), "cut by a byte": lambda file: file.write_bytes(file.read_bytes()[:-1]), "a folder": _folder,
    "cut before the end mark": lambda file: file.write_bytes(file.read_bytes()[:-8]),
    "text": lambda file: file.write_text("not rows"), "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "flipped": _flip, "missing": Path.unlink,
}  # fmt: skip


@pytest.mark.parametrize("kind", BREAKS)
def test_cached_rows(kind: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert read_rows(rows, OPTIONS, tmp_path / "cache").to_list() == ROWS
    (arrow,) = (tmp_path / "cache").glob("*.arrow")
    whole = arrow.read_bytes()
    BREAKS[kind](arrow)
    assert read_rows(rows, OPTIONS, tmp_path / "cache").to_list() == ROWS
    assert arrow.read_bytes() == whole
    names = {
        f"{arrow.name}.sha256",
        *(arrow.with_suffix(suffix).name for suffix in (".arrow", ".columns.json", ".lock")),
    }
    assert {path.name for path in (tmp_path / "cache").iterdir()} == names


@pytest.mark.parametrize("kind", ["empty", "half", "a folder", "missing"])
def test_the_seal_of_cached_rows(kind: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(ROWS[0]) + "\n")
    for _ in range(2):
        assert read_rows(rows, OPTIONS, tmp_path / "cache").to_list() == ROWS[:1]
        (seal,) = (tmp_path / "cache").glob("*.sha256")
        BREAKS[kind](seal)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_folder(tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("facts/train.jsonl", "half"), ("facts/qrels.tsv", "missing"), ("phrases/dev.jsonl", "a folder"), ("sha256.json", "empty")],
)  # fmt: skip
def test_the_embedded_data_set(name: str, kind: str, sample: Path, tmp_path: Path) -> None:
    folder = tmp_path / sample.name
    shutil.copytree(sample, folder)
    BREAKS[kind](folder / name)
    assert sample_folder(tmp_path) == folder
    for file in sample.rglob("*.*l*"):
        if file.is_file():
            assert (folder / file.relative_to(sample)).read_bytes() == file.read_bytes()


def test_a_file_in_place_of_the_embedded_data_set(sample: Path, tmp_path: Path) -> None:
    (tmp_path / sample.name).write_text("not a folder")
    _hidden(tmp_path / sample.name, "partial")  # nothing is made by naming it
    assert (sample_folder(tmp_path) / "facts" / "train.jsonl").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [sample.name, "sample.lock"]
