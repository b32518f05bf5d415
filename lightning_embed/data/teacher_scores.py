"""A teacher's scores of the documents of rows, for `loss=distill`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from lightning_embed.data.mining_models import Embedder, Scorer
from lightning_embed.errors import DataError

_AT_ONCE = 2**16  # pairs of embeddings in memory at a time


def scored(
    name: str, rows: Sequence[tuple[str, Mapping[str, Any]]], teacher: Embedder | Scorer, batch_size: int
) -> Iterator[dict[str, Any]]:
    """The rows with `positive_scores` and `negative_scores` of one teacher, in place of those that they had.

    Args:
        name: of the dataset, for messages.
        rows: key of the query of each row, and the row.
        teacher: a cross-encoder, whose scores are logits, without the activation that it is configured with; or an
            embedding model, whose scores are cosines.
        batch_size: texts or pairs per call of the teacher.

    Raises:
        DataError: the scores are all equal, or one is not finite.
    """
    documents = [[*row["positives"], *(row.get("negatives") or ())] for _, row in rows]
    pairs = list(dict.fromkeys((key, text) for (key, _), texts in zip(rows, documents, strict=True) for text in texts))
    values = (
        _logits(teacher, pairs, batch_size) if isinstance(teacher, Scorer) else _cosines(teacher, pairs, batch_size)
    )
    if not np.isfinite(values).all():
        raise DataError(f"{name}: the teacher of mining.scores gives scores that are not finite. Give another teacher.")
    if len(values) and values.min() == values.max():
        raise DataError(
            f"{name}: the teacher of mining.scores gives all {len(values):,} documents the score {values[0]:g}, which "
            "ranks nothing. Give another teacher."
        )
    score = dict(zip(pairs, values.tolist(), strict=True))
    for (key, row), texts in zip(rows, documents, strict=True):
        given, end = [score[key, text] for text in texts], len(row["positives"])
        yield {**row, "positive_scores": given[:end], "negative_scores": given[end:]}


def _logits(teacher: Scorer, pairs: Sequence[tuple[str, str]], batch_size: int) -> Float[np.ndarray, " pairs"]:
    from torch.nn import Identity

    how = {"batch_size": batch_size, "activation_fn": Identity(), "show_progress_bar": True}
    found: np.ndarray = np.asarray(teacher.predict(list(pairs), **how), dtype=np.float32)
    return found


def _cosines(teacher: Embedder, pairs: Sequence[tuple[str, str]], batch_size: int) -> Float[np.ndarray, " pairs"]:
    keys, texts = (list(dict.fromkeys(part)) for part in zip(*pairs, strict=True))
    how = {"batch_size": batch_size, "normalize_embeddings": True, "convert_to_numpy": True, "show_progress_bar": True}
    queries, documents = (
        np.asarray(teacher.encode_query(keys, **how)),
        np.asarray(teacher.encode_document(texts, **how)),
    )
    number_of = [{value: number for number, value in enumerate(part)} for part in (keys, texts)]
    query, document = (np.array([number_of[part][pair[part]] for pair in pairs]) for part in (0, 1))
    parts = [
        np.einsum("pd,pd->p", queries[query[at]], documents[document[at]])
        for start in range(0, len(pairs), _AT_ONCE)
        for at in [slice(start, start + _AT_ONCE)]
    ]
    return np.concatenate(parts).astype(np.float32)
