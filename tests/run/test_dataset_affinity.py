"""What plans are told about datasets: mean embeddings by the base, losses of trained models; each computed once."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lightning_embed.data import DatasetOptions, EmbeddingDataset, load_datasets
from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.errors import ConfigError
from lightning_embed.experts import Expert, Measure
from lightning_embed.experts.per_cluster import By, PerCluster
from lightning_embed.run import dataset_affinity
from lightning_embed.run.dataset_affinity import DatasetAffinity
from lightning_embed.types import Task, TrainSet
from tests.toy import NOUNS, write_toy


def _never(*arguments: object) -> Path:
    raise AssertionError(arguments)


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> Encoder:
    return Encoder(EncoderOptions(str(tiny_model), prompts={"query": "big ", "document": "old ", "sts": "red "}))


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, EmbeddingDataset]:
    """One of pairs, one of scores, one of labels (with a prompt of its own), one that only tests."""
    folder = write_toy(tmp_path_factory.mktemp("measure"), rows=24)
    rows = [{"text": f"the {noun} in {i}", "label": noun} for noun in NOUNS for i in range(3)]
    (folder / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {
        "pairs": DatasetOptions(Task.retrieval, path=str(folder / "pairs")),
        "scores": DatasetOptions(Task.sts, path=str(folder / "scores")),
        "labels": DatasetOptions(
            Task.classification, path=str(folder / "labels.jsonl"), dev_share=0.0, query_prompt="blue "
        ),
        "tested": DatasetOptions(Task.sts, path=str(folder / "scores"), in_domain=False),
    }
    return load_datasets(options, cache=folder / "cache")


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The texts that every call of `encode` gets, with their prompts."""
    seen: list[list[str]] = []
    encode = Encoder.encode

    def note(self: Encoder, texts: list[str], *, prompt: list[str], max_length: int | None) -> torch.Tensor:
        seen.append([before + text for before, text in zip(prompt, texts, strict=True)])
        return encode(self, texts, prompt=prompt, max_length=max_length)

    monkeypatch.setattr(Encoder, "encode", note)
    return seen


def test_embeddings_are_means_joined(base: Encoder, datasets: dict[str, EmbeddingDataset]) -> None:
    """Equal the slow version, text by text; both sides of an STS pair have the prompt of a query."""
    found = DatasetAffinity(base, datasets, _never, _never).embeddings()
    assert list(found) == ["pairs", "scores", "labels"]
    pairs, scores = datasets["pairs"].train.table, datasets["scores"].train.table
    expected = {
        "pairs": ([f"big {row['query']}" for row in pairs], [f"old {row['positives'][0]}" for row in pairs]),
        "scores": ([f"red {row['text1']}" for row in scores], [f"red {row['text2']}" for row in scores]),
    }
    for name, sides in expected.items():
        means = [sum(base.encode(text, prompt="").double() for text in texts) / len(texts) for texts in sides]
        torch.testing.assert_close(found[name].double(), torch.cat(means), atol=1e-6, rtol=0)


def test_a_label_is_joined_to_another_text_of_its_label(
    base: Encoder, datasets: dict[str, EmbeddingDataset], encoded: list[list[str]]
) -> None:
    DatasetAffinity(base, {"labels": datasets["labels"]}, _never, _never).embeddings()
    queries, documents = encoded
    assert sorted(queries) == sorted(f"blue {text}" for text in datasets["labels"].train.table["text"])
    for query, document in zip(queries, documents, strict=True):
        assert query.split()[:3] == document.split()[:3]
        assert query != document


def test_rows_are_drawn_by_seed(
    base: Encoder, datasets: dict[str, EmbeddingDataset], encoded: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_affinity, "NUM_ROWS", 5)
    for seed in (0, 0, 1):
        DatasetAffinity(base, {"pairs": datasets["pairs"]}, _never, _never, seed).embeddings()
    queries = encoded[::2]
    assert all(len(set(texts)) == 5 for texts in queries)
    assert queries[0] == queries[1] != queries[2]


