"""`EmbeddingModule`: encode -> gather -> loss, under manual optimisation."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from lightning import LightningModule
from lightning.pytorch.strategies import ParallelStrategy
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_embed.encoder import Encoder
from lightning_embed.errors import ConfigError, TrainingError
from lightning_embed.loss import Loss
from lightning_embed.runtime import distributed, fault_injection
from lightning_embed.runtime.seeding import derive_seed
from lightning_embed.training.cached_step import cached_backward
from lightning_embed.training.divergence import KEPT, REMEDY, DivergenceGuard, Measured
from lightning_embed.training.gather import gathered, local
from lightning_embed.types import Batch, Embeddings, LossOutput, StepMode, Task

MakeOptimizer = Callable[[Iterable[Any]], Optimizer]
MakeScheduler = Callable[[Optimizer, int], LRScheduler]


class EmbeddingModule(LightningModule):
    """Trains an encoder on steps of single-task batches, each task with its own loss.

    The module steps the optimiser itself: a step may hold several batches (accumulation, mixed steps), whose weighted
    mean is its loss, and gradients are clipped once per step. Dropout is a pure function of (seed, step, rank, batch,
    chunk), so a resumed run repeats the undisturbed one. A training that diverges is stopped: a loss, a gradient norm
    or a weight with NaN or infinity is in no checkpoint and in no model.

    Args:
        encoder: the model.
        losses: the loss of each task of the data.
        optimizer: makes the optimiser of the trainable parameters.
        scheduler: makes the learning-rate scheduler from optimiser and number of steps; None: constant rate.
        max_grad_norm: clip the gradient to this L2 norm; None: no clipping.
        seed: seed of dropout.
        step: execution of a step, see `StepMode`; the gradient is the same.
        step_memory: bytes of activations that a partial step keeps at most.

    Raises:
        ConfigError: a loss does not support its task, or max_grad_norm is not positive.
        TrainingError: while it trains: it diverged.
    """

    def __init__(
        self,
        encoder: Encoder,
        losses: Mapping[Task, Loss],
        optimizer: MakeOptimizer,
        scheduler: MakeScheduler | None = None,
        *,
        max_grad_norm: float | None = 1.0,
        seed: int = 0,
        step: StepMode = StepMode.plain,
        step_memory: int = 0,
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
        self.step = step
        self.step_memory = step_memory if step is StepMode.partial else 0
        self.guard = DivergenceGuard()

    def configure_optimizers(self) -> Any:
        """The optimiser of the trainable parameters, and its schedule over all steps of the trainer."""
        optimizer = self.make_optimizer(p for p in self.encoder.parameters() if p.requires_grad)
        if self.make_scheduler is None:
            return optimizer
        # Not trainer.estimated_stepping_batches: it would build the loaders before the step to resume from is known.
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        num_steps: int = data.num_steps(self.trainer.max_steps, self.trainer.max_epochs)
        return [optimizer], [self.make_scheduler(optimizer, num_steps)]

    def training_step(self, step: tuple[Batch, ...]) -> dict[str, Tensor]:
        """One optimiser step. Returns the detached loss of each batch, by dataset."""
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        seed = derive_seed(self.seed, self.trainer.global_step, distributed.rank())
        losses: dict[str, Tensor] = {}
        weights: dict[str, float] = {}
        for number, batch in enumerate(step):
            output = self._backward(batch, derive_seed(seed, number), last=number == len(step) - 1)
            losses[batch.dataset] = losses.get(batch.dataset, 0) + output.value.detach() * batch.weight
            weights[batch.dataset] = weights.get(batch.dataset, 0.0) + batch.weight
            self.log_dict({f"train/{key}/{batch.dataset}": value for key, value in output.logs.items()})
        norm = self._clip()
        self.guard.note(Measured(self.trainer.global_step + 1, losses, norm, optimizer.param_groups[0]["lr"]))
        fault_injection.point("before_step")
        optimizer.step()
        fault_injection.point("after_step")
        optimizer.zero_grad()
        self.log("train/loss", sum(losses.values()) / sum(weights.values()), prog_bar=True, sync_dist=True)
        losses = {name: loss / weights[name] for name, loss in losses.items()}
        self._log_step(losses, norm)
        if scheduler := self.lr_schedulers():
            scheduler.step()  # type: ignore[union-attr]
        return losses

    def validation_step(self, step: tuple[Batch, ...]) -> None:
        """Dev loss of each dataset."""
        fault_injection.point("in_validation")
        for batch in step:
            value = self.loss(batch).value
            self.guard.note(Measured(self.trainer.global_step, {batch.dataset: value}))
            self.log(
                f"dev/loss/{batch.dataset}", value, on_step=False, on_epoch=True, sync_dist=True,
                batch_size=len(batch.query),
            )  # fmt: skip

    def check_finite(self) -> None:
        """Stop a training that diverged; every rank calls it at the same steps, before the weights are used or saved.

        Raises:
            TrainingError: NaN or infinity in a loss, in the norm of a gradient, or in a weight.
        """
        self.guard.check()
        problem = self.encoder.not_finite()
        if sum(distributed.sizes(int(problem is not None), self.device)):  # no rank waits for one that stopped
            step, found = self.trainer.global_step, problem or "a different rank found NaN or infinity"
            raise TrainingError(f"The training diverged: after step {step} {found}. {KEPT} {REMEDY}")

    def on_validation_start(self) -> None:
        """Measure no dev loss of weights that are not finite."""
        self.check_finite()

    def on_validation_end(self) -> None:
        """Refuse a dev loss that is not finite."""
        self.guard.check()

    def on_train_end(self) -> None:
        """Check the last step, before the model is exported."""
        self.check_finite()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Save only weights that are finite."""
        self.check_finite()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint, of an earlier version, with weights that are not finite."""
        for name, value in checkpoint["state_dict"].items():
            if not value.isfinite().all():
                raise TrainingError(
                    f"The checkpoint {self.trainer.ckpt_path} has NaN or infinity in {name}: its training diverged. "
                    f"Delete it. {REMEDY}"
                )

    def loss(self, batch: Batch, seed: int | None = None) -> LossOutput:
        """Encode the texts of a batch and apply the loss of its task; its mean over ranks is the global loss."""
        middle = self.losses[batch.task].needs_middle
        return self._loss_of(batch, self.encoder(batch.tokens, seed=seed, middle=middle))

    def _loss_of(self, batch: Batch, embeddings: Embeddings) -> LossOutput:
        loss = self.losses[batch.task]
        return loss(gathered(batch, embeddings) if loss.cross_device else local(batch, embeddings))

    def _backward(self, batch: Batch, seed: int, last: bool) -> LossOutput:
        """Add the gradient of a batch; with the last batch of a step, average it over ranks."""

        def backward(value: Float[Tensor, ""], last_chunk: bool) -> None:
            with self._gradients_shared(last=last and last_chunk):
                self.manual_backward(value * batch.weight)

        return self.run_backward(batch, backward, seed)

    def run_backward(
        self, batch: Batch, backward: Callable[[Float[Tensor, ""], bool], None], seed: int | None = None
    ) -> LossOutput:
        """Run a batch as a training step does; `backward` takes each scalar, and whether it is the last one."""
        middle = self.losses[batch.task].needs_middle
        if self.step is StepMode.plain:
            embeddings = self.encoder(batch.tokens, seed=seed, middle=middle)
            output = self._loss_of(batch, embeddings)
            # A loss of the middle layer alone gives the layers above no gradient: DDP would wait for it for ever.
            backward(output.value + 0 * embeddings.final.sum(), True)
            return output
        loss = partial(self._loss_of, batch)
        return cached_backward(
            self.encoder, batch.tokens, loss, backward, seed=seed, middle=middle, memory=self.step_memory
        )

    def _gradients_shared(self, last: bool) -> AbstractContextManager[None]:
        """Average gradients over ranks only once, with the last batch of a step."""
        strategy = self.trainer.strategy
        return strategy.block_backward_sync() if isinstance(strategy, ParallelStrategy) and not last else nullcontext()

    def _clip(self) -> Float[Tensor, ""]:
        parameters = [p for p in self.encoder.parameters() if p.grad is not None]
        limit = self.max_grad_norm if self.max_grad_norm is not None else torch.inf
        return torch.nn.utils.clip_grad_norm_(parameters, limit)

    def _log_step(self, losses: Mapping[str, Tensor], norm: Tensor) -> None:
        self.log_dict({f"train/loss/{name}": loss for name, loss in losses.items()}, sync_dist=True)
        self.log("train/grad_norm", norm)
        optimizer = self.optimizers()
        self.log("train/learning_rate", optimizer.param_groups[0]["lr"])  # type: ignore[union-attr]


def check_losses(losses: Mapping[Task, Loss]) -> None:
    """Refuse a loss that does not support its task.

    Raises:
        ConfigError: naming the loss, the task and the tasks that the loss supports.
    """
    grouped = ", or set in_batch=false (loss@label_loss=infonce_grouped)"
    for task, loss in losses.items():
        if task not in loss.tasks:
            raise ConfigError(
                f"{type(loss).__name__} cannot train {task}: it supports {', '.join(sorted(loss.tasks))}. "
                f"Choose a different loss{grouped if getattr(loss, 'in_batch', False) else ''}."
            )
