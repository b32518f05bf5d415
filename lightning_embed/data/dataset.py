"""A loaded dataset: its train and dev rows, its dev and test sets."""

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_embed.data.files import Files
from lightning_embed.data.group import Rows
from lightning_embed.data.options import DatasetOptions
from lightning_embed.data.split import dev_rows
from lightning_embed.errors import DataError
from lightning_embed.seeding import derive_seed
from lightning_embed.types import EvalSet, Task

CACHE = Path(os.environ.get("LIGHTNING_EMBED_CACHE", "~/.cache/lightning_embed")).expanduser()


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
    files = Files(name, options, cache)
    train = files.rows("train")
    dev = files.rows("dev")
    has_dev = dev is not None or files.retrieval_folder("dev") is not None
    if options.in_domain and train is not None and not has_dev and options.dev_share:
        chosen = dev_rows(_documents(train, options.task), options.dev_share, seed, name)
        dev = train.select(sorted(chosen))
        train = train.select([row for row in range(len(train)) if row not in chosen])
    usable = _usable(_drawn(train, seed)) if train is not None and options.in_domain else None
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


def _drawn(rows: Rows, seed: int) -> Rows:
    """At most `max_rows` of the rows."""
    wanted = rows.options.max_rows
    if wanted is None or wanted >= len(rows):
        return rows
    draw = random.Random(derive_seed(seed, "max_rows", rows.name))
    return rows.select(sorted(draw.sample(range(len(rows)), wanted)))


def _usable(rows: Rows) -> Rows:
    """Rows that can train: a label that stands only once has no positive."""
    if rows.options.task in (Task.retrieval, Task.sts):
        return rows
    return rows.select([row for row, label in enumerate(rows._labels) if len(rows._by_label[label]) > 1])