def test_embeddings_are_computed_once(
    base: Encoder, datasets: dict[str, EmbeddingDataset], encoded: list[list[str]], tmp_path: Path
) -> None:
    """Once for an object, and once for a file; the file gives the same bits."""
    file = tmp_path / "out" / "measure.json"
    first = DatasetAffinity(base, datasets, _never, _never, file=file)
    assert not encoded
    found = first.embeddings()
    assert len(encoded) == 2 * 3
    assert not file.parent.exists(), "nothing is written before the run begins"
    first.save()
    again = [first.embeddings(), DatasetAffinity(base, datasets, _never, _never, file=file).embeddings()]
    assert len(encoded) == 2 * 3
    for other in again:
        assert all(torch.equal(other[name], found[name]) for name in found)
    assert [path.name for path in file.parent.iterdir()] == ["measure.json"]


class Trained:
    """Trains nothing; a model knows the datasets that share a first letter with its own."""

    def __init__(self) -> None:
        self.experts: list[Expert] = []

    def train(self, expert: Expert) -> Path:
        self.experts.append(expert)
        return Path("models") / expert.name

    def loss_of(self, model: Path, dataset: str) -> float:
        return 1.0 if model.name == "joint" or model.name[0] == dataset[0] else 2.0


@pytest.fixture
def renamed(datasets: dict[str, EmbeddingDataset]) -> Callable[..., dict[str, EmbeddingDataset]]:
    """The same dataset under several names."""
    return lambda *names: {name: replace(datasets["pairs"], name=name) for name in names}


def test_losses_of_every_model_on_every_dataset(base: Encoder, renamed, tmp_path: Path) -> None:
    trained, file = Trained(), tmp_path / "measure.json"
    measured = DatasetAffinity(base, renamed("sts", "nq", "snli"), trained.train, trained.loss_of, file=file)
    assert isinstance(measured, Measure)
    expected = {
        "joint": {"sts": 1.0, "nq": 1.0, "snli": 1.0},
        "sts": {"sts": 1.0, "nq": 2.0, "snli": 1.0},
        "nq": {"sts": 2.0, "nq": 1.0, "snli": 2.0},
        "snli": {"sts": 1.0, "nq": 2.0, "snli": 1.0},
    }
    assert measured.losses() == expected
    assert measured.losses() == expected
    measured.save()
    assert DatasetAffinity(base, renamed("sts", "nq", "snli"), _never, _never, file=file).losses() == expected
    assert trained.experts == [
        Expert("joint", {"sts": None, "nq": None, "snli": None}),
        *(Expert(name, {name: None}) for name in ("sts", "nq", "snli")),
    ]
    sets = {name: TrainSet(Task.retrieval, 24, 1) for name in ("sts", "nq", "snli")}
    clusters = PerCluster(by=By.loss).experts(sets, 0, measured)
    assert [list(cluster.rows) for cluster in clusters] == [["sts", "snli"], ["nq"]]


def test_both_answers_share_a_file(base: Encoder, datasets: dict[str, EmbeddingDataset], tmp_path: Path) -> None:
    trained, file = Trained(), tmp_path / "measure.json"
    first = DatasetAffinity(base, datasets, trained.train, trained.loss_of, file=file)
    losses, embeddings = first.losses(), first.embeddings()
    first.save()
    again = DatasetAffinity(base, datasets, _never, _never, file=file)
    assert again.losses() == losses
    assert again.embeddings().keys() == embeddings.keys()


def test_no_dataset_is_called_joint(base: Encoder, renamed) -> None:
    with pytest.raises(ConfigError) as caught:
        DatasetAffinity(base, renamed("joint", "nq"), _never, _never).losses()
    assert str(caught.value) == "A dataset cannot have the name 'joint', that of the joint model. Rename the dataset."
