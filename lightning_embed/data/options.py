"""The options of the data: datasets, mining and probe."""

from dataclasses import dataclass, field
from enum import StrEnum

from lightning_embed.errors import ConfigError
from lightning_embed.storage.names import name_problem, visible
from lightning_embed.types import BASE, JOINT, Task


class Format(StrEnum):
    """Column names of a file. auto: detected from the first row."""

    auto = "auto"
    rows = "rows"  # ours: query, positives, negatives | text1, text2, score | text, label
    sentence_transformers = "sentence_transformers"  # anchor, positive, negative[_n] | sentence1, sentence2, score
    flag_embedding = "flag_embedding"  # query, pos, neg


TRAINING_ONLY = frozenset({"batch_size", "num_positives", "num_negatives", "max_length", "max_rows", "group"})
"""Options of a dataset that do not affect its dev and test sets."""


@dataclass(frozen=True)
class DatasetOptions:
    """One dataset of a run.

    Args:
        task: retrieval, sts, classification or clustering.
        path: a folder (train.jsonl, dev.jsonl, test.jsonl, or corpus.jsonl + queries.jsonl + qrels.tsv as the test, or
            a folder of BEIR; also .jsonl.gz and .parquet), one file of training rows, a dataset on the Hugging Face
            hub, or `sample:<name>`.
        revision: branch, tag or commit of a dataset on the hub; None: main.
        train: file of training rows (relative to `path`), or split of the hub dataset; None: found by name.
        dev: the same for the dev set; for retrieval also a folder with corpus, queries and qrels.
        test: the same for the test set.
        in_domain: false: no training on it; a train file then only trains the classifier of its test.
        format: the column names of the files, see `Format`.
        columns: our column name -> that of the file, for other formats: {query: question, positives: answer}.
        ignore_columns: columns of the files that are not read, on purpose: a column that is not read and resembles one
            that is would be refused.
        score_range: lowest and highest score of an STS dataset; stored min-max scaled to [0, 1].
        batch_size: rows of a batch over all ranks.
        num_positives: maximum number of positives of a query; drawn anew each epoch.
        num_negatives: maximum number of hard negatives of a query; drawn anew each epoch.
        max_length: maximum number of tokens of a text in training, special tokens included; None: the encoder's.
        query_prompt: prompt of queries and of the texts of the other tasks; None: the encoder's prompt.
        document_prompt: prompt of documents; None: the encoder's prompt.
        dev_share: share of the train rows set aside as dev set where none is given, in [0, 1); rows that share a
            document are kept together.
        max_rows: maximum number of train rows, drawn by (seed, dataset) after the dev set was set aside; None: all.
        group: replaces the task in experts=per_task and iterative, sampler=two_stage and sequential, and in the shares
            of a probe; None: the task. Triples of entailment, for example, are retrieval rows that some papers count as
            sts.

    Raises:
        ConfigError: a value out of range, or neither `path` nor `train` nor `test`.
    """

    task: Task
    path: str | None = None
    revision: str | None = None
    train: str | None = None
    dev: str | None = None
    test: str | None = None
    in_domain: bool = True
    format: Format = Format.auto
    columns: dict[str, str] = field(default_factory=dict)
    ignore_columns: list[str] = field(default_factory=list)
    score_range: list[float] = field(default_factory=lambda: [0.0, 1.0])
    batch_size: int = 32
    num_positives: int = 1
    num_negatives: int = 1
    max_length: int | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None
    dev_share: float = 0.05
    max_rows: int | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        if not (self.path or self.train or self.test):
            raise ConfigError("A dataset needs a path (a folder, a file or a hub name), or train / test files.")
        if len(self.score_range) != 2 or not self.score_range[0] < self.score_range[1]:
            raise ConfigError(f"score_range must be [lowest, highest], got {list(self.score_range)}.")
        if self.batch_size < 2:
            raise ConfigError(
                f"batch_size must be at least 2 rows, got {self.batch_size}: one row has nothing to compare with."
            )
        if self.num_positives < 1 or self.num_negatives < 0:
            raise ConfigError(
                "num_positives must be at least 1 and num_negatives at least 0, "
                f"got {self.num_positives} and {self.num_negatives}."
            )
        if self.max_length is not None and self.max_length < 3:
            raise ConfigError(f"max_length must be at least 3 tokens (two are special), got {self.max_length}.")
        if not 0 <= self.dev_share < 1:
            raise ConfigError(f"dev_share must be in [0, 1), got {self.dev_share}.")
        if self.max_rows is not None and self.max_rows < 2:
            raise ConfigError(
                f"max_rows must be at least 2 rows, got {self.max_rows}: raise it, or leave it out to take all."
            )

    @property
    def counts_as(self) -> str:
        """The group, else the task."""
        return self.group or str(self.task)


class SamplingStrategy(StrEnum):
    """Selection of negatives among the candidates."""

    top = "top"  # the most similar ones
    random = "random"


