"""merge=regmean."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge import STATISTICS, Cut, FromStatistics, Law, Model, Plan, Probe, in_memory
from lightning_embed.registry import register

_RIDGE = 1e-6  # of the trace: more than the float32 error of a Gram matrix, which may make eigenvalues negative


@register("merge", "regmean")
@dataclass(frozen=True)
class RegMean(FromStatistics):
    """For each linear layer, the matrix whose outputs are nearest to those of every source on its own inputs.

        G_i = mean over tokens of x x^T,      x: inputs of the layer in source i
        H_i = (1 - shrinkage) G_i + shrinkage diag(G_i)
        merged = (sum_i w_i W_i H_i) (sum_i w_i H_i)^-1            W_i (out, in): y = W x

    which minimises sum_i w_i |(merged - W_i) H_i^(1/2)|^2, for shrinkage = 0 the squared distance of outputs. All other
    parameters are weighted averages. Computed in float64 as a correction of the average, with the inverse of
    sum_i w_i H_i + r 1, r = 1e-6 of its trace: in directions without inputs, the result is the average.

    Jin et al. (2022), "Dataless knowledge fusion by merging weights of language models", arXiv 2212.09849, where
    alpha = 1 - shrinkage; a baseline of "Self Positioning" (2024), arXiv 2410.15035, whose sigma, "for reducing
    non-diagonal elements", is our shrinkage; our reading. Where we differ: sources may get the same batches
    (`batches=all`), and their inputs then differ only through their own layers; in the paper each source gets its own
    data (`batches=own`). With equal inputs, as after frozen embeddings, the result is the average. The paper's G_i is a
    sum over tokens; ours is a mean, so that w_i is independent of the lengths of the texts.

    Costs: num_batches forward passes per source, the memory of a model and of its Gram matrices (in x in per layer,
    float32: 0.6 GB for BERT-base), and the same size per source on disk, which stays beside merge.json. It does not
    obey `scale`, because the inputs do not scale with the deltas.

    Args:
        shrinkage: of the off-diagonal elements, in [0, 1]; usually 0 to 0.4. With 1, columns are independent.

    Raises:
        ConfigError: a shrinkage outside [0, 1].
    """

    cut = Cut.tensor
    laws = frozenset({Law.copies, Law.single, Law.permutation})

    shrinkage: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.shrinkage <= 1:
            raise ConfigError(f"merge=regmean: shrinkage={self.shrinkage} must be in [0, 1].")

    def statistics(self, source: Model, probe: Probe | None) -> Mapping[str, Float[Tensor, "..."]]:
        """The Gram matrices of all linear layers."""
        assert probe is not None
        parameters = in_memory(source)
        grams: dict[str, Tensor] = {}
        tokens: dict[str, int] = {}
        for batch in self.batches_of(source, probe):
            for name, inputs in probe.activations(parameters, batch):
                gram = inputs.T @ inputs
                grams[name] = grams[name].add_(gram) if name in grams else gram
                tokens[name] = tokens.get(name, 0) + len(inputs)
        return {name: gram.div_(tokens[name]) for name, gram in grams.items()}

    def merge(
        self,
        name: str,
        tensors: Float[Tensor, " sources *shape"],
        base: Float[Tensor, "*shape"] | None,
        plan: Plan,
        generator: torch.Generator,
    ) -> Float[Tensor, "*shape"]:
        """The regression of a linear layer, or the average."""
        mean = torch.tensordot(tensors.new_tensor(plan["weights"]), tensors, dims=1)
        if STATISTICS not in plan:
            return mean
        # one source at a time: its Gram matrix in float64 takes most of the memory
        right = torch.zeros_like(mean, dtype=torch.float64)
        total = torch.zeros(mean.shape[1], mean.shape[1], dtype=torch.float64)
        for weight, tensor, gram in zip(plan["weights"], tensors, plan[STATISTICS], strict=True):
            weighted = weight * self._shrunk(gram.to(torch.float64, copy=True))
            right += (tensor - mean).double() @ weighted
            total += weighted
        total.diagonal().add_(_RIDGE * total.trace())
        return mean + _solved(total, right).float() if total.any() else mean

    def _shrunk(self, gram: Float[Tensor, "inputs inputs"]) -> Float[Tensor, "inputs inputs"]:
        """H, computed in place."""
        diagonal = gram.diagonal().clone()
        gram.mul_(1 - self.shrinkage).diagonal().copy_(diagonal)
        return gram


def _solved(
    total: Float[Tensor, "inputs inputs"], right: Float[Tensor, "outputs inputs"]
) -> Float[Tensor, "outputs inputs"]:
    """The solution X of X total = right; `total` is symmetric and positive definite."""
    solved: Tensor = torch.cholesky_solve(right.T, torch.linalg.cholesky(total)).T
    return solved
