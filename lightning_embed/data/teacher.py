"""A teacher's embeddings of the texts of a run: computed once, kept in a file, looked up by every batch.

The file has one row for each distinct (prompt, text, length), in the order of their 64-bit hashes: a look-up is a binary
search, and no text is in memory. Rows are written block by block, so that neither texts nor vectors need to fit there.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from jaxtyping import Float, Int
from torch import Tensor

from lightning_embed.data.collator import Asked, RowPrompts
from lightning_embed.data.row_groups import Rows
from lightning_embed.errors import DataError
from lightning_embed.storage.publish import published_file

_BLOCK = 8_192  # texts that are embedded, or vectors that are reduced, at a time

Encode = Callable[[Sequence[Asked]], Float[Tensor, "texts dim"]]


@dataclass(frozen=True)
class TeacherVectors:
    """The embeddings of a teacher, of the texts of some datasets.

    Args:
        keys: hashes of the texts, ascending.
        file: the .npy file of their embeddings, in the same order.
        prompts: the teacher's own prompts, of each dataset that it teaches.
    """

    keys: Int[np.ndarray, " texts"]
    file: Path
    prompts: Mapping[str, RowPrompts]

    def __call__(self, asked: Sequence[Asked]) -> Float[Tensor, "texts dim"]:
        """The embeddings of texts.

        Raises:
            DataError: a text is not among those of the file.
        """
        wanted = np.array([key_of(each) for each in asked], dtype=np.uint64)
        places = np.minimum(self.keys.searchsorted(wanted), len(self.keys) - 1)
        if (missing := self.keys[places] != wanted).any():
            raise DataError(
                f"The teacher has not seen the text {asked[int(missing.argmax())].text[:60]!r}: the rows are not those "
                "of which it made its embeddings. Start the run again."
            )
        return torch.from_numpy(self._vectors[places])

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return int(self._vectors.shape[1])

    @cached_property
    def _vectors(self) -> Float[np.ndarray, "texts dim"]:
        found: np.ndarray = np.load(self.file, mmap_mode="r")
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Without the open file, which a worker process opens for itself: pickled, it would be read whole."""
        return {name: value for name, value in vars(self).items() if name != "_vectors"}


def key_of(asked: Asked) -> int:
    """The hash of a text with its prompt and its length."""
    return xxhash.xxh3_64_intdigest(repr(tuple(asked)).encode())


def texts_of(rows: Rows, prompts: RowPrompts) -> Iterator[Asked]:
    """All texts that batches of these rows may have, as the teacher gets them, with repetitions."""
    options = rows.options
    for row in range(len(rows)):
        queries, documents, own = rows.texts(row)
        before = prompts.query if own is None else own
        yield from (Asked(before, text, options.query_length) for text in queries)
        yield from (Asked(prompts.document, text, options.document_length) for text in documents)


def keys_of(texts: Iterable[Asked]) -> Int[np.ndarray, " texts"]:
    """The hashes of texts, ascending, each once."""
    return np.unique(np.fromiter(map(key_of, texts), dtype=np.uint64))


def write_vectors(
    keys: Int[np.ndarray, " texts"], texts: Iterable[Asked], encode: Encode, dim: int, target: Path
) -> None:
    """Write the embeddings of texts in the order of their `keys`; the file is published when it is whole."""
    left = np.ones(len(keys), dtype=bool)

    def new() -> Iterator[tuple[int, Asked]]:
        for each in texts:
            place = int(keys.searchsorted(np.uint64(key_of(each))))
            if left[place]:
                left[place] = False
                yield place, each

    with published_file(target) as partial:
        vectors = np.lib.format.open_memmap(partial, "w+", np.float32, (len(keys), dim))
        for block in _blocks(new()):
            places, asked = zip(*block, strict=True)
            vectors[list(places)] = encode(asked).numpy()
        vectors.flush()


def write_reduced(file: Path, dim: int, target: Path) -> None:
    """Write the vectors of a file in `dim` dimensions: their components along the directions in which they are largest.

    With v the unit vectors and M = sum v v^T, the directions are the eigenvectors of the largest eigenvalues of M: of all
    projections, the one that changes the dot products of the vectors least (Eckart and Young 1936).
    """
    vectors = np.load(file, mmap_mode="r")
    starts = range(0, len(vectors), _BLOCK)
    blocks = (vectors[start : start + _BLOCK].astype(np.float64) for start in starts)
    moment = sum(block.T @ block for block in blocks)
    directions = np.linalg.eigh(moment)[1][:, ::-1][:, :dim]
    signs = np.sign(directions[np.abs(directions).argmax(0), np.arange(dim)])  # that of an eigenvector is any
    with published_file(target) as partial:
        reduced = np.lib.format.open_memmap(partial, "w+", np.float32, (len(vectors), dim))
        for start in starts:
            block = vectors[start : start + _BLOCK] @ (directions * signs)
            reduced[start : start + _BLOCK] = block / np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-12)
        reduced.flush()


def _blocks(items: Iterator[tuple[int, Asked]]) -> Iterator[list[tuple[int, Asked]]]:
    for first in items:
        yield [first, *islice(items, _BLOCK - 1)]


def texts_of_all(parts: Iterable[tuple[Rows, RowPrompts]]) -> Iterator[Asked]:
    """The texts of several rows."""
    return chain.from_iterable(texts_of(rows, prompts) for rows, prompts in parts)
