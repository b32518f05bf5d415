"""Probes in memory whose losses are paraboloids: every gradient and every optimum is known."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.runtime.seeding import derive_seed
from tests.merge import toy

TOKENS = 40


@dataclass(frozen=True)
class QuadraticProbe:
    """One loss per task: the mean squared distance of all elements to the task's target.

    Batch number b is of task b mod (number of tasks). A parameter that the targets do not name has no gradient.
    """

    targets: Sequence[toy.Tensors]

    @classmethod
    def around(cls, base: toy.Tensors, num_tasks: int = 2, distance: float = 0.1) -> "QuadraticProbe":
        """Tasks whose optima are as far from `base` as its fine-tunes are; `toy.ZERO` has no gradient."""
        tuned = [toy.near(base, 100 + task, distance) for task in range(num_tasks)]
        return cls([{name: target[name] for name in toy.SHAPES} for target in tuned])

    @property
    def num_batches(self) -> int:
        return len(self.targets)

    @property
    def rows_seen(self) -> float:
        return 0.0

    def task(self, batch: int) -> str:
        return f"task {batch % len(self.targets)}"

    def loss(self, parameters: Mapping[str, Tensor], batch: int) -> float:
        return self.loss_and_gradient(parameters, batch)[0]

    def loss_and_gradient(self, parameters: Mapping[str, Tensor], batch: int) -> tuple[float, dict[str, Tensor]]:
        target = self.targets[batch % len(self.targets)]
        count = sum(tensor.numel() for tensor in target.values())
        errors = {name: parameters[name] - target[name] for name in target}
        loss = sum(float(error.double().square().sum()) for error in errors.values()) / count
        return loss, {name: 2 * error / count for name, error in errors.items()}

    def activations(
        self, parameters: Mapping[str, Tensor], batch: int
    ) -> Iterator[tuple[str, Float[Tensor, "tokens inputs"]]]:
        """Fixed noise for each layer and batch, stretched by the layer's mean row: another model, other inputs."""
        for name, weight in parameters.items():
            if name.startswith("encoder.") and name.endswith(".weight") and weight.dim() == 2:
                generator = torch.Generator().manual_seed(derive_seed(name, batch))
                yield name, torch.randn(TOKENS, weight.shape[1], generator=generator) * (1 + weight.mean(0))

    def score(self, parameters: Mapping[str, Tensor]) -> float:
        """100 for a model at all targets; less with the mean loss."""
        return 100 - 100 * sum(self.loss(parameters, task) for task in range(len(self.targets))) / len(self.targets)


@dataclass(frozen=True)
class RegressionProbe:
    """Linear regressions y = W x, one per task, on the parameter `head.weight`: (x, y) of every batch, tasks in turn."""

    data: Mapping[str, Sequence[tuple[Float[Tensor, "rows inputs"], Float[Tensor, "rows outputs"]]]]

    @property
    def num_batches(self) -> int:
        return len(self.data) * min(map(len, self.data.values()))

    @property
    def rows_seen(self) -> float:
        return 0.0

    def task(self, batch: int) -> str:
        return list(self.data)[batch % len(self.data)]

    def loss(self, parameters: Mapping[str, Tensor], batch: int) -> float:
        return self.loss_and_gradient(parameters, batch)[0]

    def loss_and_gradient(self, parameters: Mapping[str, Tensor], batch: int) -> tuple[float, dict[str, Tensor]]:
        x, y = self.data[self.task(batch)][batch // len(self.data)]
        errors = x @ parameters["head.weight"].T - y
        return float(errors.square().sum()) / len(x), {"head.weight": 2 * errors.T @ x / len(x)}

    def activations(
        self, parameters: Mapping[str, Tensor], batch: int
    ) -> Iterator[tuple[str, Float[Tensor, "tokens inputs"]]]:
        """Two rows at a time."""
        for rows in self.data[self.task(batch)][batch // len(self.data)][0].split(2):
            yield "head.weight", rows

    def score(self, parameters: Mapping[str, Tensor]) -> float:
        raise NotImplementedError
