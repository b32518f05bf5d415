"""Data types that the rooms exchange: batches, embeddings, losses, evaluation sets and scores.

Shapes: `texts` distinct texts of a batch, `rows` rows, `dim` embedding size. An index of -1 stands for an empty slot.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import (
    Any,
    NotRequired,  # pydantic reads no other before Python 3.12
)

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import TypedDict

BASE, JOINT = "base", "joint"
"""Names of models: the start of all experts, and the expert on all datasets."""


class Task(StrEnum):
    """The task that a dataset trains."""

    retrieval = "retrieval"
    sts = "sts"
    classification = "classification"
    clustering = "clustering"


@dataclass(frozen=True)
class TrainSet:
    """Task and size of the train rows of a dataset, for samplers and plans of experts.

    Args:
        task: the task of the dataset, or the group that it counts as.
        num_rows: number of train rows.
        batch_size: rows of a batch over all ranks.
    """

    task: str
    num_rows: int
    batch_size: int


class StepMode(StrEnum):
    """Execution of the chunks of a training step; the gradient is the same in every mode."""

    plain = "plain"  # all chunks in one graph: fastest
    cached = "cached"  # every chunk twice, one at a time: the memory of one chunk
    partial = "partial"  # as cached; chunks whose activations fit a memory budget run once


@dataclass  # not frozen: Lightning's precision plugins copy a batch field by field
class Tokens:
    """Ragged token ids: text `i` is `ids[offsets[i]:offsets[i + 1]]`, special tokens included, nothing padded.

    `prompts` counts the tokens of each text's prompt, for encoders whose pooling leaves them out.
    """

    ids: Int[Tensor, " total"]
    offsets: Int[Tensor, " texts_and_one"]
    prompts: Int[Tensor, " texts"] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int[Tensor, " texts"]:
        """Tokens of each text."""
        return self.offsets.diff()

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Tokens":
        """The same tokens on `device`. The lengths stay on their device: reading one never waits for a GPU."""
        return replace(self, ids=self.ids.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Tokens":
        """The same tokens in page-locked memory; called by the DataLoader."""
        return replace(self, ids=self.ids.pin_memory())

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]]) -> "Tokens":
        """Join lists of token ids."""
        lengths = torch.tensor([0, *map(len, texts)])
        return cls(torch.tensor([token for text in texts for token in text], dtype=torch.int64), lengths.cumsum(0))


@dataclass(frozen=True)
class Embeddings:
    """L2-normalised embeddings of `Tokens`, in their order; `middle` is from the middle layer, if requested."""

    final: Float[Tensor, "texts dim"]
    middle: Float[Tensor, "texts dim"] | None = None


@dataclass  # not frozen: as Tokens
class Batch:
    """Rows of one dataset. Every distinct text occurs once in `tokens`; the roles are indices into it.

    A query that is its own positive (SimCSE) occurs twice. An STS pair is a query with one positive and a score.
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
    teacher: Float[Tensor, "texts teacher_dim"] | None = None  # a teacher's embeddings of the texts, L2-normalised
    weight: float = 1.0  # share of this batch in the loss of its step; the shares of a step sum to 1
    num_texts: int = -1  # of all roles and rows, counted before the batch moves: a GPU is not asked for it

    def __post_init__(self) -> None:
        if self.num_texts < 0:
            self.num_texts = sum(int((role >= 0).sum()) for role in (self.query, self.positives, self.negatives))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The same batch on `device`."""
        return self._each(lambda part: part.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory; called by the DataLoader."""
        return self._each(lambda part: part.pin_memory())

    def _each(self, change: Callable[[Any], Any]) -> "Batch":
        parts = {name: value for name, value in vars(self).items() if isinstance(value, (Tensor, Tokens))}
        return replace(self, **{name: change(part) for name, part in parts.items()})


