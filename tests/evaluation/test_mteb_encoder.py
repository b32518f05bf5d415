"""Embeddings that are no score: NaN and infinity are refused, one vector for all texts is said."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.errors import CheckpointError, LightningEmbedError
from lightning_embed.evaluation import Ensemble, Evaluator, Local
from lightning_embed.evaluation.embedding_cache import Remembered
from lightning_embed.evaluation.sharded import Shared
from lightning_embed.types import EvalSet, Task


class Spoilt:
    """The embeddings of an encoder, some of them changed."""

    def __init__(self, encoder: Encoder, change: Any) -> None:
        self.encoder, self.change, self.prompt_for = encoder, change, encoder.prompt_for

    def encode(self, texts: Sequence[str], *, prompt: Any, max_length: int | None = None) -> Tensor:
        return self.change(self.encoder.encode(texts, prompt=prompt, max_length=max_length).clone())


def one_number(bad: float) -> Any:
    def change(embeddings: Tensor) -> Tensor:
        embeddings[-1, 3] = bad
        return embeddings

    return change


@pytest.fixture
def sets(eval_sets: list[EvalSet]) -> dict[Task, EvalSet]:
    return {each.task: each for each in eval_sets if each.split == "test"}


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("door", ["plain", "ensemble", "remembered", "shared"])
def test_refused_on_every_task(
    encoder: Encoder, sets: dict[Task, EvalSet], task: Task, bad: float, door: str, tmp_path: Path
) -> None:
    spoilt: Any = Spoilt(encoder, one_number(bad))
    if door == "ensemble":
        spoilt = Ensemble([encoder, spoilt])
    elif door == "remembered":
        spoilt = Remembered(spoilt, tmp_path / "x.sqlite")
    elif door == "shared":
        spoilt = Shared(spoilt, torch.device("cpu"))
    evaluator: Evaluator = Local()
    with pytest.raises(
        CheckpointError, match=rf"evaluated on {sets[task].name}.*NaN or infinity for \d+ of \d+ texts, the first '"
    ):
        evaluator(spoilt, [sets[task]])


def constant(embeddings: Tensor) -> Tensor:
    return embeddings[:1].expand(len(embeddings), -1).clone()


def nearly_constant(embeddings: Tensor) -> Tensor:
    return constant(embeddings) + 1e-5 * embeddings


@pytest.mark.parametrize("task", [Task.retrieval, Task.classification, Task.clustering])
@pytest.mark.parametrize("change", [constant, nearly_constant])
def test_a_collapsed_model_is_said(
    encoder: Encoder, sets: dict[Task, EvalSet], task: Task, change: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "lightning_embed"):
        Local()(Spoilt(encoder, change), [sets[task]])
    assert f"{sets[task].name}: all" in caplog.text
    assert caplog.text.count("the model has collapsed") == 1


@pytest.mark.parametrize("task", list(Task))
def test_a_sound_model_is_not_mentioned(
    encoder: Encoder, sets: dict[Task, EvalSet], task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "lightning_embed"):
        Local()(Spoilt(encoder, lambda embeddings: embeddings), [sets[task]])
    assert "collapsed" not in caplog.text


def test_the_encoder_names_model_and_text(tiny_model: Path) -> None:
    encoder = Encoder(EncoderOptions(str(tiny_model)))
    encoder.backbone.embeddings.word_embeddings.weight.data[encoder.tokenizer(["queen"]).ids[1]] = math.nan
    assert encoder.encode(["a cat", "the king"]).isfinite().all()
    with pytest.raises(CheckpointError, match=rf"^{tiny_model}: .* for 1 of 2 texts, the first 'the queen'"):
        encoder.encode(["a cat", "the queen", "a cat"])
    with pytest.raises(LightningEmbedError):
        encoder.encode("the queen")
