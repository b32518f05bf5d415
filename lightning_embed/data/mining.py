"""Hard-negative mining: documents of a dataset that a model ranks high for a query, written as a file of rows."""

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from datasets import Dataset

from lightning_embed.data.options import Format, MiningOptions
from lightning_embed.data.readers import read_rows
from lightning_embed.data.row_groups import Rows
from lightning_embed.errors import ConfigError, DataError
from lightning_embed.runtime.seeding import derive_seed
from lightning_embed.storage.publish import discard, published_file
from lightning_embed.types import Task

_SCORES_AT_ONCE = 2**26  # scores of queries and documents in memory at a time: 256 MiB


def mine(
    rows: Rows,
    model_path: Path,
    options: MiningOptions,
    target: Path,
    *,
    query_prompt: str = "",
    document_prompt: str = "",
    seed: int = 0,
) -> Path:
    """Add hard negatives to retrieval rows with sentence-transformers' miner; the order of rows is kept.

    The corpus is all positives and negatives of the rows. Mined negatives follow the existing ones of a row; none is a
    positive of the same query in any row. All texts are in memory, unlike in training.

    Args:
        rows: the rows to mine for.
        model_path: sentence-transformers directory of the scoring model.
        options: the criteria of negatives.
        target: the .jsonl file, written atomically; a valid `path` of a dataset.
        query_prompt: prompt of queries.
        document_prompt: prompt of documents.
        seed: seed of sampling_strategy=random.

    Raises:
        ConfigError: the rows are not of a retrieval dataset.
        DataError: no negative was found for any query.
    """
    if rows.options.task is not Task.retrieval:
        raise ConfigError(
            f"mining.datasets: expected retrieval datasets, got {rows.name}, which is {rows.options.task}: only "
            "queries have hard negatives. Leave it out."
        )
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    corpus = list(dict.fromkeys(text for r in rows.table for text in (*r["positives"], *r["negatives"])))
    random.seed(derive_seed(seed, "mining", rows.name))  # the miner uses Python's global generator
    pairs = mine_hard_negatives(
        _pairs(rows),
        SentenceTransformer(str(model_path)),
        corpus=corpus,
        query_prompt=query_prompt,
        corpus_prompt=document_prompt,
        output_format="labeled-pair",
        verbose=False,
        faiss_batch_size=max(1, _SCORES_AT_ONCE // len(corpus)),
        **{word: value for word, value in asdict(options).items() if word != "datasets"},
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
    _write(target, (_row(record, mined.get(record["query"], [])) for record in rows.table))
    return target


def read_mined(rows: Rows, file: Path, cache: Path) -> Rows:
    """Read the file that `mine` wrote for `rows`, independent of the format of the dataset's own files."""
    table = read_rows(file, replace(rows.options, format=Format.rows, columns={}, ignore_columns=[]), cache)
    return Rows(rows.name, rows.options, table)


def _pairs(rows: Rows) -> Dataset:
    pairs = [(record["query"], positive) for record in rows.table for positive in record["positives"]]
    return Dataset.from_dict({"query": [q for q, _ in pairs], "document": [d for _, d in pairs]})


def _row(record: Mapping[str, Any], mined: Sequence[str]) -> dict[str, Any]:
    """The row with mined negatives after its own; the new ones have no score of a teacher."""
    known = {record["query"], *record["positives"], *record["negatives"]}
    own = _folded(record["query"])  # the query itself is a document in symmetric data
    new = [text for text in dict.fromkeys(mined) if text not in known and _folded(text) != own]
    row = {**record, "negatives": [*record["negatives"], *new]}
    if record["negative_scores"] is not None:
        row["negative_scores"] = [*record["negative_scores"], *[None] * len(new)]
    return {column: value for column, value in row.items() if value is not None}


def _folded(text: str) -> str:
    """The text without its case and its white space."""
    return "".join(text.casefold().split())


def _write(target: Path, rows: Iterator[Mapping[str, Any]]) -> None:
    discard(target)
    with published_file(target) as partial, partial.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
