"""The LightningDataModule: DataLoaders of steps from loaded datasets, a sampler and an encoder's tokenizer."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import joblib
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from lightning_embed.data.collator import Collator, PlannedRows, RowPrompts, Teaches, Tokenizer
from lightning_embed.data.dataset import EmbeddingDataset
from lightning_embed.data.measured_loader import MeasuredLoader, StepLoader
from lightning_embed.data.options import check_divisible
from lightning_embed.data.row_groups import Rows
from lightning_embed.data.whole_sets import TestBatch, TestSets, TextBatch, WholeRows
from lightning_embed.errors import CheckpointError, DataError
from lightning_embed.runtime import distributed, signals
from lightning_embed.sampler import BatchPlan, Sampler, StepSampler
from lightning_embed.types import Batch, Task


@runtime_checkable
class Tokenizes(Protocol):
    """The part of an encoder that the data modules use: its tokenizer and its prompts."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Tokenizer of texts into ragged token ids."""

    def prompt_for(self, task: Task, role: Literal["query", "document"], dataset: str) -> str:
        """The prompt for texts of a role."""
        ...


class EmbeddingDataModule(LightningDataModule):
    """Feeds single-task batches of several datasets, in the order of a sampler.

    Args:
        datasets: from `load_datasets`; those without train rows are ignored.
        encoder: the encoder, for its tokenizer and prompts.
        sampler: the order of the steps.
        rows: the train rows to use of each dataset (None: all); datasets that are not named are not used.
        seed: seed of the order of rows and of the drawn positives and negatives.
        num_workers: processes that read and tokenise; 0: the training process itself; auto: see `MeasuredLoader`.
        pin_memory: copy batches to page-locked memory (GPU).
        ranks: number of processes that will train, where it is known before they start: for batches of all rows of a
            small dataset.
        teacher: has a teacher's embeddings of all texts, for losses that need them.

    Raises:
        DataError: no dataset fills one step, or a dataset has fewer rows than ranks.
        ConfigError: a batch size that cannot be divided equally among the ranks.
    """

    def __init__(
        self,
        datasets: Mapping[str, EmbeddingDataset],
        encoder: Tokenizes,
        sampler: Sampler,
        rows: Mapping[str, Sequence[int] | None] | None = None,
        *,
        seed: int = 0,
        num_workers: int | str = "auto",
        pin_memory: bool = False,
        ranks: int = 1,
        teacher: Teaches | None = None,
    ) -> None:
        super().__init__()
        self.datasets = list(datasets.values())
        chosen = rows if rows is not None else dict.fromkeys(datasets)
        self.train_rows = {
            name: data.train if chosen[name] is None else data.train.select(chosen[name] or ())
            for name, data in datasets.items()
            if name in chosen and data.train is not None
        }
        self.dev_rows = {name: data.dev for name, data in datasets.items() if name in self.train_rows and data.dev}
        self.dev_sets = [each for name in self.train_rows for each in datasets[name].eval_sets if each.split == "dev"]
        self.test_sets = [each for data in self.datasets for each in data.eval_sets if each.split == "test"]
        self.prompts = {name: prompts_of(data, encoder) for name, data in datasets.items()}
        self.tokenizer = encoder.tokenizer
        self.schedule = sampler
        self.seed = seed
        self.ranks = ranks
        self.teacher = teacher
        self.num_workers = num_workers
        self._resumed: dict[str, Any] | None = None
        self.loader: dict[str, Any] = {"pin_memory": pin_memory, "worker_init_fn": signals.leave_to_parent}
        if isinstance(num_workers, int):
            self.loader |= {"num_workers": num_workers, "persistent_workers": num_workers > 0}

    def steps(self, first_step: int = 0) -> StepSampler:
        """The steps of this rank, from `first_step` on."""
        datasets = {name: rows.train_set for name, rows in self.train_rows.items()}
        if not datasets:
            raise DataError("No dataset has train rows.")
        ranks = max(self.ranks, distributed.world_size())
        for name, dataset in datasets.items():
            parts = dataset.batch_size // self.schedule.batch_rows(dataset)
            check_divisible(name, dataset.batch_size, distributed.world_size(), parts)
            datasets[name] = self.schedule.fitted(name, dataset, ranks)
        place = {"rank": distributed.rank(), "world_size": distributed.world_size()}
        stream = StepSampler(self.schedule, datasets, self.seed, first_step=first_step, **place)
        stream.set_epoch(first_step // len(stream))
        return stream

    def num_steps(self, max_steps: int, max_epochs: int | None) -> int:
        """Steps of a training with these limits (-1 or None: no limit); the first limit reached ends it."""
        return self.steps().num_steps(max_steps, max_epochs)

    def num_rows(self, max_steps: int, max_epochs: int | None) -> float:
        """Rows processed by a training with these limits, repetitions included, at the mean batch size of an epoch."""
        return self.steps().num_rows(max_steps, max_epochs)

    def first_batches(self) -> list[Batch]:
        """The first batch of every dataset that the sampler uses."""
        plans = [[plan] for plan in self.steps().first_batches()]
        return [step[0] for step in self._loader(self.train_rows, plans)]

    def train_dataloader(self) -> DataLoader[Any]:
        """Steps from the trainer's global step on, so that a resumed training continues there.

        Raises:
            CheckpointError: it would continue with other rows or in another order than its checkpoint.
        """
        first_step = self.trainer.global_step if self.trainer is not None else 0
        if first_step and self._resumed is not None:
            refuse_other_order(self._resumed, self.state_dict())
        if self.num_workers != "auto":
            return self._loader(self.train_rows, self.steps(first_step))
        return self._loader(self.train_rows, self.steps(first_step), MeasuredLoader, most_workers=self._free_cores())

    def _free_cores(self) -> int:
        """Cores of this machine for each rank that a training leaves idle: on a CPU, torch computes on all."""
        if self.trainer is None:
            return 0
        used = torch.get_num_threads() if self.trainer.strategy.root_device.type == "cpu" else 1
        cores: int = joblib.cpu_count()
        return max(0, cores // max(1, self.trainer.num_devices) - used)

    def val_dataloader(self) -> DataLoader[Any] | list[DataLoader[Any]]:
        """Dev batches of every dataset, in order; the same in every epoch."""
        plans = [[plan] for name, rows in self.dev_rows.items() for plan in _dev_plans(name, rows)]
        return self._loader(self.dev_rows, plans) if plans else []

    def test_dataloader(self) -> TestSets:
        """The test sets of all datasets, for `Trainer.test`; each is scored by all ranks together."""
        return TestSets(self.test_sets)

    def predict_dataloader(self) -> DataLoader[Any]:
        """All texts of the train rows, for `Trainer.predict`: each rank gets its share of the batches."""
        place = {"rank": distributed.rank(), "world_size": distributed.world_size()}
        rows = WholeRows(self.train_rows, self.tokenizer, self.prompts, **place)
        return DataLoader(rows, batch_size=None, **self.loader)

    def state_dict(self) -> dict[str, Any]:
        """What decides the order of rows, for the checkpoint: the step, in the trainer's state, is the rest."""
        datasets = {name: [len(rows), rows.options.batch_size] for name, rows in self.train_rows.items()}
        return {"seed": self.seed, "sampler": repr(self.schedule), "datasets": datasets}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state of a checkpoint, for a training that resumes from it."""
        self._resumed = state_dict

    def _loader(
        self,
        rows: Mapping[str, Rows],
        steps: StepSampler | list[list[BatchPlan]],
        kind: type[DataLoader[Any]] = StepLoader,
        **options: Any,
    ) -> DataLoader[Any]:
        collate = Collator(rows, self.tokenizer, self.prompts, self.teacher)
        return kind(PlannedRows(rows, self.seed), batch_sampler=steps, collate_fn=collate, **self.loader, **options)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move the batches of a step to `device`; texts to embed, and test sets, are moved by who encodes them."""
        if isinstance(batch, (TestBatch, TextBatch)):
            return batch
        if isinstance(batch, tuple) and all(isinstance(part, Batch) for part in batch):
            return tuple(part.to(device, non_blocking=True) for part in batch)
        return super().transfer_batch_to_device(batch, device, dataloader_idx)


def refuse_other_order(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to resume a training whose steps would be of other rows, or in another order.

    Raises:
        CheckpointError: naming what differs.
    """
    for key in now:
        if saved.get(key) != now[key]:
            raise CheckpointError(
                f"The checkpoint's training had {key}={saved.get(key)}, and this one has {now[key]}, so that it would not "
                "go on where that one stopped. Give the same, or start anew from its weights: "
                "EmbeddingModule.load_from_checkpoint(path)."
            )


def prompts_of(data: EmbeddingDataset, encoder: Tokenizes) -> RowPrompts:
    """The prompts of a dataset: its own, else the encoder's. Except in retrieval, both sides have the query prompt."""
    options = data.options
    query, document = options.query_prompt, options.document_prompt
    query = encoder.prompt_for(options.task, "query", data.name) if query is None else query
    if options.task is not Task.retrieval:
        return RowPrompts(query, query)
    return RowPrompts(query, encoder.prompt_for(options.task, "document", data.name) if document is None else document)


def _dev_plans(name: str, rows: Rows) -> list[BatchPlan]:
    """Whole batches in order; one smaller batch if the dev set has fewer rows than a batch."""
    ranks = distributed.world_size()
    size = min(rows.options.batch_size, len(rows) // ranks * ranks)
    if size < 2:
        return []
    local = size // ranks
    starts = range(distributed.rank() * local, len(rows) - len(rows) % size, size)
    return [BatchPlan(name, torch.arange(start, start + local)) for start in starts]
