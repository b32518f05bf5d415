"""Section `parity` of gpu_check.py: one batch, its loss and its gradient, by every way to compute them."""

from __future__ import annotations

import enum
import random
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, get_type_hints

import torch

from lightning_embed import Encoder, registry
from lightning_embed.config import schema
from lightning_embed.encoder.options import EncoderOptions
from lightning_embed.errors import ConfigError
from lightning_embed.training.module import EmbeddingModule
from lightning_embed.types import Batch, StepMode, Task, Tokens

if TYPE_CHECKING:
    from gpu_check import Check, Finding

_LOSSES = {"infonce": Task.retrieval, "multi_positive": Task.retrieval, "cosent": Task.sts, "codiemb": Task.sts}
_ROWS = 16
_SAME, _SAME_IN_BF16 = 0.9999, 0.99  # cosine of two gradients


def batch(rows: int, task: Task, longest: int, vocabulary: int, seed: int = 0) -> Batch:
    """Random tokens with lengths like squad's: questions of about 14 tokens, paragraphs of about 150."""
    draw = random.Random(seed)
    sizes = [(2.65, 0.32)] * rows + [(5.0, 0.42)] * rows
    lengths = [max(4, min(longest, round(draw.lognormvariate(*each)))) for each in sizes]
    ids = [[draw.randrange(vocabulary // 30, vocabulary) for _ in range(length)] for length in lengths]
    score = torch.tensor([draw.random() for _ in range(rows)]) if task is Task.sts else None
    places = torch.arange(2 * rows)
    return Batch(
        "squad", task, Tokens.of(ids), places.clone(), places[:rows], places[rows:, None],
        torch.empty(rows, 0, dtype=torch.long), score,
    )  # fmt: skip


def module(encoder: Encoder, task: Task, loss: str, mode: StepMode = StepMode.plain) -> EmbeddingModule:
    """A training of one task."""
    optimizer = partial(torch.optim.AdamW, lr=1e-5, fused=encoder.device.type == "cuda")
    return EmbeddingModule(encoder, {task: registry.build("loss", {"name": loss})}, optimizer, step=mode)


def without_dropout(encoder: Encoder) -> Encoder:
    """The encoder in training, which draws nothing."""
    for part in encoder.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
        if hasattr(part, "dropout_prob"):
            part.dropout_prob = 0.0
    return encoder.train()


def kernels() -> list[str]:
    """The words of `encoder.kernel`, where this version has the option."""
    hint = get_type_hints(EncoderOptions).get("kernel")
    return [each.name for each in hint if each.name != "auto"] if isinstance(hint, enum.EnumType) else []


def findings(check: Check) -> Iterator[Finding]:
    """Each way beside float32 on the CPU."""
    from gpu_check import tried

    schema.register()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    ways: dict[str, tuple[dict[str, Any], StepMode]] = {
        "float32": ({}, StepMode.plain),
        "padded": ({"attention": "sdpa"}, StepMode.plain),
        "cached": ({"max_tokens": 256}, StepMode.cached),
        "partial": ({"max_tokens": 256}, StepMode.partial),
        "bfloat16": ({"dtype": "bfloat16"}, StepMode.plain),
        "bfloat16, cached": ({"dtype": "bfloat16", "max_tokens": 256}, StepMode.cached),
        **{f"kernel={word}": ({"kernel": word, "dtype": "bfloat16"}, StepMode.plain) for word in kernels()},
    }
    for loss, task in _LOSSES.items():
        reference = _gradient(check, loss, task, {"dtype": "float32"}, StepMode.plain, torch.device("cpu"))
        for way, (options, mode) in ways.items():
            if check.is_over:
                return
            given = {"dtype": "float32", **options}
            yield tried(f"{loss}: {way}", partial(_compared, check, loss, task, given, mode, reference))


def _compared(
    check: Check, loss: str, task: Task, options: dict[str, Any], mode: StepMode, reference: tuple[float, torch.Tensor]
) -> Finding:
    try:
        value, gradient = _gradient(check, loss, task, options, mode, check.device)
    except ConfigError as refusal:
        if "kernel" not in options:
            raise
        return {"ok": True, "refused": str(refusal)}  # this device, or this installation, does not have it
    cosine = float(torch.nn.functional.cosine_similarity(gradient, reference[1], 0))
    limit = _SAME_IN_BF16 if options["dtype"] == "bfloat16" else _SAME
    return {"ok": cosine > limit, "loss": value, "expected": reference[0], "cosine_of_gradients": cosine}


def _gradient(
    check: Check, loss: str, task: Task, options: dict[str, Any], mode: StepMode, device: torch.device
) -> tuple[float, torch.Tensor]:
    encoder = without_dropout(Encoder(EncoderOptions(check.model, **options))).to(device)
    rows = batch(_ROWS if not check.tiny else 6, task, 24 if check.tiny else 256, encoder.backbone.config.vocab_size)
    training = module(encoder, task, loss, mode)
    output = training.run_backward(rows.to(device), lambda value, _: value.backward(), seed=1)
    gradients = [each.grad.double().flatten().cpu() for each in encoder.parameters() if each.grad is not None]
    return float(output.value.detach()), torch.cat(gradients)
