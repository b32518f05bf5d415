"""Conflict between the gradients of the tasks of a training."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from lightning_embed.errors import ConfigError
from lightning_embed.merge.layer_names import layer_of
from lightning_embed.types import Batch

Gradient = Mapping[str, Tensor]  # parameter -> its part of a gradient

_EMBEDDINGS = re.compile(r"embed|\b(?:wte|wpe|shared)\.")


class GradientConflict(Callback):
    """Logs the agreement of the gradients of each two tasks, at the weights before a step. The training is unchanged.

    With g_a and g_b the gradients of the losses of tasks a and b, always on the same batches, dropout off:

        conflict/cosine/<a>-<b>/<group>       g_a . g_b / (|g_a| |g_b|), in [-1, 1]; 0 if one of them is zero
        conflict/sign_share/<a>-<b>/<group>   share of the coordinates i with g_a,i g_b,i < 0, in [0, 1]

    A negative cosine is a conflict in the sense of Yu et al. (2020, arXiv 2001.06782). A group is all parameters,
    the embeddings, layer_0, layer_1, ..., or other. Unrelated gradients have a cosine near 0 and a sign share near 0.5;
    less where the gradient of a task is zero, as for the embeddings of tokens that its batches lack. With one task,
    nothing is logged.

    A measurement costs a step on each of the batches, run like the steps of the training (plain or cached), and one
    gradient in memory per task, each as large as the model. Several processes measure the gradient of the global batch.

    Args:
        every_n_steps: steps between two measurements; the first is before the first step.
        by: "task" or "dataset": the unit of comparison. The gradient of a task is the mean over its datasets.
        num_batches: batches of each dataset: the first of as many epochs, typically 1.

    Raises:
        ConfigError: an unknown `by`, or a number below 1.
    """

    def __init__(self, every_n_steps: int = 20, by: str = "task", num_batches: int = 1) -> None:
        if by not in ("task", "dataset"):
            raise ConfigError(f"gradient_conflict: by must be task or dataset, got {by!r}.")
        if every_n_steps < 1 or num_batches < 1:
            raise ConfigError(
                "gradient_conflict: every_n_steps and num_batches must be at least 1, "
                f"got {every_n_steps} and {num_batches}."
            )
        self.every_n_steps = every_n_steps
        self.by = by
        self.num_batches = num_batches

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the batches, the same after a resume."""
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        loader, stream = datamodule.train_dataloader(), datamodule.steps()
        self._batches: dict[str, list[Batch]] = defaultdict(list)
        for epoch in range(self.num_batches):
            stream.set_epoch(epoch)
            for batch in loader.collate_fn([loader.dataset[plan] for plan in stream.first_batches()]):
                self._batches[str(getattr(batch, self.by))].append(batch)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Measure every `every_n_steps` steps."""
        if len(self._batches) < 2 or trainer.global_step % self.every_n_steps:
            return
        gradients = {name: _gradient(trainer, pl_module, batches) for name, batches in self._batches.items()}
        numbers = {}
        for a, b in combinations(gradients, 2):
            for group, (cosine, sign_share) in conflict(gradients[a], gradients[b]).items():
                numbers[f"conflict/cosine/{a}-{b}/{group}"] = cosine
                numbers[f"conflict/sign_share/{a}-{b}/{group}"] = sign_share
        for logger in trainer.loggers:  # not pl_module.log: it would repeat the numbers at every step up to the next
            logger.log_metrics(numbers, trainer.global_step)


def _gradient(trainer: Trainer, pl_module: Any, batches: Sequence[Batch]) -> Gradient:
    """The gradient of the mean loss of batches, averaged over ranks; `.grad` and DDP's hooks are not touched."""
    backbone = pl_module.encoder.backbone
    parameters = {name: p for name, p in backbone.named_parameters() if p.requires_grad}
    total: list[Tensor] = [torch.zeros_like(p) for p in parameters.values()]

    def add(value: Float[Tensor, ""], last: bool) -> None:
        del last
        parts = torch.autograd.grad(value / len(batches), list(parameters.values()), allow_unused=True)
        for gradient, part in zip(total, parts, strict=True):
            if part is not None:
                gradient += part

    with _without_dropout(backbone), trainer.precision_plugin.train_step_context():
        for batch in batches:
            pl_module.run_backward(trainer.precision_plugin.convert_input(batch.to(pl_module.device)), add)
    return {n: trainer.strategy.reduce(g, reduce_op="mean") for n, g in zip(parameters, total, strict=True)}


@contextmanager
def _without_dropout(backbone: nn.Module) -> Iterator[None]:
    # Not of the whole encoder: that would also leave the arithmetic of the training (dtype=auto).
    training = backbone.training
    backbone.eval()
    try:
        yield
    finally:
        backbone.train(training)


def conflict(first: Gradient, second: Gradient) -> dict[str, tuple[float, float]]:
    """Cosine and sign share of two gradients, of every group of parameters."""
    groups: dict[str, list[Float[Tensor, " 5"]]] = defaultdict(list)
    for name, gradient in first.items():
        groups[layer_group(name)].append(_sums(gradient, second[name]))
    groups["all"] = [part for parts in groups.values() for part in parts]
    return {group: _agreement(torch.stack(parts).sum(0)) for group, parts in groups.items()}


def layer_group(parameter: str) -> str:
    """`layer_<number>`, `embeddings` or `other`, by the name of a parameter."""
    if (number := layer_of(parameter).rpartition(".")[2]).isdigit():
        return f"layer_{number}"
    return "embeddings" if _EMBEDDINGS.search(parameter) else "other"


def _sums(first: Float[Tensor, "*shape"], second: Float[Tensor, "*shape"]) -> Float[Tensor, " 5"]:
    """Sums over a parameter: g_a . g_b, |g_a|^2, |g_b|^2, coordinates of opposite sign, coordinates."""
    wide = torch.promote_types(first.dtype, torch.float32)
    a, b = first.to(wide), second.to(wide)
    opposite = (a.sign() * b.sign() < 0).sum()  # signs first: the product of two small gradients may be 0
    return torch.stack([(a * b).sum(), (a * a).sum(), (b * b).sum(), opposite.to(wide), a.new_tensor(a.numel())])


def _agreement(sums: Float[Tensor, " 5"]) -> tuple[float, float]:
    product, first, second, opposite, count = sums.tolist()
    norms = (first * second) ** 0.5
    return (0.0 if norms == 0 else product / norms), opposite / count  # NaN stays NaN
