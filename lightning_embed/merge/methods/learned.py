"""Combinations with learnt coefficients: gradient descent on the loss of a probe."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge.blocks.gram import gram_matrices
from lightning_embed.merge.contract import Model, Plan, Probe, Reporter
from lightning_embed.merge.layer_rules import layer_scales
from lightning_embed.merge.methods.granularity import TensorGranularity, groups, spread, summed
from lightning_embed.merge.methods.linear import Combination, combined, inner_products

PATH_POINTS = 100
"""Largest number of points of the path of a search in its plan."""
MOST_NORM = 100
"""Norm of a combined delta, in norms of all sources' deltas together, above which a search has diverged."""
BALANCE_BATCHES = 8
"""Batches of each task for the scale of its loss."""

Numbers = Mapping[str, Float[Tensor, "..."]]
"""The learnt numbers: name -> one number per group, or per group and source."""


@dataclass(frozen=True, kw_only=True)
class Learned(Combination):
    """A combination whose coefficients are functions of a few numbers per group of parameters, learnt on the probe.

        at step t:    loss(base + sum_i c_i delta_i; batch t) + penalty(numbers),      c = coefficients(numbers)

    Adam changes the numbers, never the sources. A combination is linear in its coefficients, so the derivative of the
    loss with respect to c_i is <gradient, delta_i>. A step therefore costs a training step and two passes over the
    sources, without a graph through N copies of the weights. The search applies the rules of `layers`. The result is
    that of the last step. The plan has the coefficients, the numbers, and the path: loss (balanced with `balance`),
    norm of the combined delta and coefficients of about 100 points, both without `layers`. If groups have their own
    coefficients, the path has the common coefficients of the nearest point.

    Args:
        granularity: model, layer or tensor: the groups of parameters with their own numbers.
        learning_rate: of Adam, above 0.
        steps: batches of the probe; at least 1.
        balance: divide the loss of each task by its mean at the start (over 8 batches), so that tasks whose losses are
            larger (CoSENT's are ten times InfoNCE's in our runs) do not dominate.

    Raises:
        ConfigError: a learning rate or a number of steps that is not positive; during the search, a loss that is not
            finite, or cannot be balanced, or a combined delta of more than a hundred times the norm of all sources'
            deltas together.
    """

    needs_base = True
    needs_probe = True

    granularity: TensorGranularity = TensorGranularity.model
    learning_rate: float = 1e-3
    steps: int = 500
    balance: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise ConfigError(f"merge={self.word}: learning_rate={self.learning_rate} must be above 0.")
        if self.steps < 1:
            raise ConfigError(f"merge={self.word}: steps={self.steps} must be at least 1.")

    @abstractmethod
    def start(self, num_groups: int, num_sources: int) -> dict[str, Float[Tensor, "..."]]:
        """The numbers at the first step, in float64."""

    @abstractmethod
    def coefficients(
        self, numbers: Numbers, grams: Float[Tensor, "groups sources sources"]
    ) -> Float[Tensor, "groups sources"]:
        """The coefficients, as differentiable functions of the numbers and of the inner products of the deltas."""

    def penalty(self, numbers: Numbers) -> Float[Tensor, ""]:  # noqa: ARG002
        """A term that is added to the loss."""
        return torch.zeros((), dtype=torch.float64)

    def prepare(self, sources: Sequence[Model], base: Model | None, probe: Probe | None, reporter: Reporter) -> Plan:
        """The result of the search."""
        assert base is not None
        assert probe is not None
        search = _Search(self, sources, base, probe)
        path = []
        for step in range(self.steps):
            loss = search.evaluate(step)
            nearest = search.nearest()
            shares = {f"coefficient/{s.name}": share for s, share in zip(sources, nearest, strict=True)}
            reporter.log({"loss": loss, "norm": search.norm} | search.means() | shares, step)
            if step % math.ceil(self.steps / PATH_POINTS) == 0:
                path.append({"step": step, "loss": loss, "norm": search.norm, "coefficients": nearest})
            search.move()
        found = search.coefficients.tolist()
        coefficients = spread(dict(zip(search.groups, found, strict=True)), search.group_of)
        numbers = {key: dict(zip(search.groups, n.tolist(), strict=True)) for key, n in search.numbers.items()}
        return {"coefficients": coefficients, **numbers, "path": path}


