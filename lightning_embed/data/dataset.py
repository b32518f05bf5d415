"""A loaded dataset: its train and dev rows, its dev and test sets, and how a row becomes a group of texts."""

import os
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp

from datasets import Dataset

from lightning_embed.data.options import DatasetOptions
from lightning_embed.data.source import SUFFIXES, read_hub, read_rows
from lightning_embed.data.split import dev_rows
from lightning_embed.data.testset import from_rows, has_retrieval_files, read_retrieval
from lightning_embed.errors import DataError
from lightning_embed.seeding import derive_seed
from lightning_embed.types import EvalSet, Task

CACHE = Path(os.environ.get("LIGHTNING_EMBED_CACHE", "~/.cache/lightning_embed")).expanduser()


@dataclass(frozen=True)
class Group:
    """The texts of one row, as one step takes them."""

    query: str
    positives: Sequence[str]
    negatives: Sequence[str]
    score: float | None = None


@dataclass(frozen=True)
class Rows:
    """Rows of one dataset, memory-mapped; `group` draws what a step takes of a row."""

    name: str
    options: DatasetOptions
    table: Dataset

    def __len__(self) -> int:
        return len(self.table)

    def group(self, row: int, seed: int) -> Group:
        """The texts of `row`; positives and negatives beyond the wanted number are drawn by (seed, dataset, row)."""
        record = self.table[row]
        if self.options.task is Task.sts:
            return Group(record["text1"], [record["text2"]], [], record["score"])
        draw = random.Random(derive_seed(seed, self.name, row))
        if self.options.task is Task.retrieval:
            return Group(
                record["query"],
                _at_most(self.options.num_positives, record["positives"], draw),
                _at_most(self.options.num_negatives, record["negatives"], draw),
            )
        return self._labelled(row, record["text"], record["label"], draw)

    def _labelled(self, row: int, text: str, label: str, draw: random.Random) -> Group:
        """A text, others of its label as positives, texts of other labels as negatives."""
        same, labels = self._by_label[label], self._labels
        positives = [i for i in draw.sample(same, min(len(same), self.options.num_positives + 1)) if i != row]
        negatives: set[int] = set()
        while len(negatives) < min(self.options.num_negatives, len(labels) - len(same)):
            other = draw.randrange(len(labels))
            if labels[other] != label:
                negatives.add(other)
        return Group(
            text,
            [self.table[i]["text"] for i in positives[: self.options.num_positives]],
            [self.table[i]["text"] for i in sorted(negatives)],
        )

    def texts(self, row: int) -> list[str]:
        """All texts of a row."""
        values = [value if isinstance(value, list) else [value] for value in self.table[row].values()]
        return [text for texts in values for text in texts if isinstance(text, str)]

    def select(self, rows: Sequence[int]) -> "Rows":
        """Some of the rows."""
        return Rows(self.name, self.options, self.table.select(rows))

    @cached_property
    def _labels(self) -> list[str]:
        return list(self.table["label"])

    @cached_property
    def _by_label(self) -> Mapping[str, list[int]]:
        rows = defaultdict(list)
        for row, label in enumerate(self._labels):
            rows[label].append(row)
        return rows


def _at_most(count: int, texts: Sequence[str], draw: random.Random) -> Sequence[str]:
    return texts if len(texts) <= count else draw.sample(texts, count)


@dataclass(frozen=True)
class EmbeddingDataset:
    """One dataset of a run: `train` rows (None: out of domain), `dev` rows for the dev loss, sets to evaluate on."""

    name: str
    options: DatasetOptions
    train: Rows | None
    dev: Rows | None
    eval_sets: Sequence[EvalSet]


def load_datasets(
    datasets: Mapping[str, DatasetOptions], *, seed: int = 0, cache: Path | None = None
) -> dict[str, EmbeddingDataset]:
    """Read and check every dataset; the first bad row stops everything, before any training.

    Args:
        datasets: options of each, by name.
        seed: chooses dev rows where no dev set is given.
        cache: folder for Arrow files; None: ~/.cache/lightning_embed, or $LIGHTNING_EMBED_CACHE.

    Raises:
        DataError: a file or row that cannot be used, with file, line and reason.
        ConfigError: options that do not fit the files.
    """
    return {name: _load(name, options, seed, cache or CACHE) for name, options in datasets.items()}


