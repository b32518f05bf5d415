"""Training steps beside sentence-transformers' trainer: the same model, rows, order, loss and precision, in one run.

python benchmarks/training.py ../shared/data [--cases squad snli mixed cached] [--dtypes float32 bfloat16]
    [--rounds 5] [--out training.json]

Each side is a process of its own: our Lightning trainer as train.py builds it, and SentenceTransformerTrainer. They take
turns step by step, so a drifting machine hits both. A step is timed whole, with the fetch of the next batch.

First, with the dropout of the model off and in float32, the losses of three steps must agree to 1e-3. Then, dropout on,
medians of the rounds after a warm-up. No text occurs twice, so that running distinct texts once gains us nothing here.

The floor of a step is the work of its real tokens at the speed of the machine's matrix products: (6 x parameters that
are no embeddings x tokens + 12 x layers x dimensions x sum of squared lengths) / rate, rate the best of ten products of
2048 x 4096 by 4096 x 4096 in the same dtype and threads, measured between the rounds.
"""

import argparse
import json
import math
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from machine import machine_line
from rich.console import Console
from side_by_side import Worker, alternate, model_path, show

DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")
CHECKED_STEPS = 3


@dataclass(frozen=True)
class Case:
    """What is trained.

    Args:
        title: for people.
        datasets: rows of a batch, by folder of the data.
        max_length: tokens of a text at most.
        steps: of ours that are timed: plain, cached, partial.
        their_steps: of theirs.
    """

    title: str
    datasets: dict[str, int]
    max_length: int
    steps: tuple[str, ...] = ("plain",)
    their_steps: tuple[str, ...] = ("plain",)


CASES = {
    "squad": Case("squad, 32 rows with a negative, 256 tokens", {"squad": 32}, 256),
    "snli": Case("snli, 64 rows with a negative, 64 tokens", {"snli": 64}, 64),
    "mixed": Case("squad and sickr in turn, 32 rows each, 256 tokens", {"squad": 32, "sickr": 32}, 256),
    "cached": Case(
        "snli, 512 rows with a negative, 64 tokens",
        {"snli": 512},
        64,
        ("plain", "cached", "partial"),
        ("plain", "cached"),
    ),
}


def write_case(case: Case, data: Path, folder: Path, steps: int) -> None:
    """Files of distinct texts, and the config group that names them."""
    lines = ["defaults: [schema/data@_here_]", "root: null", "datasets:"]
    for name, batch in case.datasets.items():
        rows = [json.loads(line) for line in (data / name / "train.jsonl").open(encoding="utf-8")]
        random.Random(0).shuffle(rows)
        kept: list[dict[str, Any]] = []
        seen: set[str] = set()
        for row in rows:
            if "negatives" in row:
                row = {"query": row["query"], "positives": row["positives"][:1], "negatives": row["negatives"][:1]}
                texts = [row["query"], *row["positives"], *row["negatives"]]
                if not row["negatives"]:
                    continue
            else:
                texts = [row["text1"], row["text2"]]
            if len(set(texts)) == len(texts) and not seen & set(texts):
                seen |= set(texts)
                kept.append(row)
            if len(kept) == batch * (steps + 2):
                break
        (folder / name).mkdir(parents=True)
        (folder / name / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        task = "retrieval" if "negatives" in kept[0] else "sts, score_range: [1, 5]"
        lines.append(f"  {name}: {{path: {folder / name}, task: {task}, batch_size: {batch}, dev_share: 0.0}}")
    (folder / "data").mkdir()
    (folder / "data" / "side_by_side.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def without_dropout(model: str, folder: Path) -> str:
    """A copy of the model whose config has no dropout."""
    copy = folder / "without_dropout"
    if not copy.exists():
        shutil.copytree(model, copy)
        file = copy / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | dict.fromkeys(DROPOUTS, 0.0)))
    return str(copy)


def check(case: Case, shared: dict[str, Any], model: str, folder: Path) -> list[list[float]]:
    """The losses of the first steps without dropout; they must agree."""
    losses = []
    for side in ("ours", "theirs"):
        given = shared | {"dtype": "float32", "model": without_dropout(model, folder.parent), "step": "plain"}
        worker = Worker(side, given)
        worker.ready()
        losses.append([report["loss"] for report in worker.turn(CHECKED_STEPS)])
        worker.stop()
    for one, other in zip(*losses, strict=True):
        if abs(one - other) > 1e-3:
            raise SystemExit(f"{case.title}: the losses differ: {losses}")
    return losses


def measure(case: Case, shared: dict[str, Any], dtype: str, rounds: int) -> dict[str, Any]:
    """Median reports of all sides, which take turns, with the floor and the rate."""
    sides = [[("ours", step) for step in case.steps], [("theirs", step) for step in case.their_steps]]
    # Five sides of large batches do not fit the memory at a time.
    together = [[*sides[0], *sides[1]]] if len(case.steps) == 1 else sides
    result: dict[str, Any] = {}
    for some in together:
        workers = {" ".join(side): Worker(side[0], shared | {"dtype": dtype, "step": side[1]}) for side in some}
        result |= alternate(workers, shared["model"], dtype, rounds, len(case.datasets))
    return result


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with squad/, snli/ and sickr/")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("training.json"))
    given = parser.parse_args()
    console, model = Console(width=120), model_path()
    console.print(machine_line(), highlight=False)
    everything: dict[str, Any] = {}
    with TemporaryDirectory() as temporary:
        for word in given.cases:
            case, folder = CASES[word], Path(temporary) / word
            steps = max(CHECKED_STEPS, (given.rounds + 2)) * len(case.datasets)
            write_case(case, given.data, folder, steps)
            shared = {"config": str(folder), "model": model, "max_length": case.max_length, "steps": steps}
            Worker("rows", shared | {"dtype": "float32", "step": "plain"}).finish()
            losses = check(case, shared, model, folder)
            console.print(f"losses of {CHECKED_STEPS} steps without dropout, ours and theirs: {losses}")
            measured = [measure(case, shared, dtype, given.rounds) for dtype in given.dtypes]
            everything[word] = {"title": case.title, "losses": losses, "measured": measured}
            show(console, case.title, measured)
            given.out.write_text(json.dumps(everything, indent=1))
    plain = [
        {
            result["dtype"]: (result["ours plain"]["seconds"], result["theirs plain"]["seconds"])
            for result in case["measured"]
        }
        for word, case in everything.items()
    ]
    for dtype in given.dtypes:
        ratios = [case[dtype][1] / case[dtype][0] for case in plain]
        console.print(
            f"{dtype}: geometric mean of theirs / ours {math.exp(sum(map(math.log, ratios)) / len(ratios)):.2f}"
        )
    if {"float32", "bfloat16"} <= set(given.dtypes):
        ratios = [case["float32"][1] / case["bfloat16"][0] for case in plain]
        console.print(f"theirs in float32 / ours in bfloat16: {math.exp(sum(map(math.log, ratios)) / len(ratios)):.2f}")


if __name__ == "__main__":
    main()
