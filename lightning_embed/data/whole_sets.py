"""Data outside of training, for Lightning's loops: all texts of the rows, and the test sets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import Dataset

from lightning_embed.data.collator import RowPrompts, Tokenizer
from lightning_embed.data.row_groups import Rows
from lightning_embed.types import EvalSet, Tokens


@dataclass  # not frozen: Lightning's precision plugins copy a batch field by field
class TextBatch:
    """All texts of some rows of a dataset.

    Args:
        dataset: name of the dataset.
        row: the row of each text.
        place: the place of each text in its row: 0 for the query, or the first text of a pair.
        tokens: of the texts, with their prompts.
    """

    dataset: str
    row: Int[Tensor, " texts"]
    place: Int[Tensor, " texts"]
    tokens: Tokens


class TestBatch:
    """A test set as a batch; no dataclass, so that Lightning does not copy it.

    Args:
        eval_set: the set.
    """

    __test__ = False  # for pytest, which collects classes by their names

    def __init__(self, eval_set: EvalSet) -> None:
        self.eval_set = eval_set


@dataclass(frozen=True)
class TestSets:
    """The test sets as Lightning's test loop takes them, one a batch: every rank gets all of them.

    Args:
        sets: the sets.
    """

    __test__ = False

    sets: Sequence[EvalSet]

    def __len__(self) -> int:
        return len(self.sets)

    def __iter__(self) -> Iterator[TestBatch]:
        return map(TestBatch, self.sets)


class WholeRows(Dataset[TextBatch]):
    """All texts of the rows of datasets, cut into batches of which each rank gets every n-th.

    Args:
        rows: the rows of each dataset.
        tokenizer: the tokenizer of the encoder.
        prompts: the prompts of each dataset, where a row has none of its own.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        rows: Mapping[str, Rows],
        tokenizer: Tokenizer,
        prompts: Mapping[str, RowPrompts],
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.rows = rows
        self.tokenizer = tokenizer
        self.prompts = prompts
        starts = [(n, s) for n, each in rows.items() for s in range(0, len(each), each.options.batch_size)]
        self._starts = starts[rank::world_size]

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, number: int) -> TextBatch:
        name, start = self._starts[number]
        rows, prompts = self.rows[name], self.prompts[name]
        options = rows.options
        found: list[tuple[int, int, str, str, int | None]] = []
        for row in range(start, min(start + options.batch_size, len(rows))):
            queries, documents, own = rows.texts(row)
            before = prompts.query if own is None else own
            asked = [(before, text, options.query_length) for text in queries]
            asked += [(prompts.document, text, options.document_length) for text in documents]
            found += [(row, place, *each) for place, each in enumerate(asked)]
        row_of, place, before_each, texts, lengths = map(list, zip(*found, strict=True))
        tokens = self.tokenizer(texts, before_each, lengths)
        return TextBatch(name, torch.tensor(row_of), torch.tensor(place), tokens)
