"""Tables of `inspect=true` on the data: sizes, lengths, repeated and cut texts, scripts; texts of tests in train sets."""

from collections import Counter
from collections.abc import Mapping, Sequence
from unicodedata import category
from unicodedata import name as name_of

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from lightning_embed.data import EmbeddingDataset
from lightning_embed.data.datamodule import prompts_of
from lightning_embed.data.row_groups import Rows
from lightning_embed.encoder import Encoder
from lightning_embed.run.terminal import console
from lightning_embed.storage.names import visible_lines

_SAMPLE = 1000  # rows used for the statistics of a dataset
_SAMPLES = 10_000  # of all datasets, so that hundreds are shown in seconds
_LEAST_SAMPLE = 50
_SCRIPTS = 3  # of a dataset that are named
_LEAST_SHARE = 0.01  # of the letters of a dataset, for a script to be named
_SHOWN = 60  # letters of an example


def print_datasets(encoder: Encoder, data: Mapping[str, EmbeddingDataset]) -> None:
    """Print rows, test sets and statistics of the texts of each dataset."""
    sample = min(_SAMPLE, max(_LEAST_SAMPLE, _SAMPLES // max(1, len(data))))
    table = Table(title=f"Datasets (texts of {sample:,} rows at most)", title_justify="left", box=SIMPLE_HEAD)
    headers = (
        "dataset", "train", "dev", "test sets", "tokens a text", "texts at max_length", "texts repeated", "scripts",
    )  # fmt: skip
    for column in headers:
        table.add_column(column, justify="left" if column in ("dataset", "scripts") else "right")
    for name, dataset in data.items():
        tests = sum(s.split == "test" for s in dataset.eval_sets)
        counts = [f"{len(rows):,}" if rows is not None else "-" for rows in (dataset.train, dataset.dev)]
        shown = _statistics(encoder, dataset, dataset.train, sample) if dataset.train else ("-",) * 4
        table.add_row(name, *counts, str(tests), *shown)
    console.print(table)


def print_overlaps(data: Mapping[str, EmbeddingDataset]) -> None:
    """Print the train rows that have a text of a dev or test set of the run, for each pair of sets, with an example."""
    if not any(dataset.overlaps for dataset in data.values()):
        console.print("No train row has a query or positive of a dev or test set of these datasets.")
        return
    title = "Train rows with a text of a dev or test set of these datasets (see data.decontaminate)"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in ("train set", "dev or test set", "rows", "share", "as query", "equal", "example"):
        table.add_column(column, justify="right" if column in ("rows", "share", "as query", "equal") else "left")
    for name, dataset in data.items():
        for each in dataset.overlaps:
            numbers = (f"{each.rows:,}", f"{each.rows / each.total:.2%}", f"{each.queries:,}", f"{each.equal:,}")
            example = "\n".join(_shortened(text) for text in each.example)
            table.add_row(Text(name), Text(f"{each.test} {each.split}"), *numbers, Text(example))
    console.print(table)


def _shortened(text: str) -> str:
    shown = visible_lines(text)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


def _statistics(encoder: Encoder, dataset: EmbeddingDataset, rows: Rows, sample: int) -> tuple[str, ...]:
    """Mean tokens per text, shares of texts at the length limit (longer ones are cut) and of repeated texts; scripts.

    They are those of the first `sample` rows.
    """
    prompts, options, most = prompts_of(dataset, encoder), rows.options, encoder.tokenizer.max_length
    shown: list[tuple[str, str, int]] = []  # prompt, text, limit
    for row in range(min(len(rows), sample)):
        queries, documents, own = rows.texts(row)
        prompt = prompts.query if own is None else own
        shown += [(prompt, text, options.query_length or most) for text in queries]
        shown += [(prompts.document, text, options.document_length or most) for text in documents]
    before, texts, given = zip(*shown, strict=True)
    limits = [min(limit, most) for limit in given]
    lengths = encoder.tokenizer(texts, before, limits).lengths
    full = (lengths >= torch.tensor(limits)).float().mean()
    repeated = 1 - len(set(texts)) / len(texts)
    return f"{lengths.float().mean():.0f}", f"{full:.1%}", f"{repeated:.1%}", scripts(texts)


def scripts(texts: Sequence[str]) -> str:
    """The scripts of the letters of texts, such as Latin or Cyrillic, with their shares; the most frequent ones."""
    count = Counter[str]()
    for letter, times in Counter("".join(texts)).items():
        if category(letter).startswith("L"):
            word = name_of(letter, "OTHER").split()[0].split("-")[0]
            count["Han" if word == "CJK" else word.capitalize()] += times
    common = [(word, times / count.total()) for word, times in count.most_common(_SCRIPTS)]
    shown = [f"{word} {share:.0%}" for word, share in common if share >= _LEAST_SHARE]
    return common[0][0] if len(shown) == 1 else ", ".join(shown) or "-"
