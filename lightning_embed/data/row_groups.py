"""Rows of a dataset, and the group of texts of a row in a step."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow.compute as compute
from datasets import Dataset
from jaxtyping import Int

from lightning_embed.data.options import DatasetOptions, Pad
from lightning_embed.data.row_store import selected
from lightning_embed.runtime.seeding import derive_seed
from lightning_embed.types import Task, TrainSet


@dataclass(frozen=True)
class Group:
    """The texts of one row in a step, with a teacher's scores of them, and with their own prompts.

    A prompt of None, and prompts of None for all, stand for the prompt of the dataset.
    """

    query: str
    positives: Sequence[str]
    negatives: Sequence[str]
    score: float | None = None
    positive_scores: Sequence[float | None] | None = None
    negative_scores: Sequence[float | None] | None = None
    prompt: str | None = None
    positive_prompts: Sequence[str | None] | None = None
    negative_prompts: Sequence[str | None] | None = None

    @property
    def is_own_positive(self) -> bool:
        """Whether the query is one of its positives, as in SimCSE; never of an STS pair."""
        return self.score is None and self.query in self.positives


@dataclass(frozen=True)
class Rows:
    """Rows of one dataset, memory-mapped; `group` draws the texts of a row for a step."""

    name: str
    options: DatasetOptions
    table: Dataset

    def __len__(self) -> int:
        return len(self.table)

    def group(self, row: int, seed: int) -> Group:
        """The texts of `row`; if it has too many positives or negatives, they are drawn by (seed, dataset, row)."""
        record = self.table[row]
        prompt = record.get("prompt")
        if self.options.task is Task.sts:
            return Group(
                record["text1"], [record["text2"]], [], record["score"], prompt=prompt, positive_prompts=[prompt]
            )
        draw = random.Random(derive_seed(seed, self.name, row))
        if self.options.task is Task.retrieval:
            pad = self.options.pad
            positives = _drawn(self.options.num_positives, len(record["positives"]), pad, draw)
            negatives = _drawn(self.options.num_negatives, len(record["negatives"]), pad, draw)
            return Group(
                record["query"],
                [record["positives"][i] for i in positives],
                [record["negatives"][i] for i in negatives],
                positive_scores=_scores(record["positive_scores"], positives),
                negative_scores=_scores(record["negative_scores"], negatives),
                prompt=prompt,
            )
        return self._labelled(row, record["text"], prompt, draw)

    def _labelled(self, row: int, text: str, prompt: str | None, draw: random.Random) -> Group:
        """A text, with texts of its label as positives and texts of other labels as negatives."""
        labels = self.labels
        label = labels[row]
        same = self._rows_of_label[label]
        wanted = draw.sample(range(len(same)), min(len(same), self.options.num_positives + 1))
        others = [i for i in same[wanted].tolist() if i != row][: self.options.num_positives]
        negatives: set[int] = set()
        while len(negatives) < min(self.options.num_negatives, len(labels) - len(same)):
            other = draw.randrange(len(labels))
            if labels[other] != label:
                negatives.add(other)
        positive = [self.table[i] for i in _padded(others, self.options.num_positives, self.options.pad, draw)]
        negative = [
            self.table[i] for i in _padded(sorted(negatives), self.options.num_negatives, self.options.pad, draw)
        ]
        return Group(
            text,
            [record["text"] for record in positive],
            [record["text"] for record in negative],
            prompt=prompt,
            positive_prompts=[record.get("prompt") for record in positive],
            negative_prompts=[record.get("prompt") for record in negative],
        )

    @property
    def train_set(self) -> TrainSet:
        """Task or group, number of rows and batch size, for samplers and plans of experts."""
        return TrainSet(self.options.counts_as, len(self), self.options.batch_size)

    @cached_property
    def has_teacher(self) -> bool:
        """Whether any row of the file has scores of a teacher. Not per batch: all ranks must agree."""
        columns = [c for c in ("positive_scores", "negative_scores") if c in self.table.column_names]
        return any(self.table.data.column(c).null_count < len(self.table.data) for c in columns)

    @cached_property
    def teacher_range(self) -> tuple[float, float] | None:
        """Lowest and highest score of a teacher in the file; None: it has none."""
        columns = [c for c in ("positive_scores", "negative_scores") if c in self.table.column_names]
        found = [compute.min_max(compute.list_flatten(self.table.data.column(c))).as_py() for c in columns]
        scored = [each for each in found if each["min"] is not None]
        return (min(e["min"] for e in scored), max(e["max"] for e in scored)) if scored else None

    @property
    def has_negatives(self) -> bool:
        """Whether steps get hard negatives of these rows."""
        if self.options.task is Task.sts or not self.options.num_negatives:
            return False
        if self.options.task is not Task.retrieval:
            return bool((self.label_counts > 0).sum() > 1)
        lists = self.table.data.column("negatives").chunks
        return any(len(chunk.values) for chunk in lists)

    def texts(self, row: int) -> tuple[list[str], list[str], str | None]:
        """All texts of a row: its query (or the texts of the other tasks), its documents, and its own prompt."""
        record = self.table[row]
        if self.options.task is Task.retrieval:
            return [record["query"]], [*record["positives"], *record["negatives"]], record.get("prompt")
        return [record[column] for column in ("text1", "text2", "text") if column in record], [], record.get("prompt")

    def select(self, rows: Sequence[int] | Int[np.ndarray, " _"]) -> "Rows":
        """The given rows."""
        return Rows(self.name, self.options, selected(self.table, rows))

    @cached_property
    def labels(self) -> Int[np.ndarray, " rows"]:
        """The label of each row as a number: four bytes a row instead of a text."""
        column = self.table.select_columns("label").with_format("arrow")[:].column("label")
        numbers = column.combine_chunks().dictionary_encode().indices
        return np.asarray(numbers)

    @cached_property
    def label_counts(self) -> Int[np.ndarray, " labels"]:
        """Rows of each label."""
        return np.bincount(self.labels)

    @cached_property
    def _rows_of_label(self) -> Sequence[Int[np.ndarray, " _"]]:
        return np.split(self.labels.argsort(kind="stable"), self.label_counts.cumsum()[:-1])


def _drawn(count: int, total: int, pad: Pad, draw: random.Random) -> Sequence[int]:
    """At most `count` of `total` texts; if there are fewer, all of them, or `count` of them repeated."""
    return draw.sample(range(total), count) if total > count else _padded(range(total), count, pad, draw)


def _padded(texts: Sequence[int], count: int, pad: Pad, draw: random.Random) -> Sequence[int]:
    """`texts`, if there are fewer than `count` filled up as the papers' scripts do: `count` drawn of their repetitions."""
    if pad == Pad.none or not 0 < len(texts) < count:
        return texts
    return draw.sample([*texts] * math.ceil(count / len(texts)), count)


def _scores(scores: Sequence[float | None] | None, chosen: Sequence[int]) -> Sequence[float | None] | None:
    return None if scores is None else [scores[i] for i in chosen]
