"""The data of the evidence grid: small copies of the real sets, and further tests made of their label sets.

python benchmarks/evidence/sets.py ../shared/data /tmp/evidence

Train sets are copied; tests are cut as subset.py cuts them. Each label set's test also becomes a clustering test, and
that of banking77 a retrieval test: the query is a text, relevant are the other texts with its label.
"""

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

LABELS = ("banking77", "trec", "tweet_emotion")
TEXTS = 400  # of a test of labels
QUERIES, DOCUMENTS, PAIRS = 100, 400, 300


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a jsonl file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """One JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def search(rows: list[dict[str, Any]], target: Path, queries: int) -> None:
    """A retrieval test: queries that are no documents, and for each the documents with its label."""
    asked, documents = rows[:queries], rows[queries:]
    known = {row["label"] for row in documents}
    asked = [row for row in asked if row["label"] in known]
    write(target / "queries.jsonl", [{"id": f"q{n}", "text": row["text"]} for n, row in enumerate(asked)])
    write(target / "corpus.jsonl", [{"id": f"d{n}", "text": row["text"]} for n, row in enumerate(documents)])
    judged = [
        f"q{q}\td{d}\t1\n"
        for q, query in enumerate(asked)
        for d, document in enumerate(documents)
        if query["label"] == document["label"]
    ]
    (target / "qrels.tsv").write_text("".join(judged))


def main() -> None:
    """Make all sets in a new folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    given = parser.parse_args()
    sizes = [f"--queries={QUERIES}", f"--documents={DOCUMENTS}", f"--pairs={PAIRS}"]
    subset = Path(__file__).parent.parent / "subset.py"
    subprocess.run([sys.executable, str(subset), str(given.source), str(given.target), *sizes], check=True)
    for name in LABELS:
        rows = read(given.source / name / "test.jsonl")
        random.Random(name).shuffle(rows)
        write(given.target / name / "test.jsonl", rows[:TEXTS])
        write(given.target / f"{name}_groups" / "test.jsonl", rows[:TEXTS])
        if name == "banking77":  # the others have few labels, which nearly every document would have
            search(rows[: TEXTS + QUERIES], given.target / f"{name}_search", QUERIES)


if __name__ == "__main__":
    main()
