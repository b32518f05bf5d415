"""A small copy of a folder of datasets: all train rows, and so much of each dev and test set that a sweep takes minutes.

python benchmarks/subset.py ../shared/data /tmp/small --queries 200 --documents 500 --pairs 400

Of a retrieval test: `queries` of its queries, all documents relevant to them, and other documents up to `documents`. Of
an STS set: `pairs` of its pairs. Drawn with a fixed seed; scores are higher than on the whole sets, whose corpora are larger.
"""

import argparse
import json
import random
import shutil
from pathlib import Path


def cut_retrieval(source: Path, target: Path, queries: int, documents: int) -> None:
    """Copy a part of corpus, queries and judgements."""
    draw = random.Random(source.name)
    judged = [line.split("\t") for line in (source / "qrels.tsv").read_text().splitlines()]
    relevant: dict[str, list[str]] = {}
    for query, document, grade in judged:
        relevant.setdefault(query, []).extend([document] if int(grade) > 0 else [])
    answered = sorted(query for query, documents in relevant.items() if documents)
    chosen = set(draw.sample(answered, min(queries, len(answered))))
    needed = {document for query in chosen for document in relevant[query]}
    corpus = [json.loads(line) for line in (source / "corpus.jsonl").read_text().splitlines()]
    others = [row["id"] for row in corpus if row["id"] not in needed]
    kept = needed | set(draw.sample(others, min(len(others), max(0, documents - len(needed)))))
    rows = [json.loads(line) for line in (source / "queries.jsonl").read_text().splitlines()]
    write(target / "queries.jsonl", [row for row in rows if row["id"] in chosen])
    write(target / "corpus.jsonl", [row for row in corpus if row["id"] in kept])
    lines = ["\t".join(line) for line in judged if line[0] in chosen and line[1] in kept]
    (target / "qrels.tsv").write_text("\n".join(lines) + "\n")


def cut_rows(source: Path, target: Path, pairs: int) -> None:
    """Copy some lines, in their order."""
    lines = source.read_text().splitlines()
    chosen = sorted(random.Random(source.parent.name).sample(range(len(lines)), min(pairs, len(lines))))
    target.write_text("".join(f"{lines[i]}\n" for i in chosen))


def write(path: Path, rows: list[dict[str, str]]) -> None:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def main() -> None:
    """Copy all datasets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--documents", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=400)
    given = parser.parse_args()
    for folder in sorted(path for path in given.source.iterdir() if path.is_dir()):
        target = given.target / folder.name
        target.mkdir(parents=True)
        if (folder / "qrels.tsv").exists():
            cut_retrieval(folder, target, given.queries, given.documents)
        for part in ("dev", "test"):
            if (folder / f"{part}.jsonl").exists():
                cut_rows(folder / f"{part}.jsonl", target / f"{part}.jsonl", given.pairs)
        if (folder / "train.jsonl").exists():
            shutil.copyfile(folder / "train.jsonl", target / "train.jsonl")


if __name__ == "__main__":
    main()
