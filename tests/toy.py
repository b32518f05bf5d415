"""Sentences of the tiny tokenizer's words, as files of two tasks: enough to train on for a few steps."""

import json
import random
from pathlib import Path

NOUNS = ["cat", "dog", "bird", "house", "river", "road", "city", "king", "queen"]
VERBS = ["eats", "sees", "likes", "runs", "sleeps"]
COLOURS = ["red", "blue", "green", "small", "big", "old"]


def write_toy(folder: Path, rows: int = 48) -> Path:
    """Write `folder/pairs` (retrieval) and `folder/scores` (sts), each with train, dev and test."""
    draw = random.Random(7)

    def sentence() -> str:
        return f"the {draw.choice(COLOURS)} {draw.choice(NOUNS)} {draw.choice(VERBS)} the {draw.choice(NOUNS)} in {draw.randrange(10**6)}"

    for part, count in {"train": rows, "dev": 8, "test": 8}.items():
        pairs = [
            {"query": s, "positives": [f"{s} ."], "negatives": [sentence(), sentence()]}
            for s in (sentence() for _ in range(count))
        ]
        scores = [{"text1": sentence(), "text2": sentence(), "score": draw.random()} for _ in range(count)]
        for name, records in (("pairs", pairs), ("scores", scores)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / f"{part}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return folder