@dataclass(frozen=True)
class MiningOptions:
    """Hard-negative mining before training, with the option names of sentence-transformers' `mine_hard_negatives`.

    A relative_margin of 0.05 with sampling_strategy=top is TopK-PercPos of Moreira et al. 2024 (NV-Retriever, arXiv
    2407.15831). Scores are cosines.

    Args:
        datasets: names of the retrieval datasets to mine for; empty: none.
        num_negatives: maximum number of negatives added to a query; usually 10 or fewer.
        range_min: number of most similar documents to skip: they may be answers.
        range_max: lowest rank of a candidate; None: derived from num_negatives and the margins.
        max_score: maximum score of a candidate with its query.
        min_score: minimum score of a candidate with its query.
        absolute_margin: a candidate scores at least this much below the query's worst positive.
        relative_margin: the same, as a share of the positive's score.
        sampling_strategy: see `SamplingStrategy`.
        batch_size: texts per call of the model.

    Raises:
        ConfigError: a count out of range, or fewer candidates than num_negatives.
    """

    datasets: list[str] = field(default_factory=list)
    num_negatives: int = 5
    range_min: int = 0
    range_max: int | None = None
    max_score: float | None = None
    min_score: float | None = None
    absolute_margin: float | None = None
    relative_margin: float | None = None
    sampling_strategy: SamplingStrategy = SamplingStrategy.top
    batch_size: int = 32

    def __post_init__(self) -> None:
        for name, least in {"num_negatives": 1, "range_min": 0, "batch_size": 1}.items():
            if getattr(self, name) < least:
                raise ConfigError(f"mining.{name}: expected at least {least}, got {getattr(self, name)}. Raise it.")
        if self.range_max is not None and self.range_max - self.range_min < self.num_negatives:
            raise ConfigError(
                f"mining.range_max: expected at least range_min + num_negatives = {self.range_min + self.num_negatives}"
                f", got {self.range_max}. Raise it, or leave it out."
            )


@dataclass(frozen=True)
class ProbeOptions:
    """The training rows of a probe, the data of merge strategies, in batches of one dataset each.

    Args:
        datasets: names of the datasets to use; None: all that have train rows.
        num_rows: maximum number of rows; 32,000 in Self Positioning (2024, arXiv 2410.15035). After the last row, the
            rows are used again.
        task_shares: task (or group of datasets) -> its share of the rows, for example {sts: 0.75, retrieval: 0.25};
            empty: equal shares. Within a task the share of a dataset is proportional to its size.
        batch_size: rows of a batch, usually 16 to 64.

    Raises:
        ConfigError: a number out of range.
    """

    datasets: list[str] | None = None
    num_rows: int = 32_000
    task_shares: dict[str, float] = field(default_factory=dict)
    batch_size: int = 32

    def __post_init__(self) -> None:
        for name, least in {"num_rows": 2, "batch_size": 2}.items():
            if getattr(self, name) < least:
                raise ConfigError(f"probe.{name}: expected at least {least}, got {getattr(self, name)}. Raise it.")
        for task, share in self.task_shares.items():
            if not share > 0:
                raise ConfigError(
                    f"probe.task_shares.{task}: expected a positive number, got {share}. Leave the task out instead."
                )


def check_divisible(name: str, batch_size: int, ranks: int, parts: int = 1) -> None:
    """Refuse a batch size that is not divisible by the number of ranks times the parts of a batch.

    Raises:
        ConfigError: with the nearest sizes that work.
    """
    shares = ranks * parts
    if batch_size % shares:
        below = batch_size - batch_size % shares
        near = " or ".join(str(size) for size in (below, below + shares) if size)
        who = f"{ranks} ranks" if parts == 1 else f"{ranks} ranks x {parts} parts"
        raise ConfigError(f"{name}: batch_size={batch_size} rows cannot be shared equally by {who}: use {near}.")


@dataclass(frozen=True)
class DataOptions:
    """The `data` group.

    Args:
        datasets: name -> options.
        root: folder of the data, ${data.root} in the paths of `datasets`.
        num_workers: processes that read and tokenise; 0: the training process itself.
        pin_memory: copy batches to page-locked memory; for GPUs.

    Raises:
        ConfigError: names of datasets or groups that cannot name a folder, all of them in one message; a negative
            number of processes.
    """

    datasets: dict[str, DatasetOptions]
    root: str | None
    num_workers: int = 0
    pin_memory: bool = False

    def __post_init__(self) -> None:
        if self.num_workers < 0:
            raise ConfigError(f"data.num_workers must be at least 0, got {self.num_workers}.")
        groups = {options.group: name for name, options in self.datasets.items() if options.group is not None}
        named = [("data.datasets", name) for name in self.datasets]
        named += [(f"data.datasets.{visible(name)}.group", group) for group, name in groups.items()]
        if problems := [problem for what, name in named if (problem := name_problem(what, name, (BASE, JOINT)))]:
            raise ConfigError("\n".join(problems))
