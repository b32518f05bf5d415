"""One step of every loss in every mode: its value and its gradient, of one process or of two."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from datasets import Dataset
from lightning import Trainer
from torch.nn.functional import normalize
from torch.utils.data import DataLoader

from lightning_embed import DatasetOptions, EmbeddingModule, registry
from lightning_embed.data.collator import Asked, Collator, Planned, RowPrompts
from lightning_embed.data.row_groups import Group, Rows
from lightning_embed.data.teacher import key_of
from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.encoder.options import Dtype
from lightning_embed.loss import Loss
from lightning_embed.loss.distill import DistillKind
from lightning_embed.loss.distill_embeddings import EmbeddingDistance
from lightning_embed.loss.gist import MarginOf
from lightning_embed.loss.infonce_hard import Hardened
from lightning_embed.sampler import BatchPlan
from lightning_embed.types import Batch, StepMode, Task

RANKS = int(os.environ.get("WORLD_SIZE", 1))

# case -> task, options of the loss; every registered loss is one of them (tests/training/test_parity.py checks it)
CASES = {
    "infonce": (Task.retrieval, {}),
    "infonce symmetric margin": (Task.retrieval, {"name": "infonce", "symmetric": True, "margin": 0.0}),
    "infonce of the papers": (Task.retrieval, {"name": "infonce", "symmetric": True, "mask_equal": False}),
    "infonce grouped": (Task.classification, {"name": "infonce", "in_batch": False}),
    "infonce of pairs": (Task.sts, {"name": "infonce", "min_score": 0.5}),
    "infonce_hard": (Task.retrieval, {}),
    "infonce_hard others": (Task.retrieval, {"name": "infonce_hard", "hardened": Hardened.others, "symmetric": True}),
    "infonce_focal": (Task.retrieval, {}),
    "infonce_joint": (Task.retrieval, {}),
    "infonce_joint qwen3": (Task.retrieval, {"name": "infonce_joint", "document_query": False, "margin": 0.0}),
    "multi_positive": (Task.retrieval, {}),
    "cosent": (Task.sts, {}),
    "cosent of rows": (Task.retrieval, {"name": "cosent"}),
    "pearson": (Task.sts, {}),
    "rank_kl": (Task.sts, {}),
    "pro": (Task.sts, {}),
    "mid_nce": (Task.sts, {}),
    "codiemb": (Task.sts, {}),
    "angle": (Task.sts, {}),
    "cosine_mse": (Task.sts, {}),
    "matryoshka": (Task.retrieval, {"dims": [32, 16]}),
    "matryoshka codiemb": (Task.sts, {"name": "matryoshka", "dims": [32, 8], "loss": {"name": "codiemb"}}),
    "spread_out": (Task.retrieval, {}),
    "spread_out cosent": (Task.sts, {"name": "spread_out", "loss": {"name": "cosent"}}),
    "learned_temperature": (Task.retrieval, {}),
    "learned_temperature hard": (Task.retrieval, {"name": "learned_temperature", "loss": {"name": "infonce_hard"}}),
    "quantized": (Task.retrieval, {}),
    "quantized matryoshka": (
        Task.sts,
        {"name": "matryoshka", "dims": [32, 8], "loss": {"name": "quantized", "loss": {"name": "cosent"}}},
    ),
    "distill": (Task.retrieval, {}),
    "distill margin_mse": (Task.retrieval, {"name": "distill", "kind": DistillKind.margin_mse}),
    "gist": (Task.retrieval, {"temperature": 0.2}),
    "gist relative": (Task.retrieval, {"name": "gist", "margin": 0.1, "margin_of": MarginOf.relative}),
    "distill_embeddings": (Task.retrieval, {}),
    "distill_embeddings kl": (Task.retrieval, {"name": "distill_embeddings", "kind": EmbeddingDistance.kl}),
    "distill_embeddings of labels": (Task.classification, {"name": "distill_embeddings", "loss_weight": 0.0}),
}
WRAPPERS = ("matryoshka", "quantized", "spread_out", "learned_temperature", "distill", "distill_embeddings")
SCORED = Dataset.from_dict({"positive_scores": [[1.0]], "negative_scores": [[0.0]]})  # the rows hold a teacher's scores
MODES = {
    "plain": (StepMode.plain, 0),
    "cached": (StepMode.cached, 0),
    "partial": (StepMode.partial, 60_000),
}


def loss_of(case: str, cross_device: bool) -> Loss:
    """The loss of a case; a wrapper's `cross_device` is that of the loss inside."""
    options = {"name": case, **CASES[case][1]}
    return registry.build("loss", _of_devices(options, cross_device))


def _of_devices(options: dict, cross_device: bool) -> dict:
    if options["name"] in WRAPPERS:
        return options | {"loss": _of_devices(options.get("loss", {"name": "infonce"}), cross_device)}
    return options | {"cross_device": cross_device}


