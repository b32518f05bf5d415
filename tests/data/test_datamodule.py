"""Rows into batches: each text once, roles as indices, prompts; the loaders."""

from pathlib import Path

import pytest
import torch

from lightning_embed.data import DatasetOptions, EmbeddingDataModule, load_datasets
from lightning_embed.data.options import check_divisible
from lightning_embed.errors import ConfigError
from lightning_embed.sampler.batch_shuffle import BatchShuffle
from lightning_embed.sampler.two_stage import TwoStage
from lightning_embed.types import Batch, Task


@pytest.fixture
def datamodule(write, tmp_path: Path, encoder) -> EmbeddingDataModule:
    write(
        "r/train.jsonl",
        [{"query": f"query {i}", "positives": [f"doc {i}"], "negatives": [f"doc {i - i % 4}"]} for i in range(16)],
    )
    write("r/dev.jsonl", [{"query": f"dev {i}", "positives": [f"devdoc {i}"]} for i in range(3)])
    write("s/train.jsonl", [{"text1": f"one {i}", "text2": f"two {i}", "score": i / 16} for i in range(16)])
    options = {
        "r": DatasetOptions(Task.retrieval, path=str(tmp_path / "r"), batch_size=4, dev_share=0.0),
        "s": DatasetOptions(Task.sts, path=str(tmp_path / "s"), batch_size=8, dev_share=0.25, query_prompt="sts: "),
    }
    return EmbeddingDataModule(load_datasets(options, cache=tmp_path / "cache"), encoder, BatchShuffle())


def _text(datamodule: EmbeddingDataModule, batch: Batch, index: int) -> str:
    words = {number: word for word, number in datamodule.tokenizer.vocabulary.items()}
    start, end = batch.tokens.offsets[index : index + 2]
    return " ".join(words[i] for i in batch.tokens.ids[start:end].tolist())


def test_batches(datamodule: EmbeddingDataModule) -> None:
    steps = list(datamodule.train_dataloader())
    assert sorted((step[0].dataset, len(step[0].query)) for step in steps) == [("r", 4)] * 4 + [("s", 8)]
    for (batch,) in steps:
        for row, query in enumerate(batch.query.tolist()):
            text = _text(datamodule, batch, query)
            positive = _text(datamodule, batch, int(batch.positives[row, 0]))
            if batch.dataset == "r":
                assert text.startswith("query: query ")
                assert positive == f"document: doc {text.split()[-1]}"
                assert batch.score is None
            else:
                assert positive == text.replace("one", "two")
                assert text.startswith("sts: one ")
                assert batch.score[row] == pytest.approx(int(text.split()[-1]) / 16)


def test_each_distinct_text_once(datamodule: EmbeddingDataModule) -> None:
    """Row i's negative is the positive of another row: one text, one entry, one hash."""
    for (batch,) in datamodule.train_dataloader():
        texts = [_text(datamodule, batch, i) for i in range(len(batch.tokens))]
        assert len(set(texts)) == len(texts) == len(batch.hashes.unique())
        used = {i for index in (batch.query, batch.positives, batch.negatives) for i in index.flatten().tolist()} - {-1}
        assert used == set(range(len(texts)))


def test_scores_of_a_teacher(write, tmp_path: Path, encoder) -> None:
    rows = [
        {"query": "q0", "positives": ["a", "b"], "negatives": ["c"], "positive_scores": [1.5, None]},
        {"query": "q1", "positives": ["d"], "positive_scores": [2.5]},
        {"query": "q2", "positives": ["e"]},
    ]
    write("d/train.jsonl", rows)
    options = DatasetOptions(Task.retrieval, path=str(tmp_path / "d"), batch_size=3, num_positives=2, dev_share=0.0)
    data = EmbeddingDataModule(load_datasets({"d": options}, cache=tmp_path / "cache"), encoder, BatchShuffle())
    ((batch,),) = data.train_dataloader()
    by_query = {
        _text(data, batch, q).split()[-1]: s for q, s in zip(batch.query.tolist(), batch.positive_scores, strict=True)
    }
    nan = torch.tensor(torch.nan)
    for query, expected in {"q0": [1.5, nan], "q1": [2.5, nan], "q2": [nan, nan]}.items():
        torch.testing.assert_close(by_query[query], torch.tensor(expected), equal_nan=True)
    assert batch.positive_scores.shape == batch.positives.shape
    assert batch.negative_scores.shape == batch.negatives.shape
    assert batch.negative_scores.isnan().all()


def test_dev_batches_are_whole_ordered_and_fixed(datamodule: EmbeddingDataModule) -> None:
    first, second = (list(datamodule.val_dataloader()) for _ in range(2))
    assert [(step[0].dataset, len(step[0].query)) for step in first] == [("r", 3), ("s", 4)]
    assert [step[0].hashes.tolist() for step in first] == [step[0].hashes.tolist() for step in second]


def test_chosen_rows(datamodule: EmbeddingDataModule, write, tmp_path: Path, encoder) -> None:
    write("t/train.jsonl", [{"text1": f"one {i}", "text2": f"two {i}", "score": i / 16} for i in range(16)])
    data = load_datasets(
        {"t": DatasetOptions(Task.sts, path=str(tmp_path / "t"), batch_size=4, dev_share=0.0)}, cache=tmp_path
    )
    chosen = EmbeddingDataModule(data, encoder, BatchShuffle(), rows={"t": [1, 3, 5, 7, 9]})
    (step,) = chosen.train_dataloader()
    assert {_text(chosen, step[0], i).split()[-1] for i in step[0].query.tolist()} <= {"1", "3", "5", "7", "9"}


def test_a_group_is_a_task_to_the_sampler(write, tmp_path: Path, encoder) -> None:
    options = {}
    for name, group in {"nli": "sts", "squad": None}.items():
        write(f"{name}/train.jsonl", [{"query": f"{name} {i}", "positives": [f"doc {i}"]} for i in range(16)])
        options[name] = DatasetOptions(
            Task.retrieval, path=str(tmp_path / name), batch_size=4, dev_share=0.0, group=group
        )
    data = load_datasets(options, cache=tmp_path / "cache")
    steps = EmbeddingDataModule(data, encoder, TwoStage(first_share=1.0)).steps()
    assert [plan.dataset for (plan,) in steps] == ["squad"] * 4 + ["nli"] * 4


def test_indivisible_batch_size() -> None:
    check_divisible("squad", 32, 4)
    with pytest.raises(
        ConfigError, match="squad: batch_size=30 rows cannot be shared equally by 4 ranks: use 28 or 32"
    ):
        check_divisible("squad", 30, 4)