def _load(name: str, options: DatasetOptions, seed: int, cache: Path) -> EmbeddingDataset:
    files = _Files(name, options, cache)
    train = files.rows("train")
    dev = files.rows("dev")
    if options.in_domain and train is not None and dev is None and not files.has_retrieval("dev") and options.dev_share:
        chosen = dev_rows(_documents(train, options.task), options.dev_share, seed, name)
        dev = train.select(sorted(chosen))
        train = train.select([row for row in range(len(train)) if row not in chosen])
    usable = train.select(_usable(train)) if train is not None and options.in_domain else None
    eval_sets = list(files.eval_sets(train, dev))
    if usable is None and not eval_sets:
        raise DataError(f"{name}: nothing to train on and nothing to test on in {options.path or 'its files'}.")
    return EmbeddingDataset(name, options, usable, dev, eval_sets)


def _documents(rows: Rows, task: Task) -> Iterator[Sequence[str]]:
    for record in rows.table:
        match task:
            case Task.retrieval:
                yield (record["query"], *record["positives"])
            case Task.sts:
                yield (record["text1"], record["text2"])
            case _:
                yield (record["text"],)


def _usable(rows: Rows) -> Sequence[int]:
    """Rows that can train: a label that stands only once has no positive."""
    if rows.options.task in (Task.retrieval, Task.sts):
        return range(len(rows))
    return [row for row, label in enumerate(rows._labels) if len(rows._by_label[label]) > 1]


def _sample(cache: Path) -> Path:
    """The folder of the embedded data set, generated on first use."""
    from lightning_embed import __version__
    from lightning_embed.data.sample import write_sample

    folder = cache / f"sample-{__version__}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        temporary = Path(mkdtemp(dir=cache))
        write_sample(temporary)
        with suppress(OSError):  # another process was first
            temporary.rename(folder)
    return folder


@dataclass(frozen=True)
class _Files:
    """Where the train, dev and test rows of a dataset are: named by its options, or found in its folder."""

    name: str
    options: DatasetOptions
    cache: Path

    @cached_property
    def folder(self) -> Path | None:
        """The dataset's folder; None: a single file, or a dataset on the hub."""
        path = self.options.path
        if path is None:
            return Path()
        if path.startswith("sample:"):
            return _sample(self.cache) / path.removeprefix("sample:")
        return Path(path) if Path(path).is_dir() else None

    @property
    def is_hub(self) -> bool:
        path = self.options.path
        if path is None or self.folder is not None or path.endswith(SUFFIXES):
            return False
        if path.startswith((".", "/", "~")) or path.count("/") > 1:
            raise DataError(
                f"{self.name}: no folder {path}. Give a folder, a file of rows, or the name of a dataset on the hub."
            )
        return True

    def find(self, part: str) -> Path | None:
        """The file or folder of a part, if there is one."""
        given: str | None = getattr(self.options, part)
        if given is not None:
            path = (self.folder or Path()) / given
            if not path.exists():
                raise DataError(f"{self.name}: no {part} file {path}.")
            return path
        if self.folder is None:
            return Path(self.options.path or "") if part == "train" else None
        if self.options.path is None:
            return None
        if part == "test" and has_retrieval_files(self.folder):
            return self.folder
        return next((f for s in (*SUFFIXES, "") if (f := self.folder / f"{part}{s}").exists()), None)

    def rows(self, part: str) -> Rows | None:
        if self.is_hub:
            return self._hub(part)
        path = self.find(part)
        if path is None or path.is_dir():
            return None
        return Rows(self.name, self.options, read_rows(path, self.options, self.cache))

    def _hub(self, part: str) -> Rows | None:
        split: str | None = getattr(self.options, part)
        if split is None and part != "train":
            return None
        assert self.options.path is not None
        return Rows(self.name, self.options, read_hub(self.options.path, split or "train", self.options, self.cache))

    def has_retrieval(self, part: str) -> bool:
        if self.is_hub or self.options.task is not Task.retrieval:
            return False
        path = self.find(part)
        if path is not None and path.is_dir() and not has_retrieval_files(path):
            raise DataError(f"{self.name}: expected corpus.jsonl, queries.jsonl and qrels.tsv in {path}.")
        return path is not None and path.is_dir()

    def eval_sets(self, train: Rows | None, dev: Rows | None) -> Iterator[EvalSet]:
        in_domain = self.options.in_domain and train is not None
        for part, rows in (("dev", dev), ("test", self.rows("test"))):
            if self.has_retrieval(part):
                content = read_retrieval(self.find(part) or Path())
            elif rows is not None:
                content = from_rows(rows.table, self.options.task, train.table if train else None)  # type: ignore[assignment]
            else:
                continue
            yield EvalSet(self.name, self.options.task, part, in_domain, content)