class _Search:
    """The state of a search: the numbers, their model, and Adam."""

    def __init__(self, strategy: Learned, sources: Sequence[Model], base: Model, probe: Probe) -> None:
        names = sources[0].parameters
        self.strategy, self.sources, self.base, self.probe = strategy, sources, base, probe
        self.group_of = groups(names, strategy.granularity)
        self.scales = layer_scales(strategy.layers or [], names)
        grams = summed(gram_matrices(sources, base), self.group_of)
        self.groups, self.grams = list(grams), torch.stack(list(grams.values()))
        self.numbers = strategy.start(len(self.groups), len(sources))
        for number in self.numbers.values():
            number.requires_grad_()
        self.optimizer = torch.optim.Adam(self.numbers.values(), lr=strategy.learning_rate)
        self.coefficients = strategy.coefficients(self.numbers, self.grams)
        self.parameters: dict[str, Tensor] | None = None  # of the merged model, overwritten at each step
        self.scale_of_task = self._scale_of_task() if strategy.balance else {}

    def evaluate(self, step: int) -> float:
        """The loss at the current numbers; the gradient of loss and penalty is accumulated in the numbers."""
        self.parameters = combined(self.sources, self.base, self._scaled(), self.parameters)
        loss, gradient = self.probe.loss_and_gradient(self.parameters, step)
        task_scale = self.scale_of_task.get(self.probe.task(step), 1.0)
        loss /= task_scale
        if not math.isfinite(loss):
            raise ConfigError(
                f"merge={self.strategy.word}: the loss at step {step} is {loss}. "
                f"Give a smaller learning_rate than {self.strategy.learning_rate}."
            )
        slopes = inner_products(gradient, self.sources, self.base)
        by_group = summed(
            {name: self.scales[name] / task_scale * slope for name, slope in slopes.items()}, self.group_of
        )
        self.optimizer.zero_grad()
        # linear in the coefficients, with the same gradient as the loss
        line = (self.coefficients * torch.stack([by_group[group] for group in self.groups])).sum()
        (line + self.strategy.penalty(self.numbers)).backward()  # type: ignore[no-untyped-call]
        return loss

    def _scale_of_task(self) -> dict[str, float]:
        """The mean loss of each task at the start."""
        self.parameters = combined(self.sources, self.base, self._scaled())
        found: dict[str, list[float]] = {}
        for batch in range(self.probe.num_batches):
            losses = found.setdefault(self.probe.task(batch), [])
            if len(losses) < BALANCE_BATCHES:
                losses.append(self.probe.loss(self.parameters, batch))
        means = {task: sum(losses) / len(losses) for task, losses in found.items()}
        for task, mean in means.items():
            if not (0 < mean < math.inf):
                raise ConfigError(
                    f"merge={self.strategy.word}: the loss of {task} is {mean} at the start and cannot be balanced. "
                    "Give balance=false."
                )
        return means

    def move(self) -> None:
        """One step of Adam.

        Raises:
            ConfigError: it leads far from all sources, where a loss may still be finite.
        """
        self.optimizer.step()
        self.coefficients = self.strategy.coefficients(self.numbers, self.grams)
        most = MOST_NORM * float(self.grams.diagonal(dim1=-2, dim2=-1).sum(0).sqrt().sum())
        if not (self.norm <= most and bool(self.coefficients.isfinite().all())):
            raise ConfigError(
                f"merge={self.strategy.word}: the search diverged: the combined delta has the norm {self.norm:.3g}, expected "
                f"at most {most:.3g}, {MOST_NORM} times that of the sources. "
                f"Give a smaller learning_rate than {self.strategy.learning_rate}."
            )

    @property
    def norm(self) -> float:
        """The norm of the combined delta."""
        square = float((self.coefficients.detach() * self._products).sum())
        return math.sqrt(0.0 if square < 0 else square)  # below 0 by rounding; NaN stays NaN

    def means(self) -> dict[str, float]:
        """The numbers, averaged over groups; numbers per source are named after the source."""
        found: dict[str, float] = {}
        for key, number in self.numbers.items():
            mean = number.detach().mean(0)
            if mean.dim():
                found |= {
                    f"{key}/{source.name}": float(value) for source, value in zip(self.sources, mean, strict=True)
                }
            else:
                found[key] = float(mean)
        return found

    def nearest(self) -> list[float]:
        """The common coefficients of the nearest point; with one group, the coefficients themselves."""
        found: list[float] = (torch.linalg.pinv(self.grams.sum(0), hermitian=True) @ self._products.sum(0)).tolist()
        return found

    @property
    def _products(self) -> Float[Tensor, "groups sources"]:
        """The inner products of the combined delta with the sources' deltas."""
        products: Tensor = torch.einsum("gi,gij->gj", self.coefficients.detach(), self.grams)
        return products

    def _scaled(self) -> dict[str, list[float]]:
        """The coefficients of each parameter, scaled by the rules of `layers`."""
        found = dict(zip(self.groups, self.coefficients.tolist(), strict=True))
        return {name: [scale * c for c in found[self.group_of[name]]] for name, scale in self.scales.items()}
