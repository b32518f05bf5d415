"""Batches of a probe: a sample of the training rows, the tasks in turn, each batch by its number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from jaxtyping import Int
from torch import Tensor

from lightning_embed.data.collator import Collator, PlannedRows, Teaches
from lightning_embed.data.datamodule import Tokenizes, prompts_of
from lightning_embed.data.dataset import EmbeddingDataset
from lightning_embed.data.probe_options import ProbeOptions
from lightning_embed.data.row_groups import Rows
from lightning_embed.errors import ConfigError
from lightning_embed.runtime.permutation import Permutation
from lightning_embed.runtime.seeding import derive_seed
from lightning_embed.sampler import BatchPlan
from lightning_embed.types import Batch


@dataclass(frozen=True, eq=False)
class ProbeBatches:
    """Batches of one dataset each; number `b` is a pure function of (seed, b).

    One pass contains every drawn row once; later passes shuffle the rows anew. The batches of a task are spread evenly
    over a pass, so that every part of it has the shares of the whole.

    Args:
        datasets: the datasets of the run.
        options: the choice of rows.
        encoder: the encoder, for its tokenizer and prompts.
        seed: seed of the rows and their order.
        teacher: has a teacher's embeddings of the texts; None: no loss needs them.

    Raises:
        ConfigError: no train rows, or a share for a task that has none.
    """

    datasets: Mapping[str, EmbeddingDataset]
    options: ProbeOptions
    encoder: Tokenizes
    seed: int
    teacher: Teaches | None = None

    def __post_init__(self) -> None:
        found = self._trained()
        if not found:
            raise ConfigError(
                "A probe needs train rows, and no dataset has at least 2. Give data=, or probe.datasets=."
            )
        for name in self.options.datasets or ():
            if name not in found:
                raise ConfigError(f"probe.datasets: {name} has fewer than 2 train rows. Leave it out.")
        for task in self.options.task_shares:
            if not any(rows.options.counts_as == task for rows in found.values()):
                raise ConfigError(f"probe.task_shares.{task}: no dataset trains {task}. Leave it out.")

    def __len__(self) -> int:
        """Batches of a pass."""
        return sum(self.num_batches.values())

    def __getitem__(self, number: int) -> Batch:
        """Batch `number`, from 0 on, without an upper limit."""
        return self._collate([self._planned[self._plan(number)]])[0]

    def task(self, number: int) -> str:
        """Task of batch `number`, or the group of its dataset."""
        return self.rows[self._plan(number).dataset].options.counts_as

    @cached_property
    def rows(self) -> dict[str, Rows]:
        """The train rows of the datasets of the probe."""
        shares = self.options.task_shares
        return {name: rows for name, rows in self._trained().items() if not shares or rows.options.counts_as in shares}

    def _trained(self) -> dict[str, Rows]:
        """The chosen datasets with at least two train rows."""
        chosen = self.options.datasets if self.options.datasets is not None else list(self.datasets)
        return {n: rows for n in chosen if (rows := self.datasets[n].train) is not None and len(rows) > 1}

    @cached_property
    def num_batches(self) -> dict[str, int]:
        """Batches of each dataset in a pass: as many rows as all tasks have in their shares."""
        sizes: dict[str, int] = {}
        for rows in self.rows.values():
            sizes[rows.options.counts_as] = sizes.get(rows.options.counts_as, 0) + len(rows)
        shares = {task: self.options.task_shares.get(task, 1.0) for task in sizes}
        shares = {task: share / sum(shares.values()) for task, share in shares.items()}
        total = min(self.options.num_rows, *(sizes[task] / shares[task] for task in sizes))
        wanted = {
            name: total * shares[rows.options.counts_as] * len(rows) / sizes[rows.options.counts_as]
            for name, rows in self.rows.items()
        }
        return {name: max(1, int(wanted[name]) // self._size(name)) for name in self.rows}

    def _size(self, name: str) -> int:
        return min(self.options.batch_size, len(self.rows[name]))

    def _plan(self, number: int) -> BatchPlan:
        turn, place = divmod(number, len(self))
        return self._pass(turn)[place]

    @lru_cache(maxsize=2)  # noqa: B019
    def _pass(self, turn: int) -> list[BatchPlan]:
        """All batches of a pass: tasks spread evenly, the datasets of a task in random order."""
        places: list[tuple[float, BatchPlan]] = []
        for task in sorted({rows.options.counts_as for rows in self.rows.values()}):
            plans = [
                p for name, rows in self.rows.items() if rows.options.counts_as == task for p in self._plans(name, turn)
            ]
            order = _shuffled(len(plans), self.seed, "order", task, turn)
            places += [((i + 0.5) / len(plans), plans[plan]) for i, plan in enumerate(order.tolist())]
        return [plan for _, plan in sorted(places, key=lambda place: place[0])]

    def _plans(self, name: str, turn: int) -> Sequence[BatchPlan]:
        size, count = self._size(name), self.num_batches[name]
        order = Permutation(len(self.rows[name]), derive_seed("probe", self.seed, "draw", name))
        drawn = torch.from_numpy(order.first(size * count))
        rows = drawn[_shuffled(len(drawn), self.seed, "rows", name, turn)]
        return [BatchPlan(name, part, epoch=turn) for part in rows.view(-1, size)]

    @cached_property
    def _planned(self) -> PlannedRows:
        return PlannedRows(self.rows, self.seed)

    @cached_property
    def _collate(self) -> Collator:
        prompts = {name: prompts_of(self.datasets[name], self.encoder) for name in self.rows}
        return Collator(self.rows, self.encoder.tokenizer, prompts, self.teacher)


def _shuffled(count: int, *seed: int | str) -> Int[Tensor, " count"]:
    generator = torch.Generator().manual_seed(derive_seed("probe", *seed))
    return torch.randperm(count, generator=generator)
