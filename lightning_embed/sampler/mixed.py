"""`sampler=mixed`."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.registry import register
from lightning_embed.sampler.base import Sampler
from lightning_embed.types import TrainSet


@register("sampler", "mixed")
@dataclass(frozen=True)
class Mixed(Sampler):
    """Steps of several datasets at once: the baseline whose gradients conflict within a step.

    A step has `num_parts` batches of batch_size / num_parts rows, so it costs as much as a single-task step; its loss
    is their mean. The batches are spread as evenly as their numbers allow: in a step a dataset occurs floor(c / T) or
    ceil(c / T) times, with c its batches and T the steps of an epoch. So the datasets of a step differ, unless there
    are fewer than `num_parts`, or one has more batches than there are steps. The combinations are drawn anew for every
    epoch. In-batch negatives come from the same part only: compare with single-task samplers of the same batch_size /
    num_parts to separate the two effects.

    Papers: the "mixed" baseline of CoDiEmb (2025, arXiv 2508.11442). Where we differ: all ranks use the same datasets
    and disjoint rows; there each rank shuffles by itself, so that some rows are repeated and others skipped. Datasets
    are spread over the steps and keep their own batch_size; there a rank takes the next batch of a shuffled pool, all
    of one size.

    Args:
        accumulate: a step has accumulate * num_parts batches, see `Sampler`; here they need not be of one dataset.
        num_parts: batches that share the rows of batch_size, at least 1; typically the number of datasets or of ranks.

    Raises:
        ConfigError: num_parts below 1, or a batch_size that cannot be cut into parts of 2 rows or more.
    """

    num_parts: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_parts < 1:
            raise ConfigError(f"mixed: num_parts must be at least 1 batch, got {self.num_parts}.")

    @property
    def batches_per_step(self) -> int:
        """See `Sampler.batches_per_step`."""
        return self.accumulate * self.num_parts

    def batch_rows(self, dataset: TrainSet) -> int:
        """See `Sampler.batch_rows`; one part of the batch size."""
        rows, rest = divmod(dataset.batch_size, self.num_parts)
        if rest or rows < 2:
            near = (
                " or ".join(str(size * self.num_parts) for size in (rows, rows + 1) if size > 1) or 2 * self.num_parts
            )
            raise ConfigError(
                f"mixed: batch_size={dataset.batch_size} cannot be cut into {self.num_parts} equal parts of 2 rows or "
                f"more: use batch_size {near}, or a different num_parts."
            )
        return rows

    @property
    def same_dataset(self) -> int:
        """See `Sampler.same_dataset`; any batches make a step."""
        return 1

    def num_batches(self, datasets: Mapping[str, TrainSet]) -> dict[str, int]:
        """See `Sampler.num_batches`; batches that fill no step are dropped from the datasets with the most."""
        counts = {name: dataset.num_rows // self.batch_rows(dataset) for name, dataset in datasets.items()}
        for _ in range(sum(counts.values()) % self.batches_per_step):
            counts[max(counts, key=lambda name: counts[name])] -= 1
        return counts

    def order(self, datasets: Mapping[str, TrainSet], generator: torch.Generator) -> Int[Tensor, "steps batches"]:
        """See `Sampler.order`."""
        counts = torch.tensor(list(self.num_batches(datasets).values()))
        shuffled = torch.randperm(len(counts), generator=generator)
        # Batch i of the pool goes to step i modulo T: a dataset's c batches in a row meet a step twice only if c > T.
        steps = shuffled.repeat_interleave(counts[shuffled]).reshape(self.batches_per_step, -1).T
        return steps[torch.randperm(len(steps), generator=generator)]