def groups(task: Task) -> list[Group]:
    """Eight rows with ragged positives and negatives, texts that repeat within and across halves, teacher scores, ties.

    The last query is its own positive, as in SimCSE.
    """
    query = [f"the red {noun} runs" for noun in ("cat", "dog", "bird", "house", "river", "cat", "city", "king")]
    document = [
        f"a {noun} sleeps near the {place}" for noun in ("cat", "dog") for place in ("road", "city", "king", "a")
    ]
    if task is Task.sts:
        score = [1.0, 0.25, 0.5, 1.0, 0.0, 0.5, 0.75, 1.0]
        return [Group(q, [d], [], s) for q, d, s in zip(query, document, score, strict=True)]
    made = []
    for row in range(8):
        positives = [document[row] if row < 7 else query[row], *([document[row - 3]] if row % 3 == 0 else [])]
        negatives = [f"the old {word} {row % 5}" for word in ("queen", "house")[: row % 3]]
        scores = [3.0 - row / 4] * len(positives), [row / 8] * len(negatives)
        made.append(Group(query[row], positives, negatives, None, *(scores if row < 6 else (None, None))))
    return made


class Teacher:
    """Unit vectors that are a function of the text and the role."""

    prompts = {"d": RowPrompts("query: ", "document: ")}

    def __call__(self, asked: Sequence[Asked]) -> torch.Tensor:
        draws = [torch.Generator().manual_seed(key_of(each) % 2**31) for each in asked]
        return normalize(torch.stack([torch.randn(32, generator=draw, dtype=torch.float64) for draw in draws]), dim=1)


def batch(encoder: Encoder, task: Task, rows: Sequence[Group]) -> Batch:
    """A collated batch."""
    datasets = {"d": Rows("d", DatasetOptions(task, "unused"), SCORED)}
    collator = Collator(datasets, encoder.tokenizer, teacher=Teacher())
    (made,) = collator([Planned(BatchPlan("d", torch.arange(len(rows))), rows)])
    return made


class OneStep(EmbeddingModule):
    """Without dropout; keeps the value and the gradient of its step."""

    def on_train_start(self) -> None:
        self.eval()

    def _clip(self) -> torch.Tensor:
        self.gradient = torch.cat([p.grad.flatten() for p in self.parameters() if p.grad is not None]).clone()
        return super()._clip()

    def on_train_batch_end(self, outputs: dict, batch: object, batch_idx: int) -> None:
        self.value = self.all_gather(outputs["losses"]["d"]).mean()


def run(encoder: Encoder, case: str, mode: str, cross_device: bool, step: tuple[Batch, ...]) -> tuple:
    """Value, mean over ranks, and gradient of one step."""
    how, memory = MODES[mode]
    module = OneStep(
        encoder, {CASES[case][0]: loss_of(case, cross_device)}, partial(torch.optim.SGD, lr=0.0), step=how, step_memory=memory
    )  # fmt: skip
    trainer = Trainer(
        accelerator="cpu", devices=RANKS, strategy="ddp" if RANKS > 1 else "auto", max_steps=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        precision="64-true",
    )  # fmt: skip
    trainer.fit(module, DataLoader([step], batch_size=None, collate_fn=lambda item: item))
    return module.value, module.gradient


def alone(encoder: Encoder, case: str) -> Iterator[tuple[str, tuple]]:
    """What one process computes: the big batch, and the mean over its halves."""
    task = CASES[case][0]
    whole = batch(encoder, task, groups(task))
    halves = tuple(replace(batch(encoder, task, groups(task)[s]), weight=0.5) for s in (slice(0, 4), slice(4, 8)))
    for mode in MODES:
        yield f"whole {mode}", run(encoder, case, mode, True, (whole,))
        yield f"accumulated {mode}", run(encoder, case, mode, True, halves)
    singles = [run(encoder, case, "plain", True, (replace(half, weight=1.0),)) for half in halves]
    yield "mean of halves", tuple((a + b) / 2 for a, b in zip(*singles, strict=True))


def together(encoder: Encoder, case: str) -> Iterator[tuple[str, tuple]]:
    """What two processes compute, each with its half of the rows."""
    task = CASES[case][0]
    own = (batch(encoder, task, groups(task)[4 * int(os.environ.get("RANK", "0")) :][:4]),)
    for mode in MODES:
        yield f"cross-device {mode}", run(encoder, case, mode, True, own)
        yield f"per rank {mode}", run(encoder, case, mode, False, own)


def measured(model: Path) -> dict[tuple[str, str], tuple]:
    """All cases: alone in one process, together in two."""
    encoder = Encoder(EncoderOptions(str(model), dtype=Dtype.float32, max_tokens=48)).double()
    measure = alone if RANKS == 1 else together
    return {(case, name): result for case in CASES for name, result in measure(encoder, case)}
