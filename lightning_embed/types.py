"""What the rooms hand to each other. Nothing here computes.

Shapes: `texts` distinct texts of a batch, `rows` rows, `dim` embedding size. An index of -1 means "none here".
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NotRequired, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor

BASE, JOINT = "base", "joint"
"""Names of models: what all experts start from, and the expert on all datasets."""


class Task(StrEnum):
    """What a dataset trains."""

    retrieval = "retrieval"
    sts = "sts"
    classification = "classification"
    clustering = "clustering"


@dataclass(frozen=True)
class TrainSet:
    """The train rows of a dataset as samplers and plans of experts see them.

    Args:
        task: the task of the dataset, or the group that it counts as.
        num_rows: number of train rows.
        batch_size: rows of a batch over all ranks.
    """

    task: str
    num_rows: int
    batch_size: int


class StepMode(StrEnum):
    """How a training step runs its chunks; the gradient is the same."""

    plain = "plain"  # all at once: fastest
    cached = "cached"  # twice, one at a time: the memory of one chunk
    partial = "partial"  # as cached, but chunks whose activations fit a budget run once


@dataclass  # not frozen: Lightning's precision plugins copy a batch field by field
class Tokens:
    """Ragged token ids: text `i` is `ids[offsets[i]:offsets[i + 1]]`, special tokens included, nothing padded."""

    ids: Int[Tensor, " total"]
    offsets: Int[Tensor, " texts_and_one"]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int[Tensor, " texts"]:
        """Tokens of each text."""
        return self.offsets.diff()

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Tokens":
        """The same tokens on `device`; the offsets stay where they are, so that nobody waits for a GPU to read a length."""
        return Tokens(self.ids.to(device, non_blocking=non_blocking), self.offsets)

    def pin_memory(self) -> "Tokens":
        """The same tokens in page-locked memory; the DataLoader asks for it."""
        return Tokens(self.ids.pin_memory(), self.offsets)

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]]) -> "Tokens":
        """Join lists of token ids."""
        lengths = torch.tensor([0, *map(len, texts)])
        return cls(torch.tensor([token for text in texts for token in text], dtype=torch.int64), lengths.cumsum(0))


@dataclass(frozen=True)
class Embeddings:
    """What an encoder makes of `Tokens`: L2-normalised rows in the order given; `middle` from the middle layer, if asked for."""

    final: Float[Tensor, "texts dim"]
    middle: Float[Tensor, "texts dim"] | None = None


@dataclass  # not frozen: as Tokens
class Batch:
    """Rows of one dataset. Every distinct text stands once in `tokens`; the roles are indices into it.

    An STS pair is a query with one positive and a score.
    """

    dataset: str
    task: Task
    tokens: Tokens
    hashes: Int[Tensor, " texts"]  # of the text without its prompt: equal texts are equal in any role
    query: Int[Tensor, " rows"]
    positives: Int[Tensor, "rows slots"]
    negatives: Int[Tensor, "rows hard"]
    score: Float[Tensor, " rows"] | None = None  # in [0, 1]
    positive_scores: Float[Tensor, "rows slots"] | None = None  # a teacher's; NaN where there is no document
    negative_scores: Float[Tensor, "rows hard"] | None = None
    weight: float = 1.0  # share of this batch in the loss of its step; the shares of a step sum to 1

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The same batch on `device`."""
        return self._each(lambda part: part.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory; the DataLoader asks for it."""
        return self._each(lambda part: part.pin_memory())

    def _each(self, change: Callable[[Any], Any]) -> "Batch":
        parts = {name: value for name, value in vars(self).items() if isinstance(value, (Tensor, Tokens))}
        return replace(self, **{name: change(part) for name, part in parts.items()})


@dataclass(frozen=True, kw_only=True)
class LossInput:
    """A batch as a loss sees it: embeddings, hashes and rows of all ranks; `rows` are the ones of this rank."""

    embeddings: Embeddings
    hashes: Int[Tensor, " texts"]
    query: Int[Tensor, " rows"]
    positives: Int[Tensor, "rows slots"]
    negatives: Int[Tensor, "rows hard"]
    score: Float[Tensor, " rows"] | None
    rows: slice
    positive_scores: Float[Tensor, "rows slots"] | None = None
    negative_scores: Float[Tensor, "rows hard"] | None = None


@dataclass(frozen=True)
class LossOutput:
    """`value`: its mean over ranks is the loss of the global batch. `logs`: detached 0-d tensors."""

    value: Float[Tensor, ""]
    logs: Mapping[str, Float[Tensor, ""]]


@dataclass(frozen=True)
class RetrievalSet:
    """A retrieval test: `corpus` id -> {"title", "text"}, `queries` id -> text, `qrels` query id -> document id -> relevance."""

    corpus: Mapping[str, Mapping[str, str]]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class StsSet:
    """An STS test: pairs with scores, in the dataset's own range (Spearman does not care)."""

    text1: Sequence[str]
    text2: Sequence[str]
    score: Sequence[float]


@dataclass(frozen=True)
class LabelSet:
    """A classification or clustering test; `train_*` is what the probe classifier of a classification test learns from."""

    texts: Sequence[str]
    labels: Sequence[str]
    train_texts: Sequence[str] = ()
    train_labels: Sequence[str] = ()


@dataclass(frozen=True)
class EvalSet:
    """One dataset's dev or test set."""

    name: str
    task: Task
    split: str  # "dev" or "test"
    in_domain: bool  # the run has a train set of this dataset
    content: RetrievalSet | StsSet | LabelSet


class Score(TypedDict):
    """One model on one test; the plain dictionary that stands in results.json, without `each` and `gold`."""

    task: str  # a Task, or the type of an mteb benchmark task: "reranking", "pair_classification", ...
    metric: str  # mteb's name of its main metric: "ndcg_at_10", "cosine_spearman", "accuracy", "v_measure", ...
    score: float  # percent points: 100 * what mteb says
    in_domain: bool
    each: NotRequired[list[float]]  # nDCG@10 of every query, or the cosine of every pair; of the run's own sets
    gold: NotRequired[list[float]]  # score of every pair


Results = dict[str, dict[str, Score]]  # split -> test -> score of one model
