"""Vocabularies in one order: the rows of embeddings and of output layers, moved by token (`vocabulary=base|first`).

MergeKit's `tokenizer: {source: base}` does the same (mergekit/tokenizer/embed.py); where we differ: a token that a
source lacks has the row of the base, and not the mean over the models that have it.
"""

import mmap
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from lightning_embed.errors import CheckpointError, CheckpointMismatch, ConfigError
from lightning_embed.merge.checkpoint.companions import companions
from lightning_embed.merge.checkpoint.name_matching import Names, TensorInfo, may_have_rows_of_tokens
from lightning_embed.merge.checkpoint.reader import ModelDirectory
from lightning_embed.merge.checkpoint.tokens import FILES, Tokenizer, read_tokenizer
from lightning_embed.merge.contract import Vocabulary

_CHUNK_BYTES = 2**24
_EMBEDDING = re.compile(r"emb|wte|shared", re.IGNORECASE)
ABSENT = -1


@dataclass(frozen=True)
class RemappedModel(ModelDirectory):
    """A model with the rows of its vocabulary in the order of a different one.

    Remapped tensors are written to files without a name in the folder for temporary files (TMPDIR), a part at a time,
    and mapped into memory from there, as stored tensors are.

    Args:
        inner: the model as it is stored.
        rows: for each row of the new vocabulary the own row, or -1: the row of `lender`.
        reordered: own names of the tensors with one row per token.
        lender: gives the rows that this model lacks.
    """

    inner: ModelDirectory
    rows: Int[Tensor, " rows"]
    reordered: frozenset[str]
    lender: ModelDirectory | None = None
    _made: dict[str, Tensor] = field(default_factory=dict, compare=False, repr=False)
    _lock: Any = field(default_factory=Lock, compare=False, repr=False)

    @property
    def files(self) -> list[Path]:
        """The files that hold the weights."""
        return self.inner.files

    @property
    def folders(self) -> list[Path]:
        """The folders of configuration, tokenizer ..."""
        return self.inner.folders

    @property
    def dropped(self) -> list[str]:
        """Own names of the tensors without a part in the merge."""
        return self.inner.dropped

    def renamed(self, names: Names) -> "RemappedModel":
        """The same model with different names."""
        return replace(self, names=names, inner=self.inner.renamed(names))

    def first_not_finite(self) -> str | None:
        """The own name of the first tensor with NaN or infinity; None: all are finite."""
        return self.inner.first_not_finite()

    def tensor(self, name: str) -> Shaped[Tensor, "..."]:
        """One tensor; the rows of those that it does not have itself are the lender's."""
        own = self._own(name)
        if own not in self.reordered:
            return self.inner.tensor(name)
        with self._lock:  # strategies read in threads
            if own not in self._made:
                self._made[own] = _gathered(self.inner.tensor(name), self.rows, self._lent_rows(name))
            return self._made[own]

    def _lent_rows(self, name: str) -> Tensor | None:
        lender, missing = self.lender, int((self.rows == ABSENT).sum())
        if not missing:
            return None
        if lender is None or name not in lender.names.kept | lender.names.lent:
            raise CheckpointMismatch(
                f"{self.name!r} lacks {missing} rows of {name} in the new vocabulary, and the model with that vocabulary "
                "has no such tensor. Merge without vocabulary=, or save the models without this head."
            )
        return lender.tensor(name)


