"""merge=ram."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge import (
    ALL,
    Law,
    MergeStrategy,
    Model,
    Plan,
    Probe,
    Reporter,
    TensorGranularity,
    for_each_parameter,
    groups,
    read_blocks,
    spread,
    summed,
)
from lightning_embed.registry import register


@register("merge", "ram")
@dataclass(frozen=True)
class Ram(MergeStrategy):
    """Keep what one source alone changed, and average what several changed.

        a source changes an element where |delta_i| > threshold
        merged = base                               where no source changes the element
        merged = base + factor_i * delta_i          where source i alone does
        merged = base + mean of delta_i             where several do, over these

        factor_i = 1 + rescale * min(max_ratio, shared_i / unique_i)

    where shared_i and unique_i are the numbers of elements that source i changes together with others, and alone. The
    factor makes up for what averaging takes from a source. `rescale=0` is RAM, `rescale` above 0 is RAM+.

    Yuan et al. (2026), "Behavior knowledge merge in reinforced agentic models", arXiv 2601.13572, and their code
    (xiangchi-yuan/mrl): counts over the whole model, threshold 1e-5, max_ratio 1, and rescale 0.2 for RAM+. The form
    with a bound other than 1 is that of MergeKit's `ramplus_tl`, which counts in each tensor (`granularity=tensor`) and
    has rescale 0.1 and max_ratio 0.2; its `ram` is ours with `rescale=0`. Our reading: `granularity=layer`.

    The method is made for reinforcement learning in bfloat16, which leaves most elements as they were. Where a training
    changes nearly all elements by more than the threshold, as Adam in float32 does, the result is nearly the soup.

    It obeys `copies` and `single` only up to the threshold, and not `scale`, because the threshold does not scale.

    Args:
        threshold: of a change, at least 0, in the unit of the weights; usually 0 to 1e-4.
        rescale: of unique elements, at least 0; usually 0 to 0.5.
        max_ratio: bound of shared_i / unique_i, at least 0.
        granularity: model, layer or tensor: the part over which is counted.

    Raises:
        ConfigError: a threshold, rescale or max_ratio below 0.
    """

    needs_base = True
    laws = frozenset({Law.permutation})

    threshold: float = 1e-5
    rescale: float = 0.2
    max_ratio: float = 1.0
    granularity: TensorGranularity = TensorGranularity.model

    def __post_init__(self) -> None:
        super().__post_init__()
        for option in ("threshold", "rescale", "max_ratio"):
            value = getattr(self, option)
            if not value >= 0:
                raise ConfigError(f"merge=ram: {option}={value} must be at least 0.")

    def prepare(self, sources: Sequence[Model], base: Model | None, probe: Probe | None, reporter: Reporter) -> Plan:
        """The factor of each source, in every part."""
        if self.rescale == 0:
            return {"factors": {ALL: [1.0] * len(sources)}}
        names = groups(sources[0].parameters, self.granularity)
        counts = summed(self._counts(sources, base), names)
        return {"factors": spread({group: self._factors(found) for group, found in counts.items()}, names)}

    def merge(
        self,
        name: str,
        tensors: Float[Tensor, " sources *shape"],
        base: Float[Tensor, "*shape"] | None,
        plan: Plan,
        generator: torch.Generator,
    ) -> Float[Tensor, "*shape"]:
        """The base plus the unique elements, rescaled, or the mean of the shared ones."""
        assert base is not None
        deltas = tensors - base
        changed = self._changed(deltas)
        count = changed.sum(0)
        deltas.mul_(changed)
        factors = plan["factors"][name if name in plan["factors"] else ALL]
        unique: Tensor = torch.tensordot(deltas.new_tensor(factors), deltas, dims=1)
        return torch.where(count == 1, unique, deltas.sum(0).div_(count.clamp(min=1))).add_(base)

    def _counts(self, sources: Sequence[Model], base: Model | None) -> dict[str, Float[Tensor, "two sources"]]:
        """The numbers of shared and of unique elements of every source, for each parameter."""

        def counts(name: str) -> Float[Tensor, "two sources"]:
            total = torch.zeros(2, len(sources), dtype=torch.float64)
            for block in read_blocks(name, sources, base):
                changed = self._changed(block.deltas)
                alone = changed.sum(0) == 1
                total += torch.stack([(changed & ~alone).sum(1), (changed & alone).sum(1)])
            return total

        return for_each_parameter(sources[0].parameters, counts)

    def _changed(self, deltas: Float[Tensor, " sources *shape"]) -> Bool[Tensor, " sources *shape"]:
        return deltas.abs().gt_(self.threshold).bool()

    def _factors(self, counts: Float[Tensor, "two sources"]) -> list[float]:
        """A source without unique elements has no use for its factor, which is 1."""
        shared, unique = counts
        ratios = torch.where(unique > 0, shared / unique, 0).clamp(max=self.max_ratio)
        return (1 + self.rescale * ratios).tolist()
