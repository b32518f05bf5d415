"""Evaluation during training, with selection of the best step and early stopping."""

import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from lightning_embed.encoder import Encoder
from lightning_embed.encoder.options import Dtype
from lightning_embed.encoder.precision import computing_in
from lightning_embed.errors import ConfigError, nearest
from lightning_embed.evaluation import Evaluator, Part, Shared
from lightning_embed.report.scores.summary import MEAN, block
from lightning_embed.runtime import distributed, fault_injection, shards
from lightning_embed.storage.atomic import write_whole
from lightning_embed.storage.json_file import read_json
from lightning_embed.types import EvalSet, Results

logger = logging.getLogger(__name__)

CHOICE = "choice.json"


@dataclass
class _Choice:
    """The content of choice.json."""

    metric: str
    score: float | None
    best_step: int
    exported_step: int
    last_step: int


@dataclass
class Progress:
    """State of the evaluations of a training; part of its checkpoint, so that it belongs to the weights there.

    Args:
        score: best score, in points.
        step: step of the best score.
        mark: score of the last gain, to which `patience` compares.
        waited: number of evaluations since.
        measuring: seconds of all evaluations.
        last: seconds of the last evaluation.
        training: seconds of training, evaluations included and pauses between two processes excluded.
        weights: weights of the best step, if `keep_best`: on rank zero, or where sharded, on each rank its shards.
    """

    score: float = -math.inf
    step: int = 0
    mark: float = -math.inf
    waited: int = 0
    measuring: float = 0.0
    last: float = 0.0
    training: float = 0.0
    weights: dict[str, Tensor] = field(default_factory=dict)


