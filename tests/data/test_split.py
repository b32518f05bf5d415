"""Splits: the groups of a slow search, whole, as many as fit; dev and test apart."""

import random
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from lightning_embed.data import DatasetOptions, load_datasets
from lightning_embed.data.options import Format
from lightning_embed.data.records import parts_of
from lightning_embed.data.row_part import text_hash
from lightning_embed.data.row_store import stored
from lightning_embed.data.split import document_groups, drawn_groups, grouped, held_out
from lightning_embed.errors import ConfigError, DataError
from lightning_embed.runtime.permutation import Permutation
from lightning_embed.types import Task

OPTIONS = DatasetOptions(Task.retrieval, path="x", format=Format.rows)


def _documents(seed: int) -> list[list[str]]:
    draw = random.Random(seed)
    count = draw.randrange(60, 120)
    return [[f"d{draw.randrange(3 * count)}" for _ in range(draw.randrange(1, 3))] for _ in range(count)]


def _table(documents: list[list[str]], folder: Path) -> Dataset:
    rows = [{"query": texts[0], "positives": [texts[-1]], "negatives": ["a negative of all"]} for texts in documents]
    return stored(folder / "rows.arrow", parts_of(("w", row) for row in rows), OPTIONS, "rows")


def _slow_groups(documents: list[list[str]]) -> list[list[int]]:
    """Grow each group from its first row until no row shares a document with it."""
    groups: list[list[int]] = []
    for first in range(len(documents)):
        if any(first in group for group in groups):
            continue
        group, size = {first}, 0
        while len(group) > size:
            size, texts = len(group), {text for row in group for text in documents[row]}
            group |= {row for row, own in enumerate(documents) if texts & set(own)}
        groups.append(sorted(group))
    return groups


@pytest.mark.parametrize("seed", range(10))
def test_groups_equal_a_slow_search(seed: int, tmp_path: Path) -> None:
    documents = _documents(seed)
    hashes = np.array([text_hash(text) for texts in documents for text in texts], dtype=np.uint64)
    kept = document_groups(_table(documents, tmp_path))
    for groups in (grouped(hashes, np.array([len(texts) for texts in documents])), kept):
        found = [groups.rows_of(np.array([number])).tolist() for number in range(len(groups))]
        assert found == _slow_groups(documents)
        assert groups.sizes(np.arange(len(groups))).tolist() == [len(group) for group in found]
        assert groups.rows_of(np.arange(len(groups))).tolist() == list(range(len(documents)))


@pytest.mark.parametrize("seed", range(10))
def test_a_draw_equals_a_slow_choice(seed: int, tmp_path: Path) -> None:
    documents = _documents(seed)
    groups, order = document_groups(_table(documents, tmp_path)), Permutation(len(_slow_groups(documents)), seed)
    taken = np.array([1, 4] if seed % 2 else [], dtype=np.int64)
    room, chosen = 17 + seed, []
    for number in order.first(len(groups)).tolist():
        size = len(_slow_groups(documents)[number])
        if number not in taken and size <= room:
            chosen.append(number)
            room -= size
    assert drawn_groups(groups, 17 + seed, order, taken).tolist() == chosen


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shares", [{"dev": 0.2}, {"test": 0.2}, {"dev": 0.1, "test": 0.3}, {"dev": 0.4, "test": 0.4}])
def test_parts_are_apart(seed: int, shares: dict[str, float], tmp_path: Path) -> None:
    """No row and no document in two parts, no row lost, about the share that was asked for."""
    documents = _documents(seed)
    parts = held_out(_table(documents, tmp_path), shares, seed, "toy")
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(documents)))
    for part, share in shares.items():
        assert share / 2 * len(documents) <= len(parts[part]) <= round(share * len(documents))
    texts = {part: {text for row in rows for text in documents[row]} for part, rows in parts.items()}
    assert sum(map(len, texts.values())) == len(set().union(*texts.values()))


def test_who_decides_which_rows(tmp_path: Path) -> None:
    """The test rows: their file. The dev rows: also the seed and the name, beside the test rows that there are."""
    table = _table([[f"d{n}", f"e{n // 2}"] for n in range(400)], tmp_path)

    def drawn(dev: float, test: float, seed: int = 0, name: str = "toy") -> tuple[set[int], set[int]]:
        parts = held_out(table, {p: s for p, s in (("dev", dev), ("test", test)) if s}, seed, name)
        return set(parts.get("dev", np.zeros(0)).tolist()), set(parts.get("test", np.zeros(0)).tolist())

    dev, test = drawn(0.1, 0.1)
    assert drawn(0, 0.1, seed=5, name="other")[1] == test == drawn(0.3, 0.1, seed=1)[1], "for every seed and name"
    assert test < drawn(0.1, 0.2)[1], "of a smaller share part of those of a larger one"
    assert drawn(0.1, 0.1, seed=1)[0] != dev != drawn(0.1, 0.1, name="other")[0]
    assert drawn(0.1, 0.1)[0] == dev
    assert drawn(0.1, 0)[0] - test < dev, "those that are no test rows stay dev rows"


