"""The options of the datasets."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath
from typing import Any

from lightning_embed.errors import ConfigError, nearest
from lightning_embed.storage.names import name_problem, visible
from lightning_embed.types import BASE, JOINT, Task


class Format(StrEnum):
    """Column names of a file. auto: detected from the first row."""

    auto = "auto"
    rows = "rows"  # ours: query, positives, negatives | text1, text2, score | text, label
    sentence_transformers = "sentence_transformers"  # anchor, positive, negative[_n] | sentence1, sentence2, score
    flag_embedding = "flag_embedding"  # query, pos, neg


Place = Any
"""Where rows are: a path, a pattern, a list of them, or from Python the rows themselves."""


class Pad(StrEnum):
    """What a row with fewer positives or negatives than asked for gets in a step."""

    none = "none"  # nothing: it stays short
    repeat = "repeat"  # its own again, as in the scripts of FlagEmbedding and CoDiEmb


class Decontaminate(StrEnum):
    """What becomes of train rows that have a text of a dev or test set of the run, equal or nearly so."""

    keep = "keep"  # they are trained on; a line says how many have an equal text
    drop = "drop"  # they are left out; a line says how many there were
    refuse = "refuse"  # the run is refused


def _word(kind: type[StrEnum], name: str, value: str) -> StrEnum:
    if value not in list(kind):
        raise ConfigError(f"{name}: no such word as {value!r}. {nearest(str(value), map(str, kind))}")
    return kind(value)


def _as_text(place: Place) -> Place:
    """A place with texts for paths of pathlib."""
    if isinstance(place, list) and any(isinstance(each, PurePath) for each in place):
        return [_as_text(each) for each in place]
    return str(place) if isinstance(place, PurePath) else place


TRAINING_ONLY = frozenset(
    {"batch_size", "num_positives", "num_negatives", "pad", "max_rows", "group", "decontaminate", "loss"}
)
"""Options of a dataset that do not affect its dev and test sets."""


@dataclass(frozen=True)
class DatasetOptions:
    """One dataset of a run.

    Args:
        task: retrieval, sts, classification or clustering.
        path: a folder (train.jsonl, dev.jsonl, test.jsonl, or corpus.jsonl + queries.jsonl + qrels.tsv as the test, a
            folder of BEIR, of save_to_disk, or of the hub's shards; also .json, .csv, .tsv, .parquet), a file of
            training rows, a pattern (data/train-*.jsonl) or a list of files, a dataset on the Hugging Face hub, or
            `sample:<name>`. From Python also rows: a list of dicts, a datasets.Dataset, a DataFrame, or a dict of such
            ones with the keys train, dev and test.
        subset: the subset (config name) of a dataset on the hub; None: it has only one.
        revision: branch, tag or commit of a dataset on the hub; None: main.
        train: file of training rows (relative to `path`), a pattern, a list, or split of the hub dataset; None: found
            by name.
        dev: the same for the dev set; for retrieval also a folder with corpus, queries and qrels.
        test: the same for the test set.
        corpus: file of documents (id, title, text; relative to `path`) whose ids the rows have as positives and
            negatives; None: the rows have texts. For retrieval alone.
        in_domain: false: no training on it; a train file then only trains the classifier of its test.
        format: the column names of the files, see `Format`.
        columns: our column name -> that of the file, for other formats: {query: question, positives: answer}.
        ignore_columns: columns of the files that are not read, on purpose: a column that is not read and resembles one
            that is would be refused.
        score_range: lowest and highest score of an STS dataset; stored min-max scaled to [0, 1].
        batch_size: rows of a batch over all ranks.
        num_positives: maximum number of positives of a query; drawn anew each epoch.
        num_negatives: maximum number of hard negatives of a query; drawn anew each epoch.
        pad: see `Pad`; for rows with at least one text of the kind that is short.
        max_length: maximum number of tokens of a text, prompt and special tokens included, wherever the run encodes the
            dataset: training, dev and test, mining, probe; None: the encoder's, which it can only lower.
        query_max_length: the same of queries and of the texts of the other tasks; None: max_length.
        document_max_length: the same of documents; None: max_length. For retrieval alone.
        query_prompt: prompt of queries and of the texts of the other tasks; None: the encoder's prompt. A row's own, in
            its column `prompt`, replaces it.
        document_prompt: prompt of documents; None: the encoder's prompt.
        dev_share: share of the train rows set aside as dev set where none is given, in [0, 1); rows that share a
            document are kept together.
        test_share: the same for the test set, so that one file is enough for an honest table. The rows are drawn by their
            file alone: they are the same for every seed and every run that has this share.
        max_rows: maximum number of train rows, drawn by (seed, dataset) after the dev set was set aside; None: all.
        decontaminate: see `Decontaminate`; None: that of all datasets (`DataOptions`).
        group: replaces the task in experts=per_task and iterative, sampler=two_stage and sequential, and in the shares
            of a probe; None: the task. Triples of entailment, for example, are retrieval rows that some papers count as
            sts.
        loss: the loss of this dataset, a word or its options with the word as `name`; None: that of its task.

    Raises:
        ConfigError: a value out of range, or neither `path` nor `train` nor `test`.
    """

    task: Task
    path: Place = None
    subset: str | None = None
    revision: str | None = None
    train: Place = None
    dev: Place = None
    test: Place = None
    corpus: str | None = None
    in_domain: bool = True
    format: Format = Format.auto
    columns: dict[str, str] = field(default_factory=dict)
    ignore_columns: list[str] = field(default_factory=list)
    score_range: list[float] = field(default_factory=lambda: [0.0, 1.0])
    batch_size: int = 32
    num_positives: int = 1
    num_negatives: int = 1
    pad: Pad = Pad.none
    max_length: int | None = None
    query_max_length: int | None = None
    document_max_length: int | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None
    dev_share: float = 0.05
    test_share: float = 0.0
    max_rows: int | None = None
    decontaminate: Decontaminate | None = None
    group: str | None = None
    loss: Any = None

    def __post_init__(self) -> None:
        for name, kind in {"task": Task, "format": Format, "pad": Pad}.items():  # from Python, also as words
            object.__setattr__(self, name, _word(kind, name, getattr(self, name)))
        if self.decontaminate is not None:
            object.__setattr__(self, "decontaminate", _word(Decontaminate, "decontaminate", self.decontaminate))
        for name in ("path", "train", "dev", "test", "corpus"):
            object.__setattr__(self, name, _as_text(getattr(self, name)))
        places = (self.path, self.train, self.test)
        if all(place is None or (isinstance(place, (str, list)) and not place) for place in places):
            raise ConfigError("A dataset needs a path (a folder, a file or a hub name), or train / test files.")
        if self.corpus is not None and self.task is not Task.retrieval:
            raise ConfigError(f"corpus: expected a retrieval dataset, got {self.task}, whose rows have no documents.")
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
        self._check_lengths()
        for name in ("dev_share", "test_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be in [0, 1), got {getattr(self, name)}.")
        if not self.dev_share + self.test_share < 1:
            raise ConfigError(
                f"dev_share + test_share must be below 1, got {self.dev_share} + {self.test_share}: no rows would train."
            )
        if self.test_share and not self.in_domain:
            raise ConfigError(
                f"test_share: expected 0 where in_domain=false, got {self.test_share}: there are no train rows to take. "
                "Give the file as test."
            )
        if self.max_rows is not None and self.max_rows < 2:
            raise ConfigError(
                f"max_rows must be at least 2 rows, got {self.max_rows}: raise it, or leave it out to take all."
            )

    def _check_lengths(self) -> None:
        for name in ("max_length", "query_max_length", "document_max_length"):
            if (tokens := getattr(self, name)) is not None and tokens < 3:
                raise ConfigError(f"{name} must be at least 3 tokens (two are special), got {tokens}.")
        if self.document_max_length is not None and self.task is not Task.retrieval:
            raise ConfigError(
                f"document_max_length: expected a retrieval dataset, got {self.task}, which has no documents. Set "
                "query_max_length or max_length, for all of its texts."
            )

    @property
    def query_length(self) -> int | None:
        """Maximum number of tokens of a query, or of a text of the other tasks; None: the encoder's."""
        return self.max_length if self.query_max_length is None else self.query_max_length

    @property
    def document_length(self) -> int | None:
        """Maximum number of tokens of a document, or of a text of the other tasks; None: the encoder's."""
        given = self.document_max_length if self.task is Task.retrieval else self.query_max_length
        return self.max_length if given is None else given

    @property
    def counts_as(self) -> str:
        """The group, else the task."""
        return self.group or str(self.task)


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
        root: folder of the data, for paths with ${data.root}; None: no path has it.
        decontaminate: see `Decontaminate`; for datasets without their own.
        num_workers: processes that read and tokenise; 0: the training process itself. `auto`: by measurement, in the
            first steps of a training: as many as make a batch in the time of a step, and one more, if that takes more
            than 2 % of a step and the machine has cores that the training leaves idle (on a CPU it leaves none).
        pin_memory: copy batches to page-locked memory; for GPUs.

    Raises:
        ConfigError: names of datasets or groups that cannot name a folder, all of them in one message; a number of
            processes that is none.
    """

    datasets: dict[str, DatasetOptions]
    root: str | None = None
    decontaminate: Decontaminate = Decontaminate.keep
    num_workers: int | str = "auto"
    pin_memory: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "decontaminate", _word(Decontaminate, "decontaminate", self.decontaminate))
        if self.num_workers != "auto" and (isinstance(self.num_workers, str) or self.num_workers < 0):
            raise ConfigError(f"data.num_workers: expected auto or at least 0, got {self.num_workers}.")
        groups = {options.group: name for name, options in self.datasets.items() if options.group is not None}
        named = [("data.datasets", name) for name in self.datasets]
        named += [(f"data.datasets.{visible(name)}.group", group) for group, name in groups.items()]
        if problems := [problem for what, name in named if (problem := name_problem(what, name, (BASE, JOINT)))]:
            raise ConfigError("\n".join(problems))
