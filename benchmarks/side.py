"""One side of benchmarks/training.py or encoding.py: ours or sentence-transformers', waiting before every step.

It is started by side_by_side.py, which lets the sides take turns. Speaks JSON lines: a line from the parent is a turn; after
it the worker says how long the step took (with the fetch of the next batch), its loss, and the memory peak so far.
"""

# ruff: noqa: ARG002  the signatures of callbacks are those of Lightning and transformers
import json
import os
import resource
import sys
import time
from itertools import chain
from pathlib import Path
from typing import Any

CHANNEL = os.fdopen(os.dup(1), "w")


class Turns:
    """Counts tokens and waits for turns."""

    def __init__(self) -> None:
        self.started = 0.0
        self.loss = 0.0
        self.texts = self.real = self.run = self.squares = 0

    def wait(self) -> None:
        """Report the step that ended here, and wait for the next turn."""
        now = time.perf_counter()
        report = {"seconds": now - self.started, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
        print(json.dumps(vars(self) | report), file=CHANNEL, flush=True)
        if not sys.stdin.readline():
            os._exit(0)
        self.texts = self.real = self.run = self.squares = 0
        self.started = time.perf_counter()

    def count(self, lengths: list[int], run: int) -> None:
        """Texts of these lengths went through the model as `run` tokens."""
        self.texts += len(lengths)
        self.real += sum(lengths)
        self.squares += sum(length**2 for length in lengths)
        self.run += run


def composed(case: dict[str, Any]) -> Any:
    """The config of a case: what `python train.py` would have composed."""
    from hydra import compose, initialize_config_dir

    from lightning_embed.config import schema

    schema.register()
    with initialize_config_dir(version_base="1.3", config_dir=str(schema.conf_folder())):
        return compose(
            "train",
            [
                f"hydra.searchpath=[file://{case['config']}]", "data=side_by_side", f"encoder.path={case['model']}",
                f"encoder.max_length={case['max_length']}", f"encoder.dtype={case['dtype']}", "experts=joint", "logger=none",
                "sampler=round_robin", f"trainer.max_steps={case['steps']}", "trainer.enable_progress_bar=false",
                "trainer.limit_val_batches=0", "scheduler=constant", "scheduler.warmup_share=0", "trainer.accelerator=cpu",
                "optimizer.lr=2e-5", f"out={case['config']}/out", f"step={case['step']}", "name=side_by_side",
            ],
        )  # fmt: skip


def ours(case: dict[str, Any], turns: Turns) -> None:
    """Train with our Trainer, DataModule and module, built as train.py builds them."""
    from lightning.pytorch.callbacks import Callback

    from lightning_embed.encoder.budget import SavedBytes
    from lightning_embed.experts import Expert
    from lightning_embed.run import build

    class Wait(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            turns.wait()
            for part in batch:
                turns.count(part.tokens.lengths.tolist(), len(part.tokens.ids))

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            turns.loss = float(trainer.callback_metrics["train/loss"])

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            turns.wait()

    cfg = composed(case)
    data = build.datasets(cfg)
    encoder = build.encoder(cfg, data.values())
    expert = Expert("joint", dict.fromkeys(data))
    batches = build.datamodule(cfg, data, encoder, expert)
    module = build.module(cfg, encoder, {name: rows.options for name, rows in batches.train_rows.items()}, expert)
    if case["step"] == "partial":  # keeps half of the activations of a batch
        tokens, saved = batches.first_batches()[0].tokens, SavedBytes()
        chunk = encoder.chunks(tokens)[0]
        with saved.count():
            encoder.forward_chunk(tokens, chunk)
        module.step_memory = round(saved.bytes * len(tokens.ids) / int(tokens.lengths[chunk].sum())) // 2
    trainer = build.trainer(cfg, [], Path(case["config"]) / "checkpoints", [Wait()])
    trainer.fit(module, batches)


def theirs(case: dict[str, Any], turns: Turns) -> None:
    """Train with SentenceTransformerTrainer on the same rows, in the order of our sampler."""
    import datasets as hf
    import torch
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from sentence_transformers.sentence_transformer import losses
    from torch.utils.data import SequentialSampler
    from transformers import TrainerCallback

    class Wait(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            turns.wait()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            turns.wait()

    def count(_: Any, arguments: tuple[Any, ...]) -> None:
        mask = arguments[0]["attention_mask"]
        turns.count(mask.sum(1).tolist(), mask.numel())

    def noted(_: Any, __: Any, loss: torch.Tensor) -> None:
        turns.loss = float(loss.detach())

    model = SentenceTransformer(case["model"], device="cpu")
    model.max_seq_length = case["max_length"]
    model[0].register_forward_pre_hook(count)
    infonce: Any = losses.MultipleNegativesRankingLoss(model)
    if case["step"] != "plain":
        infonce = losses.CachedMultipleNegativesRankingLoss(model)
    cosent = losses.CoSENTLoss(model)
    for loss in (infonce, cosent):
        loss.register_forward_hook(noted)
    tables = {name: hf.Dataset.from_list(rows) for name, rows in _rows(case).items()}
    sizes = {name: len(table) * len(tables) // case["steps"] for name, table in tables.items()}
    arguments = SentenceTransformerTrainingArguments(
        output_dir=f"{case['config']}/theirs", max_steps=case["steps"], per_device_train_batch_size=max(sizes.values()),
        learning_rate=2e-5, lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=1.0, use_cpu=True,
        bf16=case["dtype"] == "bfloat16", report_to=[], disable_tqdm=True, save_strategy="no", logging_strategy="no",
        multi_dataset_batch_sampler="round_robin",
        batch_sampler=lambda table, batch_size, drop_last, **_: DefaultBatchSampler(
            SequentialSampler(table), batch_size, drop_last
        ),
    )  # fmt: skip
    SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=tables if len(tables) > 1 else next(iter(tables.values())),
        loss={name: cosent if "score" in table.column_names else infonce for name, table in tables.items()}
        if len(tables) > 1
        else infonce,
        callbacks=[Wait()],
    ).train()


def _rows(case: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return json.loads(Path(case["config"], "rows.json").read_text())  # type: ignore[no-any-return]


def rows_in_order(case: dict[str, Any], turns: Turns) -> None:
    """Write the rows of each dataset, one after the other as our sampler and our rows give them to a step."""
    del turns
    from lightning_embed.experts import Expert
    from lightning_embed.run import build

    cfg = composed(case)
    data = build.datasets(cfg)
    batches = build.datamodule(cfg, data, build.encoder(cfg, data.values()), Expert("joint", dict.fromkeys(data)))
    loader = batches.train_dataloader()
    found: dict[str, list[dict[str, Any]]] = {}
    for plan in chain.from_iterable(step for step, _ in zip(loader.batch_sampler, range(case["steps"]), strict=False)):
        for group in loader.dataset[plan].groups:
            row = {"anchor": group.query, "positive": group.positives[0]}
            row |= {"score": group.score} if group.score is not None else {"negative": group.negatives[0]}
            found.setdefault(plan.dataset, []).append(row)
    Path(case["config"], "rows.json").write_text(json.dumps(found))


def encode_ours(case: dict[str, Any], turns: Turns) -> None:
    """Encode the texts with `Encoder.encode`, turn after turn."""
    from lightning_embed.encoder import Encoder, EncoderOptions
    from lightning_embed.encoder.options import Dtype

    encoder = Encoder(EncoderOptions(case["model"], dtype=Dtype(case["dtype"]), max_length=case["max_length"]))
    texts = json.loads(Path(case["texts"]).read_text())
    lengths = encoder.tokenizer(texts).lengths.tolist()
    for _ in range(case["turns"]):
        turns.wait()
        turns.count(lengths, sum(lengths))
        turns.loss = float(encoder.encode(texts)[:, 0].sum())
    turns.wait()


def encode_theirs(case: dict[str, Any], turns: Turns) -> None:
    """Encode the texts with `SentenceTransformer.encode`, turn after turn."""
    import torch
    from sentence_transformers import SentenceTransformer

    def count(_: Any, arguments: tuple[Any, ...]) -> None:
        mask = arguments[0]["attention_mask"]
        turns.count(mask.sum(1).tolist(), mask.numel())

    dtype = getattr(torch, case["dtype"])
    model = SentenceTransformer(case["model"], device="cpu", model_kwargs={"dtype": dtype})
    model.max_seq_length = case["max_length"]
    model[0].register_forward_pre_hook(count)
    texts = json.loads(Path(case["texts"]).read_text())
    for _ in range(case["turns"]):
        turns.wait()
        turns.loss = float(model.encode(texts, show_progress_bar=False, convert_to_tensor=True)[:, 0].float().sum())
    turns.wait()


if __name__ == "__main__":
    os.dup2(2, 1)  # what the libraries print is not for the parent
    sides = {
        "ours": ours, "theirs": theirs, "rows": rows_in_order, "encode ours": encode_ours, "encode theirs": encode_theirs,
    }  # fmt: skip
    sides[sys.argv[1]](json.loads(sys.argv[2]), Turns())
