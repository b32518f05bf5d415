"""The probe of a run: what merge strategies see of data, through an encoder and the losses of the tasks."""

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
from lightning_embed.data.options import ProbeOptions
from lightning_embed.data.probe_batches import ProbeBatches
from lightning_embed.encoder import Encoder
from lightning_embed.encoder.chunk import cut
from lightning_embed.encoder.options import Dtype, EncoderOptions
from lightning_embed.encoder.precision import compute_dtype
from lightning_embed.errors import CheckpointError, ConfigError
from lightning_embed.evaluation import Evaluator, Local, Mteb
from lightning_embed.loss import Loss
from lightning_embed.report.scores.summary import metric
from lightning_embed.run import build
from lightning_embed.training.gather import local
from lightning_embed.types import Batch, EvalSet, Task

_FORWARD = 1 / 3  # of the work of a forward and a backward pass
_CHUNK_TOKENS = 512  # of which the inputs of all layers are in memory together


class EncoderProbe:
    """A `Probe` (see lightning_embed.merge) over an encoder.

    Our readings, where papers are silent: no dropout; batches of one dataset; the losses are those of training, other
    rows of the batch as negatives included. Gradients are computed in the dtype of training; all else too where
    encoder.dtype names one, and in float32 where it is auto.

    Args:
        encoder: its architecture, pooling and prompts are used; its weights are replaced by whatever is looked at.
        losses: of each task.
        batches: the data.
        evaluator: measures dev scores.
        eval_sets: of the run; those of dev are used.
        metric: the number that `score` gives, for example dev/mean.
    """

    def __init__(
        self,
        encoder: Encoder,
        losses: Mapping[Task, Loss],
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
        self._own = dict(encoder.backbone.named_parameters())
        self._names: dict[str, str] = {}

    @property
    def num_batches(self) -> int:
        """Batches of a pass over the data."""
        return len(self.batches)

    def task(self, batch: int) -> str:
        """What a batch trains."""
        return self.batches.task(batch)

    def loss(self, parameters: Mapping[str, Tensor], batch: int) -> float:
        """Loss of a model on a batch."""
        self._hold(parameters)
        with torch.no_grad():
            return float(self._loss(self._looked_at(batch, _FORWARD)))

    def loss_and_gradient(self, parameters: Mapping[str, Tensor], batch: int) -> tuple[float, dict[str, Tensor]]:
        """The loss, and its gradient by each parameter that has one."""
        own = self._hold(parameters)
        with self._computing_as_in_training():
            self.encoder.zero_grad(set_to_none=True)
            value = self._loss(self._looked_at(batch, 1.0))
            value.backward()  # type: ignore[no-untyped-call]
            return float(value.detach()), {name: p.grad for name, p in own.items() if p.grad is not None}

    def activations(
        self, parameters: Mapping[str, Tensor], batch: int
    ) -> Iterator[tuple[str, Float[Tensor, "tokens inputs"]]]:
        """What a batch feeds to each linear layer, padding left out: (name of the layer's weight, its inputs)."""
        tokens = self._looked_at(batch, _FORWARD).tokens.to(self.encoder.device)
        seen: list[tuple[str, Tensor]] = []
        own = self._hold(parameters)
        with torch.no_grad(), _listening(self.encoder.backbone, own, seen):
            packed = self.encoder.packed  # elsewhere one text at a time
            for texts in cut(tokens.lengths.tolist(), _CHUNK_TOKENS if packed else 1, packed):
                self.encoder.forward_chunk(tokens, torch.tensor(texts))
                yield from seen
                seen.clear()

    def score(self, parameters: Mapping[str, Tensor]) -> float:
        """The dev score that a sweep would maximise, in points.

        Raises:
            ConfigError: nothing was measured on dev.
        """
        self._hold(parameters)
        found = metric({"probe": self.evaluator(self.encoder, self.eval_sets)}, "probe", self.metric)
        if found is None:
            raise ConfigError(f"{self.metric}: no dataset has a dev set to choose by. Add one, or give it a dev_share.")
        return found

    def _looked_at(self, number: int, cost: float) -> Batch:
        batch = self.batches[number]
        self.rows_seen += cost * len(batch.query)
        return batch

    def _loss(self, batch: Batch) -> Float[Tensor, ""]:
        batch, loss = batch.to(self.encoder.device), self.losses[batch.task]
        return loss(local(batch, self.encoder(batch.tokens, middle=loss.needs_middle))).value

    def _hold(self, parameters: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
        """Give the encoder these weights, without a copy where it computes on the CPU. Returns its parameters by their names."""
        named = {name: self._own[self._name_of(name)] for name in parameters}
        for name, parameter in named.items():
            parameter.data = parameters[name].to(self.encoder.device)
        return named

    def _name_of(self, name: str) -> str:
        """What the backbone calls a parameter: models may have agreed on names with more or fewer first parts."""
        if name not in self._names:
            found = [n for n in self._own if n == name] or [
                n for n in self._own if n.endswith(f".{name}") or name.endswith(f".{n}")
            ]
            if len(found) != 1:
                raise CheckpointError(
                    f"The encoder of the probe has no parameter {name}. Export the models with transformers' AutoModel first."
                )
            self._names[name] = found[0]
        return self._names[name]

    @contextmanager
    def _computing_as_in_training(self) -> Iterator[None]:
        options = self.encoder.options
        dtype = compute_dtype(options.dtype, self.encoder.device, training=True)
        self.encoder.options = replace(options, dtype=Dtype(str(dtype).removeprefix("torch.")))
        try:
            yield
        finally:
            self.encoder.options = options


@contextmanager
def _listening(backbone: nn.Module, own: Mapping[str, nn.Parameter], seen: list[tuple[str, Tensor]]) -> Iterator[None]:
    """Note the inputs of all linear layers."""
    names = {id(parameter): name for name, parameter in own.items()}

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module.weight, Tensor)
        seen.append((names[id(module.weight)], inputs[0].flatten(0, -2).float()))

    linear = [
        m for m in backbone.modules() if isinstance(m, nn.Linear) and m.weight.requires_grad and id(m.weight) in names
    ]
    handles = [module.register_forward_pre_hook(note) for module in linear]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _on_dev(evaluator: Evaluator) -> Evaluator:
    """The same, on dev alone: nothing is chosen by a test."""
    if isinstance(evaluator, Mteb):
        return _on_dev(evaluator.local)
    return replace(evaluator, splits=("dev",)) if isinstance(evaluator, Local) else evaluator


@dataclass(frozen=True)
class ProbeMaker:
    """Makes the probe of a run.

    Args:
        cfg: of the run.
        data: its datasets.
    """

    cfg: DictConfig
    data: Mapping[str, EmbeddingDataset]

    @cached_property
    def rows_hash(self) -> str:
        """Changes with the losses and the rows of the probe."""
        return probe_hash(self.cfg)

    @cached_property
    def scores_hash(self) -> str:
        """Changes with the dev sets and how they are measured."""
        return dev_hash(self.cfg)

    def __call__(self, model: Path) -> EncoderProbe:
        """The probe of models with the architecture of the one in a directory.

        Raises:
            ConfigError: no train rows to look at.
        """
        cfg = self.cfg
        encoder = build.loader(cfg, self.data.values())(model)
        if "encoder" in cfg:
            run: EncoderOptions = build_options(EncoderOptions, cfg.encoder)
            encoder.options = replace(encoder.options, dtype=run.dtype, max_tokens=run.max_tokens)
        batches = self.batches(encoder)
        losses = build.losses(cfg, {rows.options.task for rows in batches.rows.values()})
        return EncoderProbe(encoder, losses, batches, build.evaluator(cfg), self._eval_sets, cfg.optimized_metric)

    def batches(self, encoder: Encoder) -> ProbeBatches:
        """What will be looked at.

        Raises:
            ConfigError: no train rows to look at, or shares of what nobody trains.
        """
        options: ProbeOptions = build_options(ProbeOptions, self.cfg.probe)
        return ProbeBatches(self.data, options, encoder, self.cfg.seed)

    @property
    def _eval_sets(self) -> list[EvalSet]:
        return [eval_set for dataset in self.data.values() for eval_set in dataset.eval_sets]