class WhileTraining(Callback):
    """Evaluates the encoder every few steps and at the end; optionally keeps the best step and stops early.

    Evaluated are the dev sets of the expert's datasets and the tasks of mteb in `evaluation`. The run's own test sets
    are evaluated only at the end of the run. Logged, in points:

        while_training/<split>/<test>   each score
        while_training/<split>/<test>/<metric>  each further metric of `evaluation.metrics`
        while_training/dev/mean         the mean over tasks of dev scores
        while_training/<metric>         `metric`, if it is not dev/mean
        while_training/time_share       share of the training's time spent on evaluations, in [0, 1]

    Only dev scores choose. All ranks evaluate together: each distinct text is encoded once, by one rank. Without
    `keep_best` and `patience` the callback does not change the final weights; with `keep_best` they are those of the
    best step.

    With a `time_share` the number of evaluations depends on the clock, so that two runs of a command may choose
    different steps.

    Args:
        evaluation: evaluator of the encoder.
        every_n_steps: steps between two evaluations.
        time_share: limit for the share of the training's time, evaluations included, that evaluations take, in (0, 1];
            an evaluation that would exceed it, if it took as long as the last one, is skipped. None: no limit.
        metric: metric that chooses: dev/mean, or dev/<task>.
        keep_best: export the weights of the best step; a copy stays in memory and in the checkpoint.
        patience: number of consecutive evaluations without gain that stops the training; None: never.
        min_gain: points by which a score must exceed the last gain to count as a gain; only for `patience`.

    Raises:
        ConfigError: a number out of range.
    """

    def __init__(
        self,
        evaluation: Evaluator,
        every_n_steps: int = 20,
        time_share: float | None = None,
        metric: str = "dev/mean",
        keep_best: bool = False,
        patience: int | None = None,
        min_gain: float = 0.0,
    ) -> None:
        if every_n_steps < 1 or (patience is not None and patience < 1):
            raise ConfigError(
                f"while_training: every_n_steps and patience must be at least 1, got {every_n_steps} and {patience}."
            )
        if time_share is not None and not 0 < time_share <= 1:
            raise ConfigError(f"while_training.time_share must be in (0, 1], or null for no limit, got {time_share}.")
        if not min_gain >= 0:
            raise ConfigError(f"while_training.min_gain must be at least 0 points, got {min_gain}.")
        self.evaluation = evaluation
        self.every_n_steps = every_n_steps
        self.time_share = time_share
        self.metric = metric
        self.keep_best = keep_best
        self.patience = patience
        self.min_gain = min_gain
        self.progress = Progress()
        self._begun = time.monotonic()

    @property
    def chooses(self) -> bool:
        """Whether this callback may change the final weights of the training."""
        return self.keep_best or self.patience is not None

    @property
    def has_stopped(self) -> bool:
        """Whether `patience` is used up, which ends the training."""
        return self.patience is not None and self.progress.waited >= self.patience

    def parts(self, dev_sets: Sequence[EvalSet]) -> list[Part]:
        """The tests of an expert with these dev sets.

        Raises:
            ConfigError: `metric` is not evaluated, or is not a dev score.
        """
        self.evaluation.validate()
        with isolate_rng():  # mteb seeds all random generators when it creates a task
            parts = self.evaluation.parts(dev_sets)
        tasks = {part.task for part in parts if part.split == "dev"}
        known = {f"dev/{column}" for column in (MEAN, *tasks)} if tasks else set()
        if self.chooses and self.metric not in known:
            raise ConfigError(
                f"while_training.metric={self.metric}: only dev scores choose, and none of this name is measured here "
                f"(tasks of mteb are tests, except with split=dev). {nearest(self.metric, known)}"
            )
        return parts

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set the parts and the last step."""
        if stage == "fit":
            self._parts = self.parts(trainer.datamodule.dev_sets)  # type: ignore[attr-defined]
            datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
            self._last_step = datamodule.num_steps(trainer.max_steps, trainer.max_epochs)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; a resumed training that had already stopped stops again."""
        self._begun = time.monotonic() - self.progress.training
        self._stop(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Evaluate at every n-th step and at the last, if `time_share` allows."""
        step = trainer.global_step
        if not self._parts or (step % self.every_n_steps and step != self._last_step):
            return
        if not distributed.of_first(float(self._has_time())):
            if trainer.is_global_zero:
                logger.info("step %d is not measured: time_share=%s is used up.", step, self.time_share)
            return
        begun = time.monotonic()
        results = self._measure(pl_module)
        progress = self.progress
        progress.last = time.monotonic() - begun
        progress.measuring += progress.last
        numbers = self._numbers(results)
        is_best = self.chooses and self._choose(trainer, pl_module, numbers[self.metric])
        self._log(trainer, numbers, is_best)
        self._stop(trainer)

    def _has_time(self) -> bool:
        last = self.progress.last
        elapsed, measuring = time.monotonic() - self._begun, self.progress.measuring
        return self.time_share is None or measuring + last <= self.time_share * (elapsed + last)

    def _measure(self, pl_module: Any) -> Results:
        pl_module.check_finite()
        encoder = Shared(pl_module.encoder, pl_module.device)
        results: Results = {}
        fault_injection.point("measuring")
        with isolate_rng(), computing_in(pl_module.encoder, Dtype(self.evaluation.dtype)):
            for part in self._parts:
                results.setdefault(part.split, {})[part.name] = part.run(encoder)
        return results

    def _numbers(self, results: Results) -> dict[str, float]:
        """Every score, the mean and `metric`, which takes precedence over a dataset with the name of a task."""
        tests = {
            f"{split}/{test}": score["score"] for split, scores in results.items() for test, score in scores.items()
        }
        tests |= {
            f"{split}/{test}/{word}": points
            for split, scores in results.items()
            for test, score in scores.items()
            for word, points in score.get("more", {}).items()
        }
        rows = dev.rows[""] if (dev := block({"": results}, "dev")) else {}
        means = {key: rows.get(key.removeprefix("dev/")) for key in (f"dev/{MEAN}", self.metric)}
        known = {key: value for key, value in means.items() if value is not None}
        return known | tests | known

    def _choose(self, trainer: Trainer, pl_module: Any, score: float) -> bool:
        """Whether this step is the best so far, by the score of rank zero, so that all ranks agree despite rounding."""
        progress, score = self.progress, distributed.of_first(score)
        if score > progress.mark + self.min_gain:
            progress.mark, progress.waited = score, 0
        else:
            progress.waited += 1
        if not score > progress.score:
            return False
        progress.score, progress.step = score, trainer.global_step
        if self.keep_best:
            kept = shards.kept_here(_trained(pl_module.encoder))
            progress.weights = {name: parameter.detach().to("cpu", copy=True) for name, parameter in kept.items()}
        return True

    def _log(self, trainer: Trainer, numbers: dict[str, float], is_best: bool) -> None:
        if not trainer.is_global_zero:
            return
        scores = ", ".join(f"{name} {value:.2f}" for name, value in numbers.items())
        logger.info("step %d: %s%s", trainer.global_step, scores, ", the best so far" if is_best else "")
        share = self.progress.measuring / (time.monotonic() - self._begun)
        logged = {f"while_training/{name}": value for name, value in {**numbers, "time_share": share}.items()}
        for each in trainer.loggers:  # pl_module.log would repeat the numbers at every step until the next evaluation
            each.log_metrics(logged, trainer.global_step)

    def _stop(self, trainer: Trainer) -> None:
        if self.has_stopped:
            trainer.should_stop = True

    def finish(self, encoder: Encoder, last_step: int, record: Path) -> None:
        """Load the best weights into the encoder and record the choice; after the fit, on every rank.

        Args:
            encoder: encoder of the training.
            last_step: last step of the training.
            record: file that rank zero writes.
        """
        progress = self.progress
        if not self.chooses:
            return
        own = dict(_trained(encoder))
        for name, weight in progress.weights.items():
            own[name].data.copy_(weight)
        if distributed.rank() != 0:
            return
        exported = progress.step if progress.weights else last_step
        score = progress.score if math.isfinite(progress.score) else None  # no measurement gave a number
        chosen = {"metric": self.metric, "score": score, "best_step": progress.step}
        write_whole(record, json.dumps({**chosen, "exported_step": exported, "last_step": last_step}) + "\n")
        logger.info(
            "trained for %d steps; best by %s: step %d (%.2f); exported: step %d.",
            last_step, self.metric, progress.step, progress.score, exported,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """The state for the checkpoint."""
        return {**vars(self.progress), "training": time.monotonic() - self._begun}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.progress = Progress(**state_dict)
        self.progress.weights = shards.kept_here(self.progress.weights.items())


def read_choice(checkpoints: Path) -> dict[str, Any] | None:
    """The choice in the training with this folder of checkpoints; None: no choice was made.

    Raises:
        CheckpointError: the file is broken.
    """
    file = checkpoints / CHOICE
    if not file.exists():
        return None
    remedy = (
        f"Delete it and the folder of {checkpoints.name} in models/: the same command trains {checkpoints.name} again."
    )
    choice: dict[str, Any] = read_json(file, _Choice, remedy)
    return choice


def _trained(encoder: Encoder) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, parameter) for name, parameter in encoder.named_parameters() if parameter.requires_grad]
