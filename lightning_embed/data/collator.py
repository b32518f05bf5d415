"""Collation of rows into batches: each distinct text once, as ragged token ids.

A query that is its own positive (unsupervised SimCSE: Gao et al. 2021, arXiv 2104.08821) occurs twice, as a query and as
a document: two encodings with independent dropout. Once, its cosine would be 1 whatever the model does. The hashes of
both are equal, so that the losses take them for one text. STS pairs are not changed: equal texts are equally similar.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import torch
import xxhash
from torch.utils.data import Dataset

from lightning_embed.data.row_groups import Group, Rows
from lightning_embed.runtime.seeding import derive_seed
from lightning_embed.sampler import BatchPlan
from lightning_embed.types import Batch, Tokens


@runtime_checkable
class Tokenizer(Protocol):
    """The tokenizer interface that the collator uses."""

    def __call__(
        self,
        texts: Sequence[str],
        prompt: str | Sequence[str] = "",
        max_length: int | Sequence[int | None] | None = None,
    ) -> Tokens:
        """Token ids of prompt + text, special tokens included, truncated at `max_length`: one for all, or one each."""
        ...


class Asked(NamedTuple):
    """A text that a teacher embeds, with the teacher's own prompt; `max_length` is that of its dataset."""

    prompt: str
    text: str
    max_length: int | None


class Teaches(Protocol):
    """The part of a teacher that the collator uses, see `lightning_embed.data.teacher`."""

    @property
    def prompts(self) -> "Mapping[str, RowPrompts]":
        """The teacher's prompts, of each dataset that it teaches."""

    def __call__(self, asked: Sequence[Asked]) -> torch.Tensor:
        """Its embeddings of texts."""
        ...


@dataclass(frozen=True)
class RowPrompts:
    """The prompts put before the queries and the documents of a dataset, where a row has none of its own."""

    query: str = ""
    document: str = ""

    def of_query(self, group: Group) -> str:
        """The prompt of the query of a row."""
        return self.query if group.prompt is None else group.prompt

    def of_documents(self, own: Sequence[str | None] | None, count: int) -> list[str]:
        """The prompts of `count` documents, of which `own` are their own (None: none has one)."""
        return [self.document if each is None else each for each in own or [None] * count]


@dataclass(frozen=True)
class Planned:
    """A batch plan with its texts."""

    plan: BatchPlan
    groups: Sequence[Group]


class PlannedRows(Dataset[Planned]):
    """All train (or dev) rows, indexed by batch plans.

    Args:
        rows: the rows of each dataset.
        seed: seed of the drawn positives and negatives, together with the epoch of a plan.
    """

    def __init__(self, rows: Mapping[str, Rows], seed: int) -> None:
        self.rows = rows
        self.seed = seed

    def __getitem__(self, plan: BatchPlan) -> Planned:
        rows = self.rows[plan.dataset]
        seed = derive_seed(self.seed, "draw", plan.epoch)
        return Planned(plan, [rows.group(row, seed) for row in plan.rows.tolist()])


@dataclass(frozen=True)
class Collator:
    """Turns the planned batches of a step into `Batch`es.

    Args:
        rows: the rows of each dataset, with task and maximum lengths.
        tokenizer: the tokenizer of the encoder.
        prompts: the prompts of each dataset.
        teacher: has a teacher's embeddings of the texts; None: no loss needs them.
    """

    rows: Mapping[str, Rows]
    tokenizer: Tokenizer
    prompts: Mapping[str, RowPrompts] = field(default_factory=dict)
    teacher: Teaches | None = None

    def __call__(self, step: Sequence[Planned]) -> tuple[Batch, ...]:
        """Collate one step."""
        return tuple(self._batch(planned.plan, planned.groups) for planned in step)

    def _batch(self, plan: BatchPlan, groups: Sequence[Group]) -> Batch:
        rows = self.rows[plan.dataset]
        options = rows.options
        prompts = self.prompts.get(plan.dataset, RowPrompts())
        taught = None if self.teacher is None else self.teacher.prompts.get(plan.dataset)
        of_teacher = taught or RowPrompts()  # without a teacher, they tell no texts apart
        texts: dict[_Text, int] = {}
        twice = {group.query for group in groups if group.is_own_positive}

        def index(text: _Text) -> int:
            return texts.setdefault(text, len(texts))

        def documents(group: Sequence[str], own: Sequence[str | None] | None) -> list[int]:
            theirs = of_teacher.of_documents(own, len(group))
            given = zip(prompts.of_documents(own, len(group)), group, theirs, strict=True)
            length = options.document_length
            return [index(_Text(prompt, text, length, text in twice, their)) for prompt, text, their in given]

        query = [
            index(_Text(prompts.of_query(g), g.query, options.query_length, False, of_teacher.of_query(g)))
            for g in groups
        ]
        positives = [documents(group.positives, group.positive_prompts) for group in groups]
        negatives = [documents(group.negatives, group.negative_prompts) for group in groups]
        scores = [group.score for group in groups if group.score is not None]
        return Batch(
            dataset=plan.dataset,
            task=options.task,
            tokens=self.tokenizer(
                [each.text for each in texts], [each.prompt for each in texts], [each.max_length for each in texts]
            ),
            hashes=torch.tensor([_hash(each.text) for each in texts]),
            query=torch.tensor(query),
            positives=_rectangle(positives),
            negatives=_rectangle(negatives),
            score=torch.tensor(scores, dtype=torch.float32) if scores else None,
            positive_scores=_scores([group.positive_scores for group in groups], positives)
            if rows.has_teacher
            else None,
            negative_scores=_scores([group.negative_scores for group in groups], negatives)
            if rows.has_teacher
            else None,
            teacher=None
            if self.teacher is None or taught is None
            else self.teacher([Asked(each.taught, each.text, each.max_length) for each in texts]),
            weight=plan.weight,
        )


class _Text(NamedTuple):
    """A text as it is encoded: what makes two texts of a batch distinct."""

    prompt: str
    text: str
    max_length: int | None
    is_second_view: bool  # of a query that is its own positive
    taught: str  # the teacher's prompt: a teacher may tell a query from an equal document where the encoder does not


def _hash(text: str) -> int:
    return xxhash.xxh64_intdigest(text.encode()) - 2**63  # into the range of int64


def _rectangle(lists: Sequence[Sequence[int]]) -> torch.Tensor:
    """Rows of unequal length, padded with -1."""
    width = max(map(len, lists), default=0)
    return torch.tensor([[*row, *[-1] * (width - len(row))] for row in lists], dtype=torch.int64).reshape(
        len(lists), width
    )


def _scores(lists: Sequence[Sequence[float | None] | None], documents: Sequence[Sequence[int]]) -> torch.Tensor:
    """A teacher's scores at the positions of their documents, NaN elsewhere."""
    result = torch.full((len(lists), max(map(len, documents), default=0)), math.nan)
    for row, scores in enumerate(lists):
        for place, score in enumerate(scores or ()):
            if score is not None:
                result[row, place] = score
    return result
