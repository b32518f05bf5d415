"""Train rows of a folder of BEIR: queries with their relevant documents; those judged not relevant are negatives."""

from collections.abc import Iterator
from pathlib import Path

from lightning_embed.data.corpus import Corpus, documents, texts_file
from lightning_embed.data.file_access import readable
from lightning_embed.data.qrels import read_qrels
from lightning_embed.data.records import Record, parts_of
from lightning_embed.data.sources import Source
from lightning_embed.errors import DataError
from lightning_embed.storage.checksum import sha256


def of_qrels(qrels: Path, folder: Path, cache: Path) -> Source:
    """The rows of qrels/train.tsv: {query, positives, negatives}. A query without a relevant document is no row.

    Raises:
        DataError: a file that cannot be read.
    """
    corpus, queries = Corpus(texts_file(folder, "corpus"), cache), texts_file(folder, "queries")
    with readable(queries), readable(qrels):
        content = f"{corpus.content} {sha256(queries)} {sha256(qrels)}"
    return Source(str(qrels), content, [lambda: parts_of(_rows(qrels, queries, corpus))])


def _rows(qrels: Path, queries: Path, corpus: Corpus) -> Iterator[Record]:
    texts: dict[str, str] = {}
    for where, key, _, text in documents(queries):
        if key in texts:
            raise DataError(f"{where}: a second query has the id {key!r}. Remove one, or rename it.")
        texts[key] = text
    for query, judged in read_qrels(qrels, texts, corpus).items():
        found = {document: corpus.text(document) for document in judged}
        if not any(grade > 0 for grade in judged.values()):
            continue
        yield (
            f"{qrels}: query {query!r}",
            {
                "query": texts[query],
                "positives": [found[document] for document, grade in judged.items() if grade > 0],
                "negatives": [found[document] for document, grade in judged.items() if grade <= 0],
            },
        )
