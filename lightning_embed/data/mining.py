"""Hard-negative mining: documents of a dataset that a model ranks high for a query, written as a file of rows."""

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import Dataset

from lightning_embed.data.collator import RowPrompts
from lightning_embed.data.mining_models import Embedder, Scorer, open_cross_encoder, open_embedder
from lightning_embed.data.mining_options import MiningOptions, Teacher
from lightning_embed.data.options import Format
from lightning_embed.data.readers import read_rows
from lightning_embed.data.row_groups import Rows
from lightning_embed.data.teacher_scores import scored
from lightning_embed.errors import ConfigError, DataError
from lightning_embed.runtime.seeding import derive_seed
from lightning_embed.storage.publish import discard, published_file
from lightning_embed.types import Task

_CRITERIA = (
    "num_negatives", "range_min", "range_max", "max_score", "min_score", "absolute_margin", "relative_margin",
    "sampling_strategy", "batch_size",
)  # fmt: skip
_SCORES_AT_ONCE = 2**26  # scores of queries and documents in memory at a time: 256 MiB


def mine(
    rows: Rows,
    model_path: str | Path,
    options: MiningOptions,
    target: Path,
    *,
    query_prompt: str | None = None,
    document_prompt: str | None = None,
    seed: int = 0,
    device: str | None = None,
) -> Path:
    """Add hard negatives to retrieval rows with sentence-transformers' miner; the order of rows is kept.

    The corpus is all positives and negatives of the rows. Mined negatives follow the existing ones of a row; none is a
    positive of the same query (with the same prompt of its own) in any row. All texts are in memory, unlike in training.
    Texts are cut at the lengths of the dataset's options. With `cross_encoder`, margins, max_score and min_score are of
    its scores.

    Args:
        rows: the rows to mine for.
        model_path: directory or hub name of the embedding model that finds the candidates.
        options: the criteria of negatives.
        target: the .jsonl file, written atomically; a valid `path` of a dataset.
        query_prompt: prompt of queries without their own; None: that of the model.
        document_prompt: prompt of documents; None: that of the model.
        seed: seed of sampling_strategy=random.
        device: of the models; None: a GPU, if there is one.

    Raises:
        ConfigError: the rows are not of a retrieval dataset.
        DataError: no negative was found for any query.
    """
    if rows.options.task is not Task.retrieval:
        raise ConfigError(
            f"mining.datasets: expected retrieval datasets, got {rows.name}, which is {rows.options.task}: only "
            "queries have hard negatives. Leave it out."
        )
    from sentence_transformers.util import mine_hard_negatives

    corpus = list(dict.fromkeys(text for r in rows.table for text in (*r["positives"], *r["negatives"])))
    random.seed(derive_seed(seed, "mining", rows.name))  # the miner uses Python's global generator
    own = {_key(record): record for record in rows.table}
    given = {name: getattr(options, name) for name in _CRITERIA}
    cross = None
    if options.cross_encoder is not None and options.is_filtered:
        cross = Scorer(open_cross_encoder(options.cross_encoder, device), own)
    pairs = mine_hard_negatives(
        _pairs(rows),
        _embedder(model_path, rows, device, query_prompt, document_prompt),
        corpus=corpus,
        cross_encoder=cross,
        output_format="labeled-pair",
        verbose=False,
        faiss_batch_size=max(1, _SCORES_AT_ONCE // len(corpus)),
        **given,
    )
    mined: dict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        if not pair["label"]:
            mined[pair["query"]].append(pair["document"])
    if not mined:
        raise DataError(
            f"{rows.name}: mining found no negative for any query among {len(corpus)} documents. Widen the margins, "
            "max_score or range_min of mining."
        )
    _write(target, (_row(record, mined.get(_key(record), [])) for record in rows.table))
    return target


def score(rows: Rows, options: MiningOptions, target: Path, *, device: str | None = None) -> Path:
    """Write the rows with the scores of a teacher: of `options.cross_encoder`, or of `options.model`.

    Args:
        rows: retrieval rows, with their negatives.
        options: which teacher.
        target: the .jsonl file, written atomically.
        device: of the teacher; None: a GPU, if there is one.

    Raises:
        DataError: the scores rank nothing.
    """
    teacher: Scorer | Embedder
    if options.scores == Teacher.cross_encoder:
        assert options.cross_encoder is not None, "see MiningOptions"
        own = {_key(record): record for record in rows.table}
        teacher = Scorer(open_cross_encoder(options.cross_encoder, device), own)
    else:
        assert options.model is not None, "see MiningOptions"
        teacher = _embedder(options.model, rows, device, None, None)
    keyed = [(_key(record), record) for record in rows.table]
    _write(target, map(_without_none, scored(rows.name, keyed, teacher, options.batch_size)))
    return target


def _embedder(
    path: str | Path, rows: Rows, device: str | None, query_prompt: str | None, document_prompt: str | None
) -> Embedder:
    """The model, with these prompts, or its own."""
    prompts = None
    if query_prompt is not None and document_prompt is not None:
        prompts = RowPrompts(query_prompt, document_prompt)
    return Embedder(open_embedder(path, device), rows.options, prompts, {_key(r): r for r in rows.table})


def read_mined(rows: Rows, file: Path, cache: Path) -> Rows:
    """Read the file that `mine` wrote for `rows`, independent of the format of the dataset's own files."""
    table = read_rows(file, replace(rows.options, format=Format.rows, columns={}, ignore_columns=[]), cache)
    return Rows(rows.name, rows.options, table)


def _pairs(rows: Rows) -> Dataset:
    pairs = [(_key(record), positive) for record in rows.table for positive in record["positives"]]
    return Dataset.from_dict({"query": [q for q, _ in pairs], "document": [d for _, d in pairs]})


def _key(record: Mapping[str, Any]) -> str:
    """The query of a row; with a prompt of its own, which makes it another query, both."""
    prompt = record.get("prompt")
    return str(record["query"]) if prompt is None else json.dumps([prompt, record["query"]])


def _row(record: Mapping[str, Any], mined: Sequence[str]) -> dict[str, Any]:
    """The row with mined negatives after its own; the new ones have no score of a teacher."""
    known = {record["query"], *record["positives"], *record["negatives"]}
    own = _folded(record["query"])  # the query itself is a document in symmetric data
    new = [text for text in dict.fromkeys(mined) if text not in known and _folded(text) != own]
    row = {**record, "negatives": [*record["negatives"], *new]}
    if record["negative_scores"] is not None:
        row["negative_scores"] = [*record["negative_scores"], *[None] * len(new)]
    return _without_none(row)


def _without_none(row: Mapping[str, Any]) -> dict[str, Any]:
    return {column: value for column, value in row.items() if value is not None}


def _folded(text: str) -> str:
    """The text without its case and its white space."""
    return "".join(text.casefold().split())


def _write(target: Path, rows: Iterator[Mapping[str, Any]]) -> None:
    discard(target)
    with published_file(target) as partial, partial.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
