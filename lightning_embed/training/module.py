"""`EmbeddingModule`: encode -> gather -> loss, under manual optimisation."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.utilities.model_helpers import _restricted_classmethod
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_embed.encoder import Encoder
from lightning_embed.encoder.options import FLOAT16_IN_TRAINING, Dtype
from lightning_embed.encoder.parameter_groups import ParameterGroups, set_rates
from lightning_embed.errors import ConfigError
from lightning_embed.loss import Loss
from lightning_embed.loss.choice import check_losses, loss_of
from lightning_embed.runtime import distributed, fault_injection, shards
from lightning_embed.runtime.seeding import derive_seed
from lightning_embed.storage import checkpoint_file
from lightning_embed.training import hyperparameters
from lightning_embed.training.cached_step import cached_backward
from lightning_embed.training.divergence import Measured
from lightning_embed.training.finite_checks import FiniteChecks
from lightning_embed.training.gather import gathered, local
from lightning_embed.training.inference import Inference
from lightning_embed.training.learned import LearnedNumbers
from lightning_embed.training.lr_schedule import step_schedulers
from lightning_embed.training.sharded import export
from lightning_embed.training.trainer_options import check_trainer
from lightning_embed.types import Batch, Embeddings, LossOutput, StepMode

MakeOptimizer = Callable[[Iterable[Any]], Optimizer]
MakeScheduler = Callable[[Optimizer, int], LRScheduler]
Words = Mapping[str, Any]

_COMPUTE_DTYPE = "compute_dtype"  # key of a checkpoint


class EmbeddingModule(FiniteChecks, Inference):
    """Trains an encoder on steps of single-task batches, each task with its own loss.

    The module steps the optimiser itself: a step may hold several batches (accumulation, mixed steps), whose weighted
    mean is its loss, and gradients are clipped once per step. Dropout is a pure function of (seed, step, rank, batch,
    chunk), so a resumed run repeats the undisturbed one. A training that diverges is stopped: a loss, a gradient norm
    or a weight with NaN or infinity is in no checkpoint and in no model.

    Its hyperparameters are words and options, by which `load_from_checkpoint` builds it again: the four parts may be
    given as such. A subclass overrides `compute_loss`, `configure_optimizers` or any hook of Lightning (docs/lightning.md).

    Args:
        encoder: the model.
        losses: the loss of each task of the data; or of a dataset, by its name, which comes before that of its task.
        optimizer: makes the optimiser of the trainable parameters.
        scheduler: makes the learning-rate scheduler from optimiser and number of steps; None: constant rate.
        lr: learning rate of all parameters, in place of the optimiser's own; set by Lightning's `Tuner.lr_find`.
        parameter_groups: what the optimiser does differently for some parameters; None: nothing.
        max_grad_norm: clip the gradient to this L2 norm; None: no clipping.
        seed: seed of dropout.
        step: execution of a step, see `StepMode`; the gradient is the same.
        step_memory: bytes of activations that a partial step keeps at most.

    Raises:
        ConfigError: a loss does not support its task, max_grad_norm or lr is not positive, or dtype=float16; at the start of a
            training: an option or a callback of the trainer that the module does itself.
        TrainingError: while it trains: it diverged.
    """

    def __init__(
        self,
        encoder: Encoder | Words,
        losses: Mapping[str, Loss] | Words,
        optimizer: MakeOptimizer | Words,
        scheduler: MakeScheduler | Words | None = None,
        *,
        lr: float | None = None,
        parameter_groups: ParameterGroups | Words | None = None,
        max_grad_norm: float | None = 1.0,
        seed: int = 0,
        step: StepMode | str = StepMode.plain,
        step_memory: int = 0,
    ) -> None:
        super().__init__()
        for name, value in {"max_grad_norm": max_grad_norm, "lr": lr}.items():
            if value is not None and not value > 0:
                raise ConfigError(f"{name} must be positive or null, got {value}.")
        self.automatic_optimization = False
        self.losses = hyperparameters.built_losses(losses)
        check_losses(self.losses)
        self.encoder = hyperparameters.built_encoder(encoder)
        self.learned = LearnedNumbers(self.losses)
        if self.encoder.options.dtype is Dtype.float16:
            raise ConfigError(FLOAT16_IN_TRAINING)
        self.make_optimizer: MakeOptimizer = hyperparameters.built_optimizer(optimizer)
        self.make_scheduler: MakeScheduler | None = hyperparameters.built_scheduler(scheduler)
        self.parameter_groups = hyperparameters.built_groups(parameter_groups)
        self._shown: Tensor | None = None
        self.lr = lr
        self.max_grad_norm = max_grad_norm
        self.seed = seed
        self.step = StepMode(step)
        self.step_memory = step_memory if self.step is StepMode.partial else 0
        numbers = {
            "lr": lr,
            "max_grad_norm": max_grad_norm,
            "seed": seed,
            "step": str(self.step),
            "step_memory": step_memory,
        }
        super().save_hyperparameters(self._parts() | numbers)

    def _parts(self) -> dict[str, Any]:
        """The arguments that are no numbers, as words."""
        return {
            "encoder": hyperparameters.encoder_words(self.encoder),
            "losses": hyperparameters.loss_words(self.losses),
            "optimizer": hyperparameters.function_words(self.make_optimizer),
            "scheduler": hyperparameters.function_words(self.make_scheduler),
            "parameter_groups": asdict(self.parameter_groups),
        }

    def save_hyperparameters(self, *args: Any, ignore: Any = None, frame: Any = None, logger: bool = True) -> None:
        """As in Lightning, called in a subclass; the parts of this class are kept as words."""
        parts, others = self._parts(), [ignore] if isinstance(ignore, str) else list(ignore or ())
        frame = frame or inspect.currentframe().f_back  # type: ignore[union-attr]
        super().save_hyperparameters(*args, ignore=[*others, *parts], frame=frame, logger=logger)
        super().save_hyperparameters(parts, logger=logger)

    @_restricted_classmethod  # as in Lightning: called on a module, it would leave that as it is
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """The module of a checkpoint; arguments of the class by name replace the checkpoint's words.

        A checkpoint is read as tensors, numbers and texts, whoever wrote it, so that none of it can run code.

        Raises:
            CheckpointError: the file is not a whole checkpoint, has objects of other classes, or names a base model that
                is not there.
            ConfigError: it names a loss that is not imported, or code to run.
        """
        if isinstance(checkpoint_path, (str, Path)) and Path(checkpoint_path).exists():
            checkpoint_file.read(Path(checkpoint_path), "Give the path of a checkpoint of Lightning.", mmap=True)
        return super().load_from_checkpoint(checkpoint_path, *args, **{**kwargs, "weights_only": True})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save only weights that are finite, with the hyperparameters and the dtype of computation as they are now."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[_COMPUTE_DTYPE] = str(self.encoder.compute_dtype(training=True)).removeprefix("torch.")
        key = self.CHECKPOINT_HYPER_PARAMS_KEY
        checkpoint[key] = {**checkpoint.get(key, {}), **self._parts()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights that are not finite; go on in the dtype that the training began in, on whatever machine."""
        super().on_load_checkpoint(checkpoint)
        if began := checkpoint.get(_COMPUTE_DTYPE):  # earlier versions did not save it
            self.encoder.began_in = Dtype(began)

    def export(self, target: Path, weights: Mapping[str, Tensor] | None = None) -> None:
        """Publish the encoder as a model directory, written by rank zero; all ranks call it, in or after a training.

        Args:
            target: the directory; an existing one is kept.
            weights: parameters to write in place of the encoder's, by name.
        """
        export(self.trainer.strategy, self.encoder, target, weights or {})

    def configure_callbacks(self) -> list[Any]:
        """No callback; the first hook of a training, in which options of the trainer can be refused."""
        if self.trainer.training or self.trainer.state.fn == "fit":
            check_trainer(self.trainer)
        return []

    def configure_optimizers(self) -> Any:
        """The optimiser of the trainable parameters, and its schedule over all steps of the trainer."""
        matrices = getattr(getattr(self.make_optimizer, "func", self.make_optimizer), "takes_matrices", False)
        groups = self.parameter_groups.of(self, matrices=matrices, rates=self.learned.rates("learned"))
        optimizer = self.make_optimizer(groups)
        set_rates(optimizer.param_groups, self.lr)
        if self.make_scheduler is None:
            return optimizer
        schedule = {"scheduler": self.make_scheduler(optimizer, self.num_steps()), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def num_steps(self) -> int:
        """Optimiser steps of the training."""
        trainer: Any = self.trainer
        if trainer.datamodule is None:
            return int(trainer.estimated_stepping_batches)
        # This would build the loaders before the step to resume from is known.
        return int(trainer.datamodule.num_steps(trainer.max_steps, trainer.max_epochs))

    def training_step(self, step: tuple[Batch, ...]) -> dict[str, Any]:
        """One optimiser step. Returns its detached loss, and the detached `losses` of its batches, by dataset."""
        optimizer = self._optimizer()
        seed = derive_seed(self.seed, self.trainer.global_step, distributed.rank())
        losses: dict[str, Tensor] = {}
        weights: dict[str, float] = {}
        for number, batch in enumerate(step):
            output = self._backward(batch, derive_seed(seed, number), last=number == len(step) - 1)
            losses[batch.dataset] = losses.get(batch.dataset, 0) + output.value.detach() * batch.weight
            weights[batch.dataset] = weights.get(batch.dataset, 0.0) + batch.weight
            self.log_dict({f"train/{key}/{batch.dataset}": value for key, value in output.logs.items()})
        norm = self._clip()
        self.guard.note(Measured(self.trainer.global_step + 1, losses, norm, self._rate()))
        fault_injection.point("before_step")
        optimizer.step()
        self.learned.clamp()
        fault_injection.point("after_step")
        optimizer.zero_grad()
        mean = sum(losses.values()) / sum(weights.values())
        self.log("train/loss", mean, sync_dist=True)
        self._show(torch.as_tensor(mean))
        losses = {name: loss / weights[name] for name, loss in losses.items()}
        self._log_step(losses, norm)
        step_schedulers(self.trainer, "step")
        return {"loss": mean, "losses": losses}

    def on_train_epoch_end(self) -> None:
        """Step the schedulers of epochs, which Lightning leaves to the module."""
        step_schedulers(self.trainer, "epoch")

    def _optimizer(self) -> LightningOptimizer:
        optimizer = self.optimizers()
        if isinstance(optimizer, list):
            raise ConfigError(
                f"configure_optimizers: expected one optimiser, got {len(optimizer)}. Give one with several parameter groups."
            )
        return optimizer

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

    def loss(self, batch: Batch, seed: int | None = None) -> LossOutput:
        """Encode the texts of a batch and apply its loss; its mean over ranks is the global loss."""
        middle = self._loss_of(batch).needs_middle
        return self.compute_loss(batch, self.encoder(batch.tokens, seed=seed, middle=middle))

    def compute_loss(self, batch: Batch, embeddings: Embeddings) -> LossOutput:
        """The loss of a batch, with its gradient, from the embeddings of its texts: of training and of dev rows.

        A subclass may add a term to `value`, and numbers to `logs`; a step in chunks (`step=cached`) calls it once for
        all chunks.
        """
        loss = self._loss_of(batch)
        given = gathered(batch, embeddings) if loss.cross_device else local(batch, embeddings)
        return loss(replace(given, learned=self.learned.of(batch.dataset, batch.task)))

    def _loss_of(self, batch: Batch) -> Loss:
        return loss_of(self.losses, batch.dataset, batch.task)

    def _backward(self, batch: Batch, seed: int, last: bool) -> LossOutput:
        """Add the gradient of a batch; with the last batch of a step, average it over ranks."""

        def backward(value: Float[Tensor, ""], last_chunk: bool) -> None:
            with self._gradients_shared(last=last and last_chunk):
                self.manual_backward(self.learned.held_in(value * batch.weight))

        return self.run_backward(batch, backward, seed)

    def run_backward(
        self, batch: Batch, backward: Callable[[Float[Tensor, ""], bool], None], seed: int | None = None
    ) -> LossOutput:
        """Run a batch as a training step does; `backward` takes each scalar, and whether it is the last one."""
        middle = self._loss_of(batch).needs_middle
        if self.step is StepMode.plain:
            embeddings = self.encoder(batch.tokens, seed=seed, middle=middle)
            output = self.compute_loss(batch, embeddings)
            # A loss of the middle layer alone gives the layers above no gradient: DDP would wait for it for ever.
            backward(output.value + 0 * embeddings.final.sum(), True)
            return output
        loss = partial(self.compute_loss, batch)
        learned = list(self.learned.of(batch.dataset, batch.task).values())
        return cached_backward(
            self.encoder, batch.tokens, loss, backward, learned, seed=seed, middle=middle, memory=self.step_memory
        )

    def _gradients_shared(self, last: bool) -> AbstractContextManager[None]:
        """Average gradients over ranks only once, with the last batch of a step."""
        strategy = self.trainer.strategy
        return strategy.block_backward_sync() if isinstance(strategy, ParallelStrategy) and not last else nullcontext()

    def _clip(self) -> Float[Tensor, ""]:
        numbers = set(map(id, self.learned.parameters()))  # have a rate and bounds of their own; under FSDP not divided
        parameters = [p for p in self.parameters() if p.grad is not None and id(p) not in numbers]
        limit = self.max_grad_norm if self.max_grad_norm is not None else torch.inf
        return shards.whole(torch.nn.utils.clip_grad_norm_(parameters, limit))

    def _log_step(self, losses: Mapping[str, Tensor], norm: Tensor) -> None:
        self.log_dict({f"train/loss/{name}": loss for name, loss in losses.items()}, sync_dist=True)
        self.log("train/grad_norm", norm)
        # as a tensor of the CPU: Lightning would copy a number to a GPU and wait for it
        self.log("train/learning_rate", torch.as_tensor(self._rate()))

    def _rate(self) -> float:
        """The largest learning rate of the encoder's parameters."""
        others = set(map(id, self.learned.parameters()))
        return max(group["lr"] for group in self._optimizer().param_groups if id(group["params"][0]) not in others)  # type: ignore[no-any-return]

    def _show(self, loss: Float[Tensor, ""]) -> None:
        """The loss beside the progress bar, which reads it at every step; from a GPU it is read where steps are logged."""
        every = 1 if loss.device.type == "cpu" else max(1, self.trainer.log_every_n_steps)  # type: ignore[attr-defined]
        if self._shown is None or self.trainer.global_step % every == 0:
            self._shown = loss.cpu()
        self.log("loss", self._shown, prog_bar=True, logger=False)
