"""encode() beside SentenceTransformer.encode: texts of mixed lengths, the same model and precision, in one run.

python benchmarks/encoding.py ../shared/data [--texts 1000] [--dtypes float32 bfloat16] [--rounds 5] [--out encoding.json]

Of squad's questions and paragraphs, snli's sentences and medquad's answers equally many, each text once, in random order,
at 256 tokens; sentence-transformers at its default batch of 32. The two sides are processes that take turns; medians after
a warm-up. The floor is the work of a forward pass, 2 x parameters x tokens + 4 x layers x dimensions x squared lengths,
at the speed of the machine's matrix products (training.py).
"""

import argparse
import json
import random
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from machine import machine_line
from rich.console import Console
from side_by_side import Worker, alternate, model_path, show

SIDES = {"ours": "encode ours", "theirs": "encode theirs"}


def mixed_texts(data: Path, count: int) -> list[str]:
    """Texts of four kinds, shuffled."""
    kinds: dict[tuple[str, str], dict[str, None]] = {}
    for name, keys in {"squad": ("query", "positives"), "snli": ("query",), "medquad": ("positives",)}.items():
        rows = [json.loads(line) for line in (data / name / "train.jsonl").open(encoding="utf-8")]
        random.Random(0).shuffle(rows)
        for key in keys:
            kinds[name, key] = dict.fromkeys(row[key] if key == "query" else row[key][0] for row in rows)
    texts = [text for kind in kinds.values() for text in islice(kind, count // len(kinds))]
    random.Random(0).shuffle(texts)
    return texts


def main() -> None:
    """Run both sides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with squad/, snli/ and medquad/")
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("encoding.json"))
    given = parser.parse_args()
    measured = []
    with TemporaryDirectory() as folder:
        texts = Path(folder, "texts.json")
        texts.write_text(json.dumps(mixed_texts(given.data, given.texts)))
        for dtype in given.dtypes:
            case = {
                "model": model_path(),
                "max_length": 256,
                "texts": str(texts),
                "turns": given.rounds + 1,
                "dtype": dtype,
            }
            workers = {name: Worker(side, case) for name, side in SIDES.items()}
            measured.append(alternate(workers, case["model"], dtype, given.rounds, work=1 / 3))
    given.out.write_text(json.dumps(measured, indent=1))
    console = Console(width=120)
    console.print(machine_line(), highlight=False)
    show(console, f"encode(), {given.texts:,} texts of mixed lengths", measured)


if __name__ == "__main__":
    main()
