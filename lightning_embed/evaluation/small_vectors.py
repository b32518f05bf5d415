"""Small vectors: embeddings in fewer bytes, as an index stores them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from lightning_embed.errors import ConfigError

_PRECISIONS = ("float32", "int8", "binary")
_WORD = re.compile(rf"(?:({'|'.join(_PRECISIONS)})(?:@(\d+))?|(\d+))")


@dataclass(frozen=True)
class Form:
    """What is left of an embedding.

    Args:
        word: of `evaluation.small_vectors`: int8, binary, 256 (the first 256 numbers), int8@256, binary@256.
        precision: float32, int8 or binary.
        dim: first numbers that are kept; None: all.
    """

    word: str
    precision: str
    dim: int | None

    def fits(self, dim: int) -> bool:
        """Whether an embedding of `dim` numbers has as many as are kept, and more."""
        return self.dim is None or self.dim < dim


def parse_forms(words: Sequence[str | int]) -> list[Form]:
    """The forms of a list of words, in order and without repetition.

    Raises:
        ConfigError: an unknown word, or one that keeps the embedding as it is.
    """
    return [_form(word) for word in dict.fromkeys(map(str, words))]


def _form(word: str) -> Form:
    found = _WORD.fullmatch(word)
    precision, dim = (found[1] or "float32", found[2] or found[3]) if found else ("", None)
    if not found or dim == "0" or (precision == "float32" and dim is None):
        raise ConfigError(
            f"evaluation.small_vectors: expected int8, binary, a number of dimensions, or both as int8@256, got {word!r}."
        )
    return Form(word, precision, None if dim is None else int(dim))


def shrink(
    embeddings: Float[np.ndarray, "texts dim"], form: Form, documents: Float[np.ndarray, "documents dim"]
) -> Float[np.ndarray, "texts kept"]:
    """The vectors of a form as unit vectors in float32, so that their cosines rank as an index of them does.

    Cut embeddings are normalised again. int8: the codes of `quantize_embeddings` of sentence-transformers, 256 steps of
    the range that each dimension has in `documents` (what lies outside has the first or the last code); compared by the
    cosine of the codes. binary: its bits as +1 and -1, whose cosine is 1 - 2 h/kept with h the Hamming distance. Queries
    and documents are rounded alike, and nothing is scored again in float32.

    Args:
        embeddings: of queries, documents or other texts.
        form: what is kept of them.
        documents: embeddings that an index would be calibrated on, at least one.
    """
    from sentence_transformers import quantize_embeddings

    cut = embeddings if form.dim is None else unit(embeddings[:, : form.dim])
    if form.precision == "float32":
        return cut
    if form.precision == "binary":
        bits = np.unpackbits(quantize_embeddings(cut, "ubinary"), axis=1, count=cut.shape[1])
        return unit(2.0 * bits.astype(np.float32) - 1)
    known = documents if form.dim is None else unit(documents[:, : form.dim])
    ranges = np.stack([known.min(0), known.max(0)])
    return unit(quantize_embeddings(cut, "int8", ranges=ranges).astype(np.float32))


def unit(vectors: Float[np.ndarray, "texts dim"]) -> Float[np.ndarray, "texts dim"]:
    """The vectors, divided by their lengths."""
    lengths: Float[np.ndarray, "texts 1"] = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: Float[np.ndarray, "texts dim"] = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return units
