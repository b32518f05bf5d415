"""A loaded dataset: its train and dev rows, its dev and test sets."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from lightning_embed.data.column_check import check
from lightning_embed.data.column_notes import columns_of
from lightning_embed.data.dataset_files import Files
from lightning_embed.data.decontamination import Contamination, EvalTexts, Overlap
from lightning_embed.data.eval_sets import note_on_copies
from lightning_embed.data.options import DataOptions, DatasetOptions, Decontaminate
from lightning_embed.data.row_groups import Rows
from lightning_embed.data.split import held_out
from lightning_embed.errors import DataError, results_of
from lightning_embed.runtime.permutation import Permutation
from lightning_embed.runtime.seeding import derive_seed
from lightning_embed.storage.cache_dir import CACHE
from lightning_embed.types import EvalSet, RetrievalSet, Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbeddingDataset:
    """One dataset of a run.

    Args:
        name: name of the dataset.
        options: its options.
        train: train rows; None: out of domain.
        dev: rows for the dev loss.
        eval_sets: sets to evaluate on.
        notes: what a user should know of the data, a line each.
        overlaps: the train rows that have a text of a dev or test set of the run, by set; before they are left out.
    """

    name: str
    options: DatasetOptions
    train: Rows | None
    dev: Rows | None
    eval_sets: Sequence[EvalSet]
    notes: Sequence[str] = ()
    overlaps: Sequence[Overlap] = ()

    def with_batch_size(self, batch_size: int) -> "EmbeddingDataset":
        """The same dataset with another size of its batches."""
        options = replace(self.options, batch_size=batch_size)
        train, dev = (rows and replace(rows, options=options) for rows in (self.train, self.dev))
        return self if options == self.options else replace(self, options=options, train=train, dev=dev)


def load_datasets(
    datasets: Mapping[str, DatasetOptions],
    *,
    decontaminate: Decontaminate = Decontaminate.keep,
    examine: bool = False,
    seed: int = 0,
    cache: Path | None = None,
) -> dict[str, EmbeddingDataset]:
    """Read and check every dataset. The first invalid row of each file raises, before any training.

    Args:
        datasets: options of each dataset, by name.
        decontaminate: what becomes of train rows that have a text of a dev or test set, of any of the datasets; for
            datasets without an option of their own.
        examine: find the nearly equal texts too where rows are kept, with examples; all texts are read for it.
        seed: seed of the choice of dev rows where no dev set is given.
        cache: folder of Arrow files; None: ~/.cache/lightning_embed, or $LIGHTNING_EMBED_CACHE.

    Raises:
        DataError: an invalid file or row, with file, line and reason; of all datasets in one message. Or train rows
            that have a text of a dev or test set, where they are refused.
        ConfigError: options that do not fit the files.
    """
    cache = cache or CACHE
    default = DataOptions({}, None, decontaminate).decontaminate  # a word from Python
    loaded = results_of({name: partial(_load, name, o, seed, cache) for name, o in datasets.items()})
    tests = EvalTexts([eval_set for each in loaded.values() for eval_set in each.eval_sets], cache)
    return results_of({name: partial(_decontaminated, each, tests, default, examine) for name, each in loaded.items()})


def _decontaminated(
    data: EmbeddingDataset, tests: EvalTexts, default: Decontaminate, examine: bool
) -> EmbeddingDataset:
    """The dataset, without the train rows that have a text of a test if its option says so."""
    rows, option = data.train, data.options.decontaminate or default
    nearly = examine or option != Decontaminate.keep
    found = Contamination() if rows is None else tests.overlap(rows, nearly=nearly)
    if rows is None or not found.rows:
        return data
    sentence = found.sentence(data.name, len(rows))
    if option == Decontaminate.refuse:
        raise DataError(f"{sentence}. Remove them, or leave them out by decontaminate=drop.")
    if option == Decontaminate.keep:
        note = f"{sentence}. data.decontaminate=drop leaves them out."
    elif len(found.rows) == len(rows):
        raise DataError(f"{sentence}: nothing is left of it. Give it decontaminate: keep, or other rows.")
    else:
        rows, note = _usable(rows.select(np.delete(np.arange(len(rows)), found.rows))), f"{sentence}: left out."
    return replace(data, train=rows, notes=[*data.notes, note], overlaps=found.sets)


def _load(name: str, options: DatasetOptions, seed: int, cache: Path) -> EmbeddingDataset:
    files = Files(name, options, cache)
    read = results_of({part: partial(files.read, part) for part in ("train", "dev", "test")})
    rows = {part: each for part, each in read.items() if isinstance(each, Rows)}
    columns = check(name, options, {part: columns_of(each.table) for part, each in rows.items()})
    train, dev, test = rows.get("train"), read["dev"], read["test"]
    shares = {"dev": options.dev_share, "test": options.test_share}
    shares = {part: share for part, share in shares.items() if share and read[part] is None}
    if options.in_domain and train is not None and shares:
        parts = {part: train.select(chosen) for part, chosen in held_out(train.table, shares, seed, name).items()}
        train, dev, test = parts["train"], parts.get("dev", dev), parts.get("test", test)
    usable = _usable(_drawn(train, seed)) if train is not None and options.in_domain else None
    eval_set = partial(files.eval_set, train=train, in_domain=options.in_domain and train is not None)
    found = results_of({"dev": lambda: eval_set("dev", dev), "test": lambda: eval_set("test", test)})
    eval_sets = [each for each in found.values() if each is not None]
    if usable is None and not eval_sets:
        raise DataError(f"{name}: nothing to train on and nothing to test on in {files.in_words}.")
    notes = [*columns, *_notes(name, files.unread(), eval_sets)]
    return EmbeddingDataset(name, options, usable, dev if isinstance(dev, Rows) else None, eval_sets, notes)


def _notes(name: str, unread: Sequence[str], eval_sets: Sequence[EvalSet]) -> Iterator[str]:
    if unread:
        yield f"{name}: files in its folder that are not read: {', '.join(map(repr, unread))}."
    for each in eval_sets:
        if isinstance(each.content, RetrievalSet) and (line := note_on_copies(name, each.split, each.content)):
            yield line


def _drawn(rows: Rows, seed: int) -> Rows:
    """At most `max_rows` of the rows."""
    wanted = rows.options.max_rows
    if wanted is None or wanted >= len(rows):
        return rows
    order = Permutation(len(rows), derive_seed(seed, "max_rows", rows.name))
    return rows.select(np.sort(order.first(wanted)))


def _usable(rows: Rows) -> Rows:
    """Rows that can train: a label that occurs only once has no positive.

    Raises:
        DataError: all scores are equal, so that comparing them teaches nothing; or every label occurs only once.
    """
    if rows.options.task is Task.sts:
        score = rows.table.with_format("numpy")["score"][:]
        if len(score) and score.min() == score.max():
            raise DataError(f"{rows.name}: the scores of all {len(score)} train rows are equal: nothing to learn from.")
    if rows.options.task in (Task.retrieval, Task.sts):
        return rows
    usable = rows.select(np.flatnonzero(rows.label_counts[rows.labels] > 1))
    if len(rows) and not len(usable):
        raise DataError(
            f"{rows.name}: each label of its {len(rows):,} train rows occurs once, so that no text has a positive. "
            "Give several texts of a label, or in_domain=false to test on it only."
        )
    if lost := len(rows) - len(usable):
        logger.info("%s: %s of %s train rows are left out: no other text has their label.", rows.name, lost, len(rows))
    return usable