@pytest.mark.parametrize("part", ["dev", "test"])
@pytest.mark.parametrize(
    ("documents", "share", "found", "largest"),
    [
        ([["a"]], 0.5, 0, 1),
        ([["a"], ["a"], ["a"]], 0.5, 0, 3),
        ([[f"{n}", "the same"] for n in range(50)], 0.05, 0, 50),
        ([["a"]] * 40 + [["b"]] * 2, 0.5, 2, 40),
        ([[f"{n}"] for n in range(9)], 0.1, 1, 1),
    ],
)
def test_groups_that_are_too_large(
    part: str, documents: list[list[str]], share: float, found: int, largest: int, tmp_path: Path
) -> None:
    message = (
        rf"^toy: {part}_share={share} of {len(documents)} rows finds only {found}: the largest group of rows that share "
        rf"documents has {largest}\. Give a {part} file, change {part}_share, or set {part}_share=0\.$"
    )
    with pytest.raises(DataError, match=message):
        held_out(_table(documents, tmp_path), {part: share}, 0, "toy")


@pytest.mark.parametrize("broken", [b"", b"text", None])
def test_broken_groups_are_found_again(broken: bytes | None, tmp_path: Path) -> None:
    table = _table(_documents(1), tmp_path)
    groups = document_groups(table)
    before = groups.rows.tolist(), groups.starts.tolist()
    del groups  # it is memory-mapped
    (file,) = tmp_path.glob("*.groups.npy")
    file.unlink() if broken is None else file.write_bytes(broken)
    after = document_groups(table)
    assert (after.rows.tolist(), after.starts.tolist()) == before


@pytest.mark.parametrize("task", Task)
def test_one_file_is_enough_for_an_honest_table(task: Task, write, tmp_path: Path) -> None:
    rows = {
        Task.retrieval: lambda n: {"query": f"q{n}", "positives": [f"d{n // 2}"]},
        Task.sts: lambda n: {"text1": f"a{n // 2}", "text2": f"b{n}", "score": n % 5 / 4},
        Task.classification: lambda n: {"text": f"t{n // 2}", "label": n % 3},
        Task.clustering: lambda n: {"text": f"t{n // 2}", "label": n % 3},
    }[task]
    file = write("all.jsonl", [rows(n) for n in range(200)])
    options = DatasetOptions(task, path=str(file), dev_share=0.1, test_share=0.2)
    data = load_datasets({"d": options}, cache=tmp_path / "cache")["d"]
    assert [each.split for each in data.eval_sets] == ["dev", "test"]
    assert (len(data.train), len(data.dev)) == (140, 20)
    if task is Task.classification:
        test = data.eval_sets[1].content
        assert (len(test.texts), len(test.train_texts)) == (40, 140)
        assert not set(test.texts) & set(test.train_texts)


def test_a_test_file_comes_first(write, tmp_path: Path) -> None:
    for part, count in {"train": 40, "test": 3}.items():
        write(f"d/{part}.jsonl", [{"query": f"{part} {n}", "positives": [f"{part}d {n}"]} for n in range(count)])
    options = DatasetOptions(Task.retrieval, path=str(tmp_path / "d"), dev_share=0, test_share=0.5)
    data = load_datasets({"d": options}, cache=tmp_path / "cache")["d"]
    assert len(data.train) == 40
    assert len(data.eval_sets[0].content.queries) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_share": 1.0}, r"test_share must be in \[0, 1\), got 1"),
        ({"test_share": -0.1}, r"test_share must be in \[0, 1\), got -0.1"),
        (
            {"dev_share": 0.5, "test_share": 0.5},
            r"dev_share \+ test_share must be below 1, got 0.5 \+ 0.5: no rows would",
        ),
        ({"in_domain": False, "test_share": 0.1}, "test_share: expected 0 where in_domain=false, got 0.1"),
    ],
)
def test_shares_that_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DatasetOptions(Task.sts, "x", **options)
