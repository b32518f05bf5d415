"""Relevance judgements: `qrels.tsv` of BEIR, of TREC, or of neither, with or without a header."""

import re
from collections import defaultdict
from collections.abc import Container
from pathlib import Path

from lightning_embed.data.text_lines import text_lines
from lightning_embed.errors import DataError

Qrels = dict[str, dict[str, int]]

_HEADER = {"score", "relevance", "rel", "label", "grade", "judgement", "judgment", "relevancy"}
_GRADE = re.compile(r"([+-]?[0-9]{1,6})(\.0*)?", re.ASCII)


def read_qrels(file: Path, queries: Container[str], documents: Container[str]) -> Qrels:
    """Query id -> document id -> relevance; blank lines are skipped.

    A line is query TAB document TAB relevance, or TREC's query, iteration, document and relevance; without any tab,
    spaces separate. A relevance may be 1.0 or negative (TREC: not relevant); one of 0 or below counts as not relevant.

    Args:
        file: the file.
        queries: known ids of queries.
        documents: known ids of documents.

    Raises:
        DataError: a line in a different format; an id that does not exist; a pair with two relevances.
    """
    qrels: Qrels = defaultdict(dict)
    lines: dict[tuple[str, str], int] = {}
    for number, (where, line) in enumerate(text_lines(file, "one judgement per line"), 1):
        if not line.strip() or (number == 1 and _fields(line)[-1].casefold() in _HEADER):
            continue
        pair, grade = _judgement(line, where, queries, documents)
        if qrels[pair[0]].setdefault(pair[1], grade) != grade:
            raise DataError(
                f"{file}: lines {lines[pair]} and {number}: query {pair[0]!r} and document {pair[1]!r} have two "
                f"relevances, {qrels[pair[0]][pair[1]]} and {grade}. Remove one line."
            )
        lines.setdefault(pair, number)
    return dict(qrels)


def _fields(line: str) -> list[str]:
    text = line.strip("\r\n")
    return text.split("\t") if "\t" in text else text.split()


def _judgement(
    line: str, where: str, queries: Container[str], documents: Container[str]
) -> tuple[tuple[str, str], int]:
    fields = _fields(line)
    grade = _GRADE.fullmatch(fields[-1].strip())
    if len(fields) not in (3, 4) or grade is None:
        raise DataError(
            f"{where}: expected query TAB document TAB relevance (a whole number), or TREC's four columns, got "
            f"{line.strip()[:200]!r}."
        )
    query, document = _known(fields[0], queries), _known(fields[-2], documents)
    if query not in queries or document not in documents:
        missing = f"query {query!r}" if query not in queries else f"document {document!r}"
        raise DataError(f"{where}: no {missing}.")
    return (query, document), int(grade[1])


def _known(field: str, ids: Container[str]) -> str:
    return field if field in ids else field.strip()
