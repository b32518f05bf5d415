"""Refusal of datasets whose rows teach nothing, and notes on those of which a share does not."""

from collections.abc import Mapping
from functools import partial

import torch
from omegaconf import DictConfig

from lightning_embed.config.queries import num_ranks
from lightning_embed.data import EmbeddingDataset
from lightning_embed.data.datamodule import prompts_of
from lightning_embed.encoder import Encoder
from lightning_embed.errors import ConfigError, DataError
from lightning_embed.loss import Loss
from lightning_embed.loss.base import Contrastive
from lightning_embed.loss.choice import loss_of
from lightning_embed.loss.wrapper import Wrapper
from lightning_embed.run import build
from lightning_embed.run.learning_signal import ROWS, Signal, measure
from lightning_embed.run.terminal import console
from lightning_embed.types import Task

_IN_ALL = 8_192  # rows to look at: fewer of each of many datasets, a tenth of a second each
_NOTED = 0.01  # share of silent rows from which on it is printed


def check_signal(cfg: DictConfig, data: Mapping[str, EmbeddingDataset], base: Encoder) -> None:
    """Measure the train rows of each dataset in batches as training makes them; see `learning_signal`.

    Raises:
        DataError: no row teaches anything, all queries are equal, or fewer rows than the smallest batch.
        ConfigError: all queries are their own positives, and the model has no dropout.
    """
    sampler, ranks = build.sampler(cfg), num_ranks(cfg) or 1
    trained = {name: dataset for name, dataset in data.items() if dataset.train is not None}
    losses = build.losses(cfg, {name: dataset.options for name, dataset in trained.items()})
    for name, dataset in trained.items():
        rows, loss = dataset.train, loss_of(losses, name, dataset.options.task)
        assert rows is not None
        compared = sampler.batch_rows(sampler.fitted(name, rows.train_set, ranks))
        size = compared if loss.cross_device else max(1, compared // ranks)
        look = partial(measure, rows, loss, size, prompts_of(dataset, base), base.dim, cfg.seed)
        signal = look(most := min(ROWS, _IN_ALL // len(trained)))
        if most < ROWS and (signal.silent == signal.rows or signal.one_query):  # refused only after a longer look
            signal = look(ROWS)
        task = dataset.options.task
        if signal.one_query and signal.rows > 1 and task is Task.retrieval and _contrasts_rows(loss):
            raise DataError(
                f"{name}: all its queries are equal, so that the positives of a row are negatives of the others. "
                "Expected rows of several queries: join the positives of a query in one row, or leave it out."
            )
        if signal.silent == signal.rows:
            raise DataError(f"{name}: none of its rows teaches anything: {_cause(loss, task, signal, size)}")
        if signal.silent >= _NOTED * signal.rows:
            share = f"{signal.silent / signal.rows:.0%} of its rows ({signal.silent} of {signal.rows} tried)"
            _note(f"{name}: {share} teach nothing: {_cause(loss, task, signal, size)}")
        if signal.own_positives and loss.needs_pairs:
            _check_dropout(name, signal, base)


def _contrasts_rows(loss: Loss) -> bool:
    """Whether the positives of a row are negatives of another row with the same query."""
    if not loss.needs_pairs:
        return False
    while isinstance(loss, Wrapper) and not loss.needs_teacher:
        loss = loss.inner
    return not loss.needs_teacher and not loss.needs_negatives(Task.retrieval) and not getattr(loss, "mined", False)


def _cause(loss: Loss, task: Task, signal: Signal, size: int) -> str:
    """The reason of most silent rows, and the remedy."""
    equal = 2 * signal.equal_texts >= signal.silent
    if task is Task.sts and isinstance(loss, Contrastive) and not equal:
        return f"too few pairs have a score of min_score={loss.min_score:g} or more. Lower sts_loss.min_score."
    if task is Task.sts:
        return (
            "text1 and text2 are one text, whose cosine is always 1. Remove them; for SimCSE, give retrieval rows "
            "whose positive is the query."
            if equal
            else f"in batches of {size} rows, all scores that the loss compares are equal. Raise batch_size, give "
            "other scores, or choose another loss (loss@sts_loss=cosine_mse)."
        )
    if loss.needs_teacher and not equal:
        return "too few of their documents have a teacher's score. Add scores, or set loss_weight above 0."
    if loss.needs_negatives(task) and task is Task.retrieval:
        return (
            "their negatives are equal to their query or their positives. Give other negatives (mining=hard), or "
            "choose a loss with in-batch negatives (infonce with in_batch=true)."
            if equal
            else "they have no negatives, and the loss compares a row only with its own. Add negatives (mining=hard), "
            "or choose another loss (infonce with in_batch=true)."
        )
    if loss.needs_negatives(task):
        return (
            "the texts of other labels are equal to theirs, and equal texts are no negatives. Give every text one "
            "label, and more texts."
        )
    return (
        "all documents of their batch are equal to their query or their positives. Give other positives, negatives of "
        "their own (mining=hard), or a larger batch_size; if a few documents are the positives of all queries, they "
        "are labels: use task=classification."
        if equal
        else f"in batches of {size} rows per device there is nothing to compare them with. Raise batch_size."
    )


def _check_dropout(name: str, signal: Signal, base: Encoder) -> None:
    """Refuse rows whose query is the positive where two encodings of a text are equal; else note them."""
    share = "all" if signal.own_positives == signal.rows else f"{signal.own_positives / signal.rows:.0%} of"
    found = f"{name}: in {share} its rows the query is its own positive (SimCSE)"
    if has_dropout(base):
        _note(f"{found}: it is encoded twice, with independent dropout.")
        return
    text = (
        f"{found}, and {base.options.path} has no dropout, so that both encodings are equal. Expected a model with "
        "dropout (hidden_dropout_prob in its config.json, or encoder.lora_dropout), or other positives."
    )
    if signal.own_positives == signal.rows:
        raise ConfigError(text)
    _note(text)


def has_dropout(encoder: Encoder) -> bool:
    """Whether two encodings of one text differ in training."""
    training, devices = encoder.training, [encoder.device] if encoder.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices):
        first, second = encoder.train()(encoder.tokenizer(["a few words"] * 2), seed=0).final
    encoder.train(training)
    return not torch.allclose(first, second, rtol=0, atol=1e-4)  # equal rows of a product may differ in rounding


def _note(text: str) -> None:
    console.print(text, style="yellow", markup=False, highlight=False)
