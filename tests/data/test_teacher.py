"""A teacher's embeddings of all texts: each computed once, found by every batch, whatever the process."""

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_embed.data import DatasetOptions, EmbeddingDataModule, load_datasets
from lightning_embed.data import teacher as module
from lightning_embed.data.collator import Asked, RowPrompts
from lightning_embed.data.teacher import TeacherVectors, keys_of, texts_of_all, write_reduced, write_vectors
from lightning_embed.data.teacher_options import TeacherOptions
from lightning_embed.errors import ConfigError, DataError
from lightning_embed.sampler.batch_shuffle import BatchShuffle
from lightning_embed.types import Task

Write = Callable[[str, Iterable[Mapping[str, Any]]], Path]
DATA: Mapping[Task, list[dict[str, Any]]] = {
    Task.retrieval: [
        {"query": f"q {n}", "positives": [f"d {n}", f"q {n}"], "negatives": [f"d {n + 1}"]} for n in range(6)
    ],
    Task.sts: [{"text1": f"a {n}", "text2": f"a {n + 1}", "score": n / 6} for n in range(6)],
    Task.classification: [{"text": f"a {n}", "label": str(n % 2), "prompt": f"own {n % 3}: "} for n in range(6)],
}


def _encode(asked: Sequence[Asked]) -> torch.Tensor:
    """Numbers that tell prompt, text and length apart."""
    return torch.tensor([[len(a.prompt), float(a.text.split()[1]), a.max_length or 0] for a in asked])


@pytest.mark.parametrize("task", DATA)
def test_every_text_of_every_batch_is_found(
    task: Task, encoder: Any, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", 4)
    path = write("d/train.jsonl", DATA[task])
    length = 9 if task is Task.retrieval else 7
    lengths = {"query_max_length": 7} | ({"document_max_length": 9} if task is Task.retrieval else {})
    options = DatasetOptions(task, str(path), batch_size=2, dev_share=0, **lengths)
    data = load_datasets({"d": options}, cache=tmp_path / "cache")
    prompts = RowPrompts("a query: ", "a document: ") if task is Task.retrieval else RowPrompts("query: ", "query: ")
    parts = [(data["d"].train, prompts)]
    keys, calls = keys_of(texts_of_all(parts)), []

    def encode(asked: Sequence[Asked]) -> torch.Tensor:
        calls.extend(asked)
        return _encode(asked)

    write_vectors(keys, texts_of_all(parts), encode, 3, tmp_path / "v.npy")
    assert len(calls) == len(set(calls)) == len(keys)
    teacher = pickle.loads(pickle.dumps(TeacherVectors(keys, tmp_path / "v.npy", {"d": prompts})))
    assert teacher.dim == 3
    batches = EmbeddingDataModule(data, encoder, BatchShuffle(), teacher=teacher)
    for step in batches.train_dataloader():
        for batch in step:
            for role, expected in ((batch.query, 7), (batch.positives, length), (batch.negatives, length)):
                found = batch.teacher[role[role >= 0].flatten()]
                assert (found[:, 2] == expected).all()
            if task is Task.retrieval:
                assert (batch.teacher[batch.query, 0] == len("a query: ")).all()
                assert (batch.teacher[batch.positives.flatten(), 0] == len("a document: ")).all()
            if task is Task.classification:
                assert (batch.teacher[:, 0] == len("own 0: ")).all()
    pickle.dumps(teacher)  # after the file was opened
    assert "_vectors" not in teacher.__getstate__()
    with pytest.raises(DataError, match="The teacher has not seen the text 'q 99'"):
        teacher([Asked("", "q 99", None)])


def test_a_dataset_without_a_teacher_has_no_vectors(encoder: Any, write: Write, tmp_path: Path) -> None:
    path = write("d/train.jsonl", DATA[Task.retrieval])
    data = load_datasets(
        {"d": DatasetOptions(Task.retrieval, str(path), batch_size=2, dev_share=0)}, cache=tmp_path / "cache"
    )
    other = TeacherVectors(np.zeros(1, np.uint64), tmp_path / "v.npy", {"other": RowPrompts()})
    for teacher in (None, other):
        (batch,) = next(iter(EmbeddingDataModule(data, encoder, BatchShuffle(), teacher=teacher).train_dataloader()))
        assert batch.teacher is None


def test_reduced_vectors_keep_the_dot_products_of_a_subspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 7)
    inside = torch.nn.functional.normalize(torch.randn(20, 4), dim=1)
    turn = torch.linalg.qr(torch.randn(12, 12))[0][:4]
    np.save(tmp_path / "whole.npy", (inside @ turn).numpy())
    write_reduced(tmp_path / "whole.npy", 4, tmp_path / "four.npy")
    four = torch.from_numpy(np.load(tmp_path / "four.npy"))
    torch.testing.assert_close(four @ four.T, inside @ inside.T, rtol=0, atol=1e-5)
    write_reduced(tmp_path / "whole.npy", 2, tmp_path / "two.npy")
    two = torch.from_numpy(np.load(tmp_path / "two.npy"))
    torch.testing.assert_close(two, torch.nn.functional.normalize(four[:, :2], dim=1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "a/b", "max_length": 2}, "teacher.max_length: expected at least 3"),
        ({"path": "a/b", "dim": 0}, "teacher.dim: expected at least 1"),
        ({"dim": 8}, "teacher.dim: expected a teacher with it, got none"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TeacherOptions(**options)