@dataclass(frozen=True, kw_only=True)
class LossInput:
    """The input of a loss: embeddings, hashes and rows of all ranks; `rows` are the rows of this rank.

    `learned` are the loss's own numbers that are trained with the encoder (`Loss.learned`); empty: they are at their start.
    """

    embeddings: Embeddings
    hashes: Int[Tensor, " texts"]
    query: Int[Tensor, " rows"]
    positives: Int[Tensor, "rows slots"]
    negatives: Int[Tensor, "rows hard"]
    score: Float[Tensor, " rows"] | None
    rows: slice
    positive_scores: Float[Tensor, "rows slots"] | None = None
    negative_scores: Float[Tensor, "rows hard"] | None = None
    learned: Mapping[str, Float[Tensor, ""]] = field(default_factory=dict)
    teacher: Float[Tensor, "texts teacher_dim"] | None = None


@dataclass(frozen=True)
class LossOutput:
    """`value`: its mean over ranks is the loss of the global batch. `logs`: detached 0-d tensors."""

    value: Float[Tensor, ""]
    logs: Mapping[str, Float[Tensor, ""]]


@dataclass(frozen=True)
class RetrievalSet:
    """A retrieval test.

    Args:
        corpus: document id -> {"title", "text"}.
        queries: query id -> text.
        qrels: query id -> document id -> relevance.
        copies: query id -> id of the document that is the query itself, which is left out of its ranking.
        prompts: query id -> its own prompt, where it has one.
    """

    corpus: Mapping[str, Mapping[str, str]]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]
    copies: Mapping[str, str] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StsSet:
    """An STS test: pairs with scores, in the dataset's own range (Spearman's correlation does not depend on it).

    `prompts` are the own prompts of the pairs, None where a pair has none; empty: none has one.
    """

    text1: Sequence[str]
    text2: Sequence[str]
    score: Sequence[float]
    prompts: Sequence[str | None] = ()


@dataclass(frozen=True)
class LabelSet:
    """A classification or clustering test; `train_*` train the classifier of a classification test.

    Prompts are as in `StsSet`.
    """

    texts: Sequence[str]
    labels: Sequence[str]
    train_texts: Sequence[str] = ()
    train_labels: Sequence[str] = ()
    prompts: Sequence[str | None] = ()
    train_prompts: Sequence[str | None] = ()


@dataclass(frozen=True)
class EvalSet:
    """One dataset's dev or test set.

    `query_length` and `document_length` are the maximum numbers of tokens of its texts, None: the encoder's; texts of
    tasks without documents are queries.
    """

    name: str
    task: Task
    split: str  # "dev" or "test"
    in_domain: bool  # the run has a train set of this dataset
    content: RetrievalSet | StsSet | LabelSet
    query_length: int | None = None
    document_length: int | None = None


@dataclass(frozen=True, order=True)
class Choice:
    """One override of a command line.

    Args:
        key: of the option, or of the group's place in the config: optimizer.lr, sts_loss, hydra/launcher.
        value: as typed.
        text: the whole override, as typed.
    """

    key: str
    value: str
    text: str

    @property
    def owner(self) -> str:
        """The first part of the key: optimizer, sts_loss, hydra."""
        return self.key.replace("/", ".").partition(".")[0]


class Score(TypedDict):
    """Score of one model on one test: an entry of results.json, where `each`, `more_each` and `gold` are left out."""

    task: str  # a Task, or the type of an mteb benchmark task: "reranking", "pair_classification", ...
    metric: str  # mteb's name of its main metric: "ndcg_at_10", "cosine_spearman", "accuracy", "v_measure", ...
    score: float  # in points: 100 * mteb's value
    in_domain: bool
    benchmarks: NotRequired[list[str]]  # names of the mteb benchmarks that have this test, of those that were asked for
    more: NotRequired[dict[str, float]]  # further metrics that were asked for: "recall@100" -> percent points
    small: NotRequired[dict[str, float]]  # main metric of small vectors: "int8@256" -> points; of the run's own sets
    each: NotRequired[list[float]]  # main metric of every query, or the cosine of every pair; of the run's own sets
    more_each: NotRequired[dict[str, list[float]]]  # further metrics of every query
    gold: NotRequired[list[float]]  # score of every pair


Results = dict[str, dict[str, Score]]  # split -> test -> score of one model
