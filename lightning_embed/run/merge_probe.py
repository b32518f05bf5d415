"""The probe of a run: losses, gradients, activations and scores of models on data, for merge strategies."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor, nn

from lightning_embed.config.identity import dev_hash, probe_hash
from lightning_embed.config.values import build_options
from lightning_embed.data import EmbeddingDataset
from lightning_embed.data.probe_batches import ProbeBatches
from lightning_embed.data.probe_options import ProbeOptions
from lightning_embed.data.teacher import TeacherVectors
from lightning_embed.encoder import Encoder
from lightning_embed.encoder.chunk import cut
from lightning_embed.encoder.options import Dtype, EncoderOptions
from lightning_embed.encoder.precision import computing_in
from lightning_embed.errors import CheckpointError, ConfigError
from lightning_embed.evaluation import Evaluator, Local, Mteb
from lightning_embed.loss import Loss
from lightning_embed.loss.choice import loss_of
from lightning_embed.report.scores.summary import metric
from lightning_embed.run import build
from lightning_embed.run.service import Shares
from lightning_embed.training.gather import local
from lightning_embed.types import Batch, EvalSet

_FORWARD = 1 / 3  # of the work of a forward and a backward pass
_CHUNK_TOKENS = 512  # of which the inputs of all layers are in memory together


class EncoderProbe:
    """A `Probe` (see lightning_embed.merge) over an encoder.

    Our readings, where papers are silent: no dropout; batches of one dataset; the losses are those of training,
    including in-batch negatives. Gradients are computed in the dtype of training, scores in that of
    the evaluation; everything else in encoder.dtype, or in float32 if that is auto.

    Args:
        encoder: gives the architecture, pooling and prompts; its weights are replaced by those of the probed models.
        losses: loss of each task, and of each dataset with one of its own.
        batches: batches of the probe.
        evaluator: evaluator for dev scores.
        eval_sets: evaluation sets of the run; those of dev are used.
        metric: metric of `score`, for example dev/mean.
    """

    def __init__(
        self,
        encoder: Encoder,
        losses: Mapping[str, Loss],
        batches: ProbeBatches,
        evaluator: Evaluator,
        eval_sets: list[EvalSet],
        metric: str,
    ) -> None:
        self.encoder = encoder.eval()
        self.losses = losses
        self.batches = batches
        self.evaluator = _on_dev(evaluator)
        self.eval_sets = [eval_set for eval_set in eval_sets if eval_set.split == "dev"]
        self.metric = metric
        self.rows_seen = 0.0
        self._own = encoder.named_weights()
        self._names: dict[str, str] = {}

    @property
    def num_batches(self) -> int:
        """Number of batches in a pass over the data."""
        return len(self.batches)

    def task(self, batch: int) -> str:
        """Task of a batch."""
        return self.batches.task(batch)

    def loss(self, parameters: Mapping[str, Tensor], batch: int) -> float:
        """Loss of a model on a batch."""
        self._hold(parameters)
        with torch.no_grad():
            return float(self._loss(self._batch(batch, _FORWARD)))

    def loss_and_gradient(self, parameters: Mapping[str, Tensor], batch: int) -> tuple[float, dict[str, Tensor]]:
        """The loss, and its gradient by each parameter that has one."""
        own = self._hold(parameters)
        dtype = self.encoder.compute_dtype(training=True)
        with computing_in(self.encoder, Dtype(str(dtype).removeprefix("torch."))):
            self.encoder.zero_grad(set_to_none=True)
            value = self._loss(self._batch(batch, 1.0))
            value.backward()  # type: ignore[no-untyped-call]
            return float(value.detach()), {name: p.grad for name, p in own.items() if p.grad is not None}

    def activations(
        self, parameters: Mapping[str, Tensor], batch: int
    ) -> Iterator[tuple[str, Float[Tensor, "tokens inputs"]]]:
        """Inputs of each linear layer on a batch, without padding: (name of the layer's weight, inputs)."""
        tokens = self._batch(batch, _FORWARD).tokens.to(self.encoder.device)
        inputs: list[tuple[str, Tensor]] = []
        own = self._hold(parameters)
        with torch.no_grad(), _recorded_inputs(self.encoder, own, inputs):
            packed = self.encoder.packed  # otherwise one text at a time
            for texts in cut(tokens.lengths.tolist(), _CHUNK_TOKENS if packed else 1, packed):
                self.encoder.forward_chunk(tokens, torch.tensor(texts))
                yield from inputs
                inputs.clear()

    def score(self, parameters: Mapping[str, Tensor]) -> float:
        """The dev score `metric`, in points.

        Raises:
            ConfigError: no dev set has this metric.
        """
        self._hold(parameters)
        if isinstance(self.encoder.shares, Shares):
            self.encoder.shares.send_weights(self.encoder)
        with computing_in(self.encoder, Dtype(self.evaluator.dtype)):
            results = self.evaluator(self.encoder, self.eval_sets)
        points = metric({"probe": results}, "probe", self.metric)
        if points is None:
            raise ConfigError(f"{self.metric}: no dataset has a dev set to choose by. Add one, or give it a dev_share.")
        return points

    def _batch(self, number: int, cost: float) -> Batch:
        """A batch; adds `cost` per row to `rows_seen`."""
        batch = self.batches[number]
        self.rows_seen += cost * len(batch.query)
        return batch

    def _loss(self, batch: Batch) -> Float[Tensor, ""]:
        batch, loss = batch.to(self.encoder.device), loss_of(self.losses, batch.dataset, batch.task)
        return loss(local(batch, self.encoder(batch.tokens, middle=loss.needs_middle))).value

    def _hold(self, parameters: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
        """Load these weights into the encoder, without a copy on the CPU. Returns its parameters by the given names."""
        named = {name: self._own[self._name_of(name)] for name in parameters}
        for name, parameter in named.items():
            parameter.data = parameters[name].to(self.encoder.device)
        return named

    def _name_of(self, name: str) -> str:
        """The name of a parameter in the encoder, which may have more or fewer leading parts."""
        if name not in self._names:
            matches = [n for n in self._own if n == name] or [
                n for n in self._own if n.endswith(f".{name}") or name.endswith(f".{n}")
            ]
            if len(matches) != 1:
                raise CheckpointError(
                    f"The encoder of the probe has no parameter {name}. "
                    "Export the models with transformers' AutoModel first."
                )
            self._names[name] = matches[0]
        return self._names[name]


@contextmanager
def _recorded_inputs(
    encoder: nn.Module, own: Mapping[str, nn.Parameter], record: list[tuple[str, Tensor]]
) -> Iterator[None]:
    """Append the inputs of all linear layers to `record`."""
    names = {id(parameter): name for name, parameter in own.items()}

    def append(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module.weight, Tensor)
        record.append((names[id(module.weight)], inputs[0].flatten(0, -2).float()))

    linear = [
        m for m in encoder.modules() if isinstance(m, nn.Linear) and m.weight.requires_grad and id(m.weight) in names
    ]
    handles = [module.register_forward_pre_hook(append) for module in linear]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _on_dev(evaluator: Evaluator) -> Evaluator:
    """The evaluator on dev sets alone, because test scores may not choose."""
    if isinstance(evaluator, Mteb):
        local = evaluator.local
        return _on_dev(replace(local, dtype=evaluator.dtype) if isinstance(local, Local) else local)
    return replace(evaluator, splits=("dev",)) if isinstance(evaluator, Local) else evaluator


@dataclass(frozen=True)
class ProbeMaker:
    """Makes the probe of a run.

    Args:
        cfg: config of the run.
        data: datasets of the run.
        teacher: embeddings of the run's teacher; None: it has none, or is not asked yet.
    """

    cfg: DictConfig
    data: Mapping[str, EmbeddingDataset]
    teacher: TeacherVectors | None = None

    @cached_property
    def rows_hash(self) -> str:
        """Hash of the losses and the rows of the probe."""
        return probe_hash(self.cfg)

    @cached_property
    def scores_hash(self) -> str:
        """Hash of the dev sets and their evaluation."""
        return dev_hash(self.cfg)

    def __call__(self, model: Path) -> EncoderProbe:
        """The probe for models with the architecture of the one in a directory.

        Raises:
            ConfigError: no train rows.
        """
        cfg = self.cfg
        encoder = build.loader(cfg, self.data.values())(model)
        if "encoder" in cfg:
            run: EncoderOptions = build_options(EncoderOptions, cfg.encoder)
            encoder.options = replace(encoder.options, dtype=run.dtype, max_tokens=run.max_tokens)
        batches = self.batches(encoder)
        losses = build.losses(cfg, {name: rows.options for name, rows in batches.rows.items()})
        return EncoderProbe(encoder, losses, batches, build.evaluator(cfg), self._eval_sets, cfg.optimized_metric)

    def batches(self, encoder: Encoder) -> ProbeBatches:
        """The batches of the probe.

        Raises:
            ConfigError: no train rows, or shares of a task without datasets.
        """
        options: ProbeOptions = build_options(ProbeOptions, self.cfg.probe)
        return ProbeBatches(self.data, options, encoder, self.cfg.seed, self.teacher)

    @property
    def _eval_sets(self) -> list[EvalSet]:
        return [eval_set for dataset in self.data.values() for eval_set in dataset.eval_sets]