def _gathered(
    stored: Shaped[Tensor, "..."], rows: Int[Tensor, " rows"], lent: Shaped[Tensor, "..."] | None
) -> Shaped[Tensor, "..."]:
    """The rows of `stored`, and where a row is absent, those of `lent`, in the wider of both dtypes."""
    dtype = stored.dtype if lent is None else torch.promote_types(stored.dtype, lent.dtype)
    shape = torch.Size([len(rows), *stored.shape[1:]])
    size = dtype.itemsize * max(1, shape[1:].numel())
    with tempfile.TemporaryFile() as file:
        for start in range(0, len(rows), max(1, _CHUNK_BYTES // size)):
            part = rows[start : start + max(1, _CHUNK_BYTES // size)]
            block = stored[part.clamp(min=0)].to(dtype)
            if lent is not None:
                absent = part == ABSENT
                block[absent] = lent[start : start + len(part)][absent].to(dtype)
            file.write(block.contiguous().flatten().view(torch.uint8).numpy().data)
        file.flush()
        if shape.numel() == 0:
            return torch.empty(shape, dtype=dtype)
        memory = mmap.mmap(file.fileno(), shape.numel() * dtype.itemsize, access=mmap.ACCESS_COPY)
    return torch.frombuffer(memory, dtype=dtype).view(shape)


@dataclass(frozen=True)
class _Vocabulary:
    """The vocabulary of a model: its tokenizer, and the number of rows of its input embedding."""

    tokenizer: Tokenizer
    rows: int


def align(models: Sequence[ModelDirectory], num_sources: int, vocabulary: Vocabulary | None) -> list[ModelDirectory]:
    """Bring the rows of the vocabularies into the order, and to the number, of the base or of the first source.

    A token is found by its text, a special token that the other model spells differently by its role ([PAD], <pad>).
    Rows without a token are those of the reference.

    Args:
        models: the sources, then the base if there is one, under their own names.
        num_sources: number of sources.
        vocabulary: the model whose tokenizer the merged model has; None: nothing is moved.

    Raises:
        ConfigError: `base` without a base.
        CheckpointError: a model without a tokenizer that can be read, or without an input embedding.
    """
    if vocabulary is None:
        return list(models)
    reference = reference_of(models, num_sources, vocabulary)
    new = _vocabulary_of(reference)
    return [model if model is reference else _aligned(model, reference, new) for model in models]


def reference_of(models: Sequence[ModelDirectory], num_sources: int, vocabulary: Vocabulary) -> ModelDirectory:
    """The model whose vocabulary the others are brought to."""
    if vocabulary is Vocabulary.first:
        return models[0]
    if len(models) == num_sources:
        raise ConfigError("vocabulary=base takes the tokens of the base, and the merge has none. Give base=.")
    return models[-1]


def with_lenders(
    models: Sequence[ModelDirectory], num_sources: int, vocabulary: Vocabulary | None
) -> list[ModelDirectory]:
    """The models of `align`, under common names, with the model that gives the rows which each of them lacks.

    The base gives rows to the sources, so that the delta of a token that a source lacks is 0; the reference to the base.
    """
    if vocabulary is None:
        return list(models)
    reference = reference_of(models, num_sources, vocabulary)
    base = models[-1] if len(models) > num_sources else reference
    if isinstance(base, RemappedModel):
        base = replace(base, lender=reference)
    sources = [replace(m, lender=base) if isinstance(m, RemappedModel) else m for m in models[:num_sources]]
    return [*sources, *([base] if len(models) > num_sources else [])]


def _aligned(model: ModelDirectory, reference: ModelDirectory, new: _Vocabulary) -> ModelDirectory:
    old = _vocabulary_of(model)
    if old.rows == new.rows and old.tokenizer.ids == new.tokenizer.ids:
        return model
    rows = _rows(old, new)
    reordered = frozenset(
        name for name, info in model.header.items() if _has_row_per_token(model, name, info, old.rows)
    )
    header = {
        name: replace(info, shape=torch.Size([new.rows, *info.shape[1:]])) if name in reordered else info
        for name, info in model.header.items()
    }
    total, found = len(new.tokenizer.ids), int((rows[list(_inside(new))] != ABSENT).sum())
    note = (
        f"rows of {', '.join(sorted(reordered))} in the order of the vocabulary of {reference.name}: {found} of its "
        f"{total} tokens; the others have the rows of the base, or of {reference.name}."
    )
    stored = {each.name: getattr(model, each.name) for each in fields(ModelDirectory)}
    stored |= {"header": header, "notes": (*model.notes, note)}
    return RemappedModel(**stored, inner=model, rows=rows, reordered=reordered)


def _inside(vocabulary: _Vocabulary) -> set[int]:
    return {number for number in vocabulary.tokenizer.ids.values() if number < vocabulary.rows}


def _rows(old: _Vocabulary, new: _Vocabulary) -> Int[Tensor, " rows"]:
    """The old row of each new row."""
    found = [ABSENT] * new.rows
    theirs, same_role = old.tokenizer.ids, _by_role(old.tokenizer, new.tokenizer)
    for token, number in new.tokenizer.ids.items():
        own = theirs.get(token, theirs.get(same_role.get(token, token), ABSENT))
        if number < new.rows and own < old.rows:
            found[number] = own
    return torch.tensor(found)


def _by_role(old: Tokenizer, new: Tokenizer) -> dict[str, str]:
    """Special token of the new tokenizer -> the old one of the same role, if neither of the two knows both."""
    pairs = ((new.roles[role], old.roles[role]) for role in new.roles if role in old.roles)
    return {ours: theirs for ours, theirs in pairs if ours not in old.ids and theirs not in new.ids}


def _vocabulary_of(model: ModelDirectory) -> _Vocabulary:
    tokenizer = read_tokenizer({name: file for name, file in companions(model).body.items() if name in FILES})
    if tokenizer is None or not tokenizer.ids:
        found = "no tokenizer" if tokenizer is None else "a sentencepiece file only"
        raise CheckpointError(
            f"{model.path}: vocabulary= compares tokens, expected tokenizer.json or a vocabulary, found {found}. "
            "Open it with AutoTokenizer, and save it there with save_pretrained."
        )
    tables = [
        info.shape[0]
        for name, info in model.header.items()
        if len(info.shape) == 2 and _EMBEDDING.search(name) and may_have_rows_of_tokens(name)
    ]
    if not tables:
        raise CheckpointError(f"{model.path}: vocabulary= moves rows of the input embedding, and found none.")
    return _Vocabulary(tokenizer, max(tables))


def _has_row_per_token(model: ModelDirectory, name: str, info: TensorInfo, rows: int) -> bool:
    """Embeddings, output layers and their biases: outside of numbered layers, with as many rows as the embedding."""
    return (
        len(info.shape) > 0
        and info.shape[0] == rows
        and info.dtype.is_floating_point
        and may_have_rows_of_tokens(name)
        and not model.is_beside(name)
    )


def vocabulary_entries(config: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a configuration that describe its vocabulary: number of tokens, ids of special ones."""
    return {key: value for key, value in config.items() if key == "vocab_size" or key.endswith("_token_id")}
