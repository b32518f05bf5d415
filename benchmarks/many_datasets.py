"""Seconds until `inspect=true` has looked at many small datasets of all tasks, in csv and jsonl.

python benchmarks/many_datasets.py --datasets 200 --rows 300      (MiniLM of the quickstart extra)

The first run checks and stores the rows; the second finds them in the cache.
"""

import argparse
import csv
import json
import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

_WORDS = [f"{a}{b}" for a in ("ba", "co", "du", "fi", "ga", "lo") for b in ("rin", "tel", "mas", "nor", "pik", "sul")]
_TASKS = ("retrieval", "sts", "classification", "clustering")


def write(folder: Path, datasets: int, rows: int) -> None:
    """Write `folder/data/many.yaml`, and a file of rows for each dataset."""
    draw = random.Random(0)
    lines = ["defaults:", "  - schema/data@_here_", "datasets:"]
    for number in range(datasets):
        task, suffix = _TASKS[number % 4], ("jsonl", "csv")[number // 4 % 2]
        file = folder / f"rows/d{number}.{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        made = [_row(task, draw) for _ in range(rows)]
        if suffix == "jsonl":
            file.write_text("".join(json.dumps(row) + "\n" for row in made))
        else:
            with file.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, made[0])
                writer.writeheader()
                writer.writerows(made)
        lines += [f"  d{number}:", f"    task: {task}", f"    path: {file}", "    batch_size: 32"]
        lines += ["    score_range: [0, 5]"] if task == "sts" else []
    (folder / "data").mkdir()
    (folder / "data/many.yaml").write_text("\n".join(lines) + "\n")


def _row(task: str, draw: random.Random) -> dict[str, object]:
    def text() -> str:
        return " ".join(draw.choices(_WORDS, k=draw.randint(6, 20)))

    if task == "retrieval":
        return {"anchor": text(), "positive": text(), "negative": text()}
    if task == "sts":
        return {"sentence1": text(), "sentence2": text(), "score": round(draw.uniform(0, 5), 1)}
    return {"text": text(), "label": draw.choice("abcd")}


def main() -> None:
    """Print the seconds of two runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", type=int, default=200)
    parser.add_argument("--rows", type=int, default=300)
    given = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, given.datasets, given.rows)
        environment = {**os.environ, "LIGHTNING_EMBED_CACHE": str(folder / "cache")}
        command = [sys.executable, "-m", "lightning_embed", "--config-dir", name, "data=many", "inspect=true"]
        for when in ("first", "again"):
            begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
            after, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - begin
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(
                f"{when}: {given.datasets} datasets, {clock:.1f} s on the clock, {cpu:.1f} s of processors", flush=True
            )


if __name__ == "__main__":
    main()
