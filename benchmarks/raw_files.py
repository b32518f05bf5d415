"""Six files as people have them, into a merged model: written from real data, trained on by one command, measured on held-out rows.

python benchmarks/raw_files.py ../shared/data --folder /tmp/raw      (MiniLM of the quickstart extra; minutes)
python benchmarks/raw_files.py ../shared/data --folder /tmp/raw inspect=true      (overrides of train.py)

An FAQ as csv with ids, a parquet of pairs scored 0 to 100, labels as tsv, a folder of save_to_disk, FlagEmbedding's jsonl
and a folder of BEIR, each with test rows that share no document with its train rows. The options of the data, in the
folder's conf/data/raw.yaml, are those of docs/own-data.md. Prints base, experts and merged model. Exit status 1: the
merged model is not above the base in the mean over tasks.
"""

import argparse
import csv
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

from datasets import Dataset, DatasetDict

Row = dict[str, Any]

CONFIG = """\
defaults:
  - schema/data@_here_
datasets:
  questions:
    task: retrieval
    path: {folder}/faq.csv
    test: {folder}/faq-test.csv
    columns: {{query: question, positives: answer}}
  pairs:
    task: sts
    path: {folder}/pairs.parquet
    test: {folder}/pairs-test.parquet
    score_range: [0, 100]
  intents:
    task: classification
    path: {folder}/intents.tsv
    test: {folder}/intents-test.tsv
    num_negatives: 7
  saved:
    task: retrieval
    path: {folder}/saved
  flag:
    task: retrieval
    path: {folder}/flag.jsonl
    test: {folder}/flag-test.jsonl
  judged:
    task: retrieval
    path: {folder}/beir
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the real data")
    parser.add_argument("--folder", type=Path, required=True, help="where the files, and the run in it, are written")
    parser.add_argument("--rows", type=int, default=600, help="train rows of each set; a third as many test rows")
    chosen, overrides = parser.parse_known_args()
    write(chosen.data, chosen.folder, chosen.rows)
    out = (
        chosen.folder / f"run-{crc32(repr((chosen.rows, overrides)).encode()):08x}"
    )  # with other overrides, another run
    command = [sys.executable, "train.py", "--config-dir", str(chosen.folder / "conf"), "data=raw", f"out={out}"]
    subprocess.run([*command, *overrides], check=True, cwd=Path(__file__).parent.parent)
    if not (out / "results.json").exists():  # inspect=true
        return 0
    models = json.loads((out / "results.json").read_text(encoding="utf-8"))["models"]
    scores = {model: mean_of_tasks(found["test"]) for model, found in models.items()}
    base, merged = scores["base"], max(score for model, score in scores.items() if model.startswith("soup"))
    print(f"mean over tasks, held-out rows: base {base:.2f}, merged {merged:.2f}")
    return int(merged <= base)


def write(data: Path, folder: Path, count: int) -> None:
    """All six sets, and the options of the data."""
    (folder / "conf/data").mkdir(parents=True, exist_ok=True)
    (folder / "conf/data/raw.yaml").write_text(CONFIG.format(folder=folder.resolve()))
    for set_name, writer in WRITERS.items():
        rows = [json.loads(line) for line in (data / set_name / "train.jsonl").open(encoding="utf-8")]
        random.Random(0).shuffle(rows)
        train, test = held_out(rows, count)
        writer(folder, train, test)
    held_out_pairs = [json.loads(line) for line in (data / "stsb/test.jsonl").open(encoding="utf-8")][:count]
    pairs(held_out_pairs).to_parquet(str(folder / "pairs-test.parquet"))


def held_out(rows: Sequence[Row], count: int) -> tuple[list[Row], list[Row]]:
    """Train rows, and later ones that share no query and no positive with them."""
    train = list(rows[:count])
    seen = {text for row in train for text in texts(row)}
    test = [row for row in rows[count:] if not seen & set(texts(row))]
    return train, test[: max(count // 3, 60)]


def texts(row: Row) -> list[str]:
    return [row["query"], *row["positives"]] if "query" in row else [row.get("text") or row["text1"]]


def table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]], delimiter: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])


def faq(folder: Path, train: Sequence[Row], test: Sequence[Row]) -> None:
    """id,question,answer"""
    for name, rows in {"faq": train, "faq-test": test}.items():
        cells = [(f"FAQ-{number}", row["query"], row["positives"][0]) for number, row in enumerate(rows)]
        table(folder / f"{name}.csv", ("id", "question", "answer"), cells, ",")


def pairs(rows: Sequence[Row]) -> Dataset:
    """sentence1, sentence2, score from 0 to 100"""
    return Dataset.from_list(
        [{"sentence1": row["text1"], "sentence2": row["text2"], "score": 20.0 * row["score"]} for row in rows]
    )


def scored_pairs(folder: Path, train: Sequence[Row], _: Sequence[Row]) -> None:
    """Train pairs alone: the set has its own test."""
    pairs(train).to_parquet(str(folder / "pairs.parquet"))


def labels(folder: Path, train: Sequence[Row], test: Sequence[Row]) -> None:
    """text TAB label"""
    for name, rows in {"intents": train, "intents-test": test}.items():
        table(folder / f"{name}.tsv", ("text", "label"), [(row["text"], row["label"]) for row in rows], "\t")


def saved(folder: Path, train: Sequence[Row], test: Sequence[Row]) -> None:
    """A DatasetDict of anchor, positive, negative"""
    splits = {
        split: Dataset.from_list(
            [
                {"anchor": r["query"], "positive": r["positives"][0], "negative": r["negatives"][0]}
                for r in rows
                if r["negatives"]
            ]
        )
        for split, rows in {"train": train, "test": test}.items()
    }
    DatasetDict(splits).save_to_disk(str(folder / "saved"))


def flag(folder: Path, train: Sequence[Row], test: Sequence[Row]) -> None:
    """query, pos, neg, and the columns that FlagEmbedding's scripts add"""
    for name, rows in {"flag": train, "flag-test": test}.items():
        lines = [{"query": r["query"], "pos": r["positives"], "neg": r["negatives"], "type": "normal"} for r in rows]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def beir(folder: Path, train: Sequence[Row], test: Sequence[Row]) -> None:
    """corpus.jsonl, queries.jsonl, qrels/train.tsv, qrels/test.tsv with judged documents of both kinds"""
    documents: dict[str, str] = {}
    queries: list[Row] = []
    (folder / "beir/qrels").mkdir(parents=True, exist_ok=True)
    for part, rows in {"train": train, "test": test}.items():
        judged = []
        for row in rows:
            queries.append({"_id": f"q{len(queries)}", "text": row["query"], "metadata": {}})
            for grade, found in ((1, row["positives"]), (0, row["negatives"])):
                keys = dict.fromkeys(documents.setdefault(text, f"d{len(documents)}") for text in found)
                judged += [(queries[-1]["_id"], key, grade) for key in keys]
        graded = {(query, key): grade for query, key, grade in reversed(judged)}
        table(
            folder / f"beir/qrels/{part}.tsv",
            ("query-id", "corpus-id", "score"),
            [(*k, g) for k, g in graded.items()],
            "\t",
        )
    corpus = [{"_id": key, "title": "", "text": text, "metadata": {}} for text, key in documents.items()]
    for name, lines in {"corpus": corpus, "queries": queries}.items():
        (folder / f"beir/{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


WRITERS: dict[str, Callable[[Path, Sequence[Row], Sequence[Row]], None]] = {
    "medquad": faq,
    "stsb": scored_pairs,
    "banking77": labels,
    "snli": saved,
    "squad": flag,
    "wikiqa": beir,
}


def mean_of_tasks(scores: dict[str, Any]) -> float:
    """The mean over retrieval, sts and classification of the mean of their tests."""
    by_task: dict[str, list[float]] = {}
    for test in scores.values():
        by_task.setdefault(test["task"], []).append(test["score"])
    return sum(sum(each) / len(each) for each in by_task.values()) / len(by_task)


if __name__ == "__main__":
    sys.exit(main())
