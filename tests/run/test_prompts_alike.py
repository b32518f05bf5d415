"""A text has one prompt and one length wherever a run encodes it: the row's own prompt, the dataset's, the task's."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch.utils.data import DataLoader

from lightning_embed.callback.embedding_geometry import choose_pairs, geometry
from lightning_embed.data import DatasetOptions, EmbeddingDataModule, EmbeddingDataset, load_datasets
from lightning_embed.data.datamodule import prompts_of
from lightning_embed.data.mining import mine
from lightning_embed.data.mining_options import MiningOptions
from lightning_embed.data.probe_batches import ProbeBatches
from lightning_embed.data.probe_options import ProbeOptions
from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.encoder.tokenize import TextTokenizer
from lightning_embed.evaluation import Ensemble, Local
from lightning_embed.evaluation.embedding_cache import Remembered
from lightning_embed.evaluation.local_tasks import to_task
from lightning_embed.evaluation.mteb_encoder import MtebEncoder
from lightning_embed.evaluation.sharded import Shared
from lightning_embed.run import build, data_tables
from lightning_embed.run.dataset_affinity import DatasetAffinity
from lightning_embed.sampler.batch_shuffle import BatchShuffle
from lightning_embed.types import Task

BY_TASK = {"query": "red ", "document": "blue ", "sts": "green ", "classification": "old "}
OPTIONS: dict[str, dict[str, Any]] = {
    "pairs": {"task": Task.retrieval, "query_max_length": 9, "document_max_length": 7},
    "asked": {"task": Task.retrieval, "max_length": 10, "query_prompt": "big ", "document_prompt": "small "},
    "scores": {"task": Task.sts, "max_length": 8},
    "topics": {"task": Task.classification, "max_length": 50, "query_max_length": 6, "query_prompt": "the "},
    "groups": {"task": Task.clustering, "query_prompt": ""},
}
# first letter of a text -> its dataset's prompt and length
EXPECTED = {
    "q": ("red ", 9), "p": ("blue ", 7), "n": ("blue ", 7), "Q": ("big ", 10), "P": ("small ", 10), "N": ("small ", 10),
    "x": ("green ", 8), "y": ("green ", 8), "t": ("the ", 6), "g": ("", 64),
}  # fmt: skip
Seen = set[tuple[str, str, int]]


def _own(number: int) -> dict[str, str]:
    """Of three rows one has no prompt of its own, one an empty one."""
    return {} if number % 3 == 0 else {"prompt": "" if number % 3 == 1 else f"a cat {number % 2} "}


def _write(folder: Path) -> dict[str, DatasetOptions]:
    for part in ("train", "dev", "test"):
        rows = {
            "pairs": [
                {"query": f"q {part} {n}", "pos": [f"p {part} {n}"], "neg": [f"n {part} {n}"]} for n in range(12)
            ],
            "asked": [
                {"anchor": f"Q {part} {n}", "positive": f"P {part} {n}", "negative": f"N {part} {n}"} for n in range(12)
            ],
            "scores": [{"text1": f"x {part} {n}", "text2": f"y {part} {n}", "score": n / 12} for n in range(12)],
            "topics": [{"text": f"t {part} {n}", "label": n % 2} for n in range(12)],
            "groups": [{"text": f"g {part} {n}", "label": n % 2} for n in range(12)],
        }
        for name, records in rows.items():
            file = folder / name / f"{part}.jsonl"
            file.parent.mkdir(exist_ok=True, parents=True)
            file.write_text("".join(json.dumps({**row, **_own(n)}) + "\n" for n, row in enumerate(records)))
    return {name: DatasetOptions(path=str(folder / name), batch_size=4, **given) for name, given in OPTIONS.items()}


@pytest.fixture
def data(tmp_path: Path) -> dict[str, EmbeddingDataset]:
    return load_datasets(_write(tmp_path / "data"), cache=tmp_path / "cache")


@pytest.fixture
def encoder(data: dict[str, EmbeddingDataset], tiny_model: Path) -> Encoder:
    """The base, as a run builds it."""
    return Encoder(EncoderOptions(str(tiny_model), prompts={**BY_TASK, **build._prompts(data.values())}))


def _expected(text: str) -> tuple[str, int]:
    """Prompt and length of a text of ours."""
    kind, _, number = text.split()
    prompt, length = EXPECTED[kind]
    return prompt if kind in "pnPN" else _own(int(number)).get("prompt", prompt), length


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """(text, prompt, length) of every text that our tokenizer or a sentence-transformers model is given."""
    noted: Seen = set()
    tokenize, encode = TextTokenizer.__call__, SentenceTransformer.encode

    def note(self: TextTokenizer, texts: Sequence[str], prompt: Any = "", max_length: Any = None) -> Any:
        prompts = [prompt] * len(texts) if isinstance(prompt, str) else prompt
        lengths = max_length if isinstance(max_length, Sequence) else [max_length] * len(texts)
        noted.update(zip(texts, prompts, [length or self.max_length for length in lengths], strict=True))
        return tokenize(self, texts, prompt, max_length)

    def note_theirs(self: SentenceTransformer, inputs: Sequence[str], **how: Any) -> Any:
        noted.update((text, how["prompt"], self.max_seq_length) for text in inputs)
        return encode(self, inputs, **how)

    monkeypatch.setattr(TextTokenizer, "__call__", note)
    monkeypatch.setattr(SentenceTransformer, "encode", note_theirs)
    return noted


def _datamodule(data: Mapping[str, EmbeddingDataset], encoder: Encoder) -> EmbeddingDataModule:
    return EmbeddingDataModule(data, encoder, BatchShuffle())


def _training(data: Mapping[str, EmbeddingDataset], encoder: Encoder, tmp_path: Path) -> None:
    list(_datamodule(data, encoder).train_dataloader())


def _dev_loss(data: Mapping[str, EmbeddingDataset], encoder: Encoder, tmp_path: Path) -> None:
    list(_datamodule(data, encoder).val_dataloader())


def _probe(data: Mapping[str, EmbeddingDataset], encoder: Encoder, tmp_path: Path) -> None:
    batches = ProbeBatches(data, ProbeOptions(batch_size=4), encoder, 0)
    assert [batches[number] for number in range(len(batches))]


def _measured(wrapped: Callable[[Encoder, Path], Any]) -> Callable[..., None]:
    def measure(data: Mapping[str, EmbeddingDataset], encoder: Encoder, tmp_path: Path) -> None:
        Local()(wrapped(encoder, tmp_path), [each for dataset in data.values() for each in dataset.eval_sets])

    return measure


def _geometry(data: Mapping[str, EmbeddingDataset], encoder: Encoder, tmp_path: Path) -> None:
    for _, pairs in choose_pairs(_datamodule(data, encoder), 8):
        geometry(encoder, pairs)


def _affinity(data: Mapping[str, EmbeddingDataset], encoder: Encoder, tmp_path: Path) -> None:
    DatasetAffinity(encoder, data, lambda expert: tmp_path, lambda path, name: 0.0).embeddings()


def _inspect(data: Mapping[str, EmbeddingDataset], encoder: Encoder, tmp_path: Path) -> None:
    data_tables.print_datasets(encoder, data)


def _mining(data: Mapping[str, EmbeddingDataset], encoder: Encoder, tmp_path: Path) -> None:
    encoder.save(tmp_path / "model")
    prompts, rows = prompts_of(data["pairs"], encoder), data["pairs"].train
    assert rows is not None
    told = {"query_prompt": prompts.query, "document_prompt": prompts.document}
    mine(rows, tmp_path / "model", MiningOptions(["pairs"], 2), tmp_path / "mined.jsonl", **told)


# place -> how to go there, and the kinds of texts (first letters) that it must have encoded, of which parts
PLACES: dict[str, tuple[Callable[..., None], str, tuple[str, ...]]] = {
    "training": (_training, "qpnQPNxytg", ("train",)),
    "dev loss": (_dev_loss, "qpnQPNxytg", ("dev",)),
    "probe": (_probe, "qpnQPNxytg", ("train",)),
    "evaluation": (_measured(lambda encoder, _: encoder), "qpnQPNxytg", ("dev", "test")),
    "evaluation while training": (_measured(lambda encoder, _: Shared(encoder, torch.device("cpu"))), "qpnQPNxytg", ("dev", "test")),
    "cached evaluation": (_measured(lambda encoder, path: Remembered(encoder, path / "x.sqlite")), "qpnQPNxytg", ("dev", "test")),
    "ensemble": (_measured(lambda encoder, _: Ensemble([encoder, encoder])), "qpnQPNxytg", ("dev", "test")),
    "geometry": (_geometry, "qpQPxytg", ("dev",)),
    "affinity": (_affinity, "qpQPxytg", ("train",)),
    "inspect": (_inspect, "qpnQPNxytg", ("train",)),
    "mining": (_mining, "qpn", ("train",)),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_one_prompt_and_one_length_everywhere(
    place: str, data: dict[str, EmbeddingDataset], encoder: Encoder, seen: Seen, tmp_path: Path
) -> None:
    go, kinds, parts = PLACES[place]
    seen.clear()
    go(data, encoder, tmp_path)
    ours = {each for each in seen if each[0].split()[-1].isdecimal()}
    assert ours == {(text, *_expected(text)) for text, _, _ in ours}
    assert {(text[0], text.split()[1]) for text, _, _ in ours} >= {(kind, part) for kind in kinds for part in parts}
    assert {prompt for _, prompt, _ in ours} >= {"a cat 0 ", "a cat 1 "}


def test_mteb_has_the_prompts_of_the_training(data: dict[str, EmbeddingDataset], encoder: Encoder, seen: Seen) -> None:
    """On its own tasks, which have neither own prompts nor lengths of ours, by the name of the dataset and the task."""
    from mteb.types import PromptType

    for name, dataset in data.items():
        metadata, prompts = to_task(dataset.eval_sets[0]).metadata, prompts_of(dataset, encoder)
        roles = (PromptType.query, PromptType.document) if dataset.options.task is Task.retrieval else (None, None)
        for role, prompt in zip(roles, (prompts.query, prompts.document), strict=True):
            seen.clear()
            texts: Any = DataLoader([{"text": f"{name} runs"}])  # type: ignore[arg-type]
            MtebEncoder(encoder).encode(texts, task_metadata=metadata, prompt_type=role)
            assert seen == {(f"{name} runs", prompt, 64)}
