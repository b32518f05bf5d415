"""`EmbeddingModule`: encode -> gather -> loss, under manual optimisation."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float, Int
from lightning import LightningModule
from lightning.pytorch.strategies import ParallelStrategy
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_embed import dist
from lightning_embed.encoder import Encoder
from lightning_embed.errors import ConfigError
from lightning_embed.loss import Loss
from lightning_embed.seeding import derive_seed
from lightning_embed.types import Batch, Embeddings, LossInput, LossOutput, Task

MakeOptimizer = Callable[[Iterable[Any]], Optimizer]
MakeScheduler = Callable[[Optimizer, int], LRScheduler]


class EmbeddingModule(LightningModule):
    """Trains an encoder on steps of single-task batches, each task with its own loss.

    The module steps the optimiser itself: a step may hold several batches (accumulation, mixed steps), whose weighted
    mean is its loss, and gradients are clipped once per step. Dropout is a pure function of (seed, step, rank, batch,
    chunk), so a resumed run repeats the undisturbed one.

    Args:
        encoder: the model.
        losses: the loss of each task that occurs in the data.
        optimizer: makes the optimiser of the trainable parameters.
        scheduler: makes the learning-rate scheduler from optimiser and number of steps; None: constant rate.
        max_grad_norm: clip the gradient to this L2 norm; None: never.
        seed: of dropout.

    Raises:
        ConfigError: a loss cannot serve its task, or max_grad_norm is not positive.
    """

    def __init__(
        self,
        encoder: Encoder,
        losses: Mapping[Task, Loss],
        optimizer: MakeOptimizer,
        scheduler: MakeScheduler | None = None,
        max_grad_norm: float | None = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_losses(losses)
        if max_grad_norm is not None and not max_grad_norm > 0:
            raise ConfigError(f"max_grad_norm must be positive or null, got {max_grad_norm}.")
        self.automatic_optimization = False
        self.encoder = encoder
        self.losses = losses
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.max_grad_norm = max_grad_norm
        self.seed = seed

    def configure_optimizers(self) -> Any:
        """The optimiser of the trainable parameters, and its schedule over all steps of the trainer."""
        optimizer = self.make_optimizer(p for p in self.encoder.parameters() if p.requires_grad)
        if self.make_scheduler is None:
            return optimizer
        # Not trainer.estimated_stepping_batches: it would build the loaders before the step to resume from is known.
        num_steps: int = self.trainer.datamodule.num_steps(self.trainer.max_steps, self.trainer.max_epochs)  # type: ignore[attr-defined]
        return [optimizer], [self.make_scheduler(optimizer, num_steps)]

    def training_step(self, step: tuple[Batch, ...]) -> dict[str, Tensor]:
        """One optimiser step. Returns the detached loss of each batch, by dataset."""
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        seed = derive_seed(self.seed, self.trainer.global_step, dist.rank())
        losses: dict[str, Tensor] = {}
        for number, batch in enumerate(step):
            with self._gradients_shared(last=number == len(step) - 1):
                output = self.loss(batch, derive_seed(seed, number))
                self.manual_backward(output.value * batch.weight)
            losses[batch.dataset] = losses.get(batch.dataset, 0) + output.value.detach() * batch.weight
            self.log_dict({f"train/{key}/{batch.dataset}": value for key, value in output.logs.items()})
        norm = self._clip()
        optimizer.step()
        optimizer.zero_grad()
        self._log_step(losses, norm, sum(batch.weight for batch in step))
        if scheduler := self.lr_schedulers():
            scheduler.step()  # type: ignore[union-attr]
        return losses

    def validation_step(self, step: tuple[Batch, ...]) -> None:
        """Dev loss of each dataset."""
        for batch in step:
            self.log(
                f"dev/loss/{batch.dataset}", self.loss(batch).value, on_step=False, on_epoch=True, sync_dist=True,
                batch_size=len(batch.query),
            )  # fmt: skip

    def loss(self, batch: Batch, seed: int | None = None) -> LossOutput:
        """Encode the distinct texts of a batch and apply the loss of its task; the mean over ranks is the global loss."""
        loss = self.losses[batch.task]
        embeddings = self.encoder(batch.tokens, seed=seed)
        return loss(gathered(batch, embeddings) if loss.cross_device else local(batch, embeddings))

    def _gradients_shared(self, last: bool) -> AbstractContextManager[None]:
        """Average gradients over ranks only once, with the last batch of a step."""
        strategy = self.trainer.strategy
        return strategy.block_backward_sync() if isinstance(strategy, ParallelStrategy) and not last else nullcontext()

    def _clip(self) -> Float[Tensor, ""]:
        parameters = [p for p in self.encoder.parameters() if p.grad is not None]
        limit = self.max_grad_norm if self.max_grad_norm is not None else torch.inf
        return torch.nn.utils.clip_grad_norm_(parameters, limit)

    def _log_step(self, losses: Mapping[str, Tensor], norm: Tensor, total: float) -> None:
        self.log_dict({f"train/loss/{name}": loss for name, loss in losses.items()}, sync_dist=True)
        self.log("train/loss", sum(losses.values()) / total, prog_bar=True, sync_dist=True)
        self.log("train/grad_norm", norm)
        optimizer = self.optimizers()
        self.log("train/learning_rate", optimizer.param_groups[0]["lr"])  # type: ignore[union-attr]


def check_losses(losses: Mapping[Task, Loss]) -> None:
    """Refuse a loss that cannot serve its task.

    Raises:
        ConfigError: naming the loss, the task and the tasks that the loss serves.
    """
    for task, loss in losses.items():
        if task not in loss.tasks:
            raise ConfigError(
                f"{type(loss).__name__} cannot train {task}: it serves {', '.join(sorted(loss.tasks))}. Choose another loss."
            )


def local(batch: Batch, embeddings: Embeddings) -> LossInput:
    """What a loss sees of the rows of this rank alone."""
    return LossInput(
        embeddings, batch.hashes, batch.query, batch.positives, batch.negatives, batch.score, slice(0, len(batch.query))
    )


def gathered(batch: Batch, embeddings: Embeddings) -> LossInput:
    """What a loss sees of the rows of all ranks: texts joined in the order of ranks, indices moved along."""
    if dist.world_size() == 1:
        return local(batch, embeddings)
    texts = dist.sizes(len(batch.tokens), batch.query.device)
    rows = [len(batch.query)] * dist.world_size()  # a global batch is shared equally
    start = sum(texts[: dist.rank()])

    def moved(index: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
        return torch.where(index < 0, index, index + start)

    middle = embeddings.middle
    return LossInput(
        Embeddings(dist.gather(embeddings.final, texts), None if middle is None else dist.gather(middle, texts)),
        dist.gather(batch.hashes, texts),
        dist.gather(moved(batch.query), rows),
        dist.gather(_widen(moved(batch.positives)), rows),
        dist.gather(_widen(moved(batch.negatives)), rows),
        None if batch.score is None else dist.gather(batch.score, rows),
        slice(dist.rank() * len(batch.query), (dist.rank() + 1) * len(batch.query)),
    )


def _widen(index: Int[Tensor, "rows slots"]) -> Int[Tensor, "rows most"]:
    """Fill up with -1 to the widest of all ranks."""
    most = max(dist.sizes(index.shape[1], index.device))
    return torch.nn.functional.pad(index, (0, most - index.shape[1]), value=-1)
