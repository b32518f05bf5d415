"""An embedded data set that the project generates itself: real facts in many phrasings, nothing to download.

`facts` is a retrieval task, `phrases` an STS task. Train, dev and test speak about different entities, and one phrasing
of every list is heard in the test only.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from lightning_embed.data.sample.knowledge import Split
from lightning_embed.data.sample.retrieval import make_rows, make_test
from lightning_embed.data.sample.sts import make_pairs

__all__ = ["write_sample"]

SPLITS: Final[tuple[Split, ...]] = ("train", "dev", "test")


def write_sample(folder: Path) -> None:
    """Write both tasks below `folder`, the same bytes every time.

    `facts/` has train.jsonl, dev.jsonl and the test as corpus.jsonl, queries.jsonl, qrels.tsv; `phrases/` has
    train.jsonl, dev.jsonl and test.jsonl.
    """
    facts, phrases = folder / "facts", folder / "phrases"
    for split in SPLITS[:2]:
        _write_jsonl(facts / f"{split}.jsonl", make_rows(split))
    for split in SPLITS:
        _write_jsonl(phrases / f"{split}.jsonl", make_pairs(split))
    test = make_test()
    _write_jsonl(facts / "corpus.jsonl", ({"id": key, "text": text} for key, text in test["corpus"].items()))
    _write_jsonl(facts / "queries.jsonl", ({"id": key, "text": text} for key, text in test["queries"].items()))
    (facts / "qrels.tsv").write_text("".join(f"{query}\t{document}\t1\n" for query, document in test["qrels"]))


def _write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")
