"""How a training step grows: seconds of a step against rows, length, tasks, workers and the tokens of a chunk; a picture.

python benchmarks/growth.py [--out growth.svg]

MiniLM of the quickstart extra, float32 and what `encoder.dtype=auto` takes here; random texts of random words. A step is
timed whole, in a run of our trainer, with the fetch of the next batch; medians of five steps. The dashed line is the
first point, grown like the work: tokens, and squared lengths in attention. Nothing should grow faster than that.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.table import Table

from lightning_embed.config import schema
from lightning_embed.encoder.options import Dtype
from lightning_embed.encoder.precision import compute_dtype
from lightning_embed.experts import Expert
from lightning_embed.run import build

STEPS = 6
USUAL = {"rows": 32, "length": 64, "tasks": 2, "workers": 0, "chunk": 4096}
SWEEPS = {
    "rows": [8, 16, 32, 64, 128],
    "length": [16, 32, 64, 128, 256],
    "tasks": [1, 2, 4, 8],
    "workers": [0, 1, 2],
    "chunk": [512, 1024, 2048, 4096, 8192, 16384],
}
LABELS = {
    "rows": "rows of a batch",
    "length": "tokens of a text",
    "tasks": "datasets",
    "workers": "workers",
    "chunk": "max_tokens",
}


class Clock(Callback):
    """Seconds from step to step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        """Note the time."""
        self.times.append(time.perf_counter())

    def on_train_end(self, *_: Any) -> None:
        """Note the time."""
        self.times.append(time.perf_counter())

    def seconds(self) -> float:
        """The median step, the first left out."""
        return median(after - before for before, after in zip(self.times[1:-1], self.times[2:], strict=True))


def texts(count: int, length: int) -> list[str]:
    """Texts of about `length` tokens."""
    words = [
        "time",
        "year",
        "people",
        "way",
        "day",
        "man",
        "thing",
        "woman",
        "life",
        "child",
        "world",
        "school",
        "state",
    ]
    draw = random.Random(length)
    return [" ".join(draw.choices(words, k=draw.randint(length // 2, length) - 2)) for _ in range(count)]


def seconds(dtype: str, rows: int, length: int, tasks: int, workers: int, chunk: int) -> float:
    """Median seconds of a step."""
    with tempfile.TemporaryDirectory() as folder:
        lines = ["defaults: [schema/data@_here_]", "root: null", "datasets:"]
        for number in range(tasks):
            made = texts(3 * rows * (STEPS + 1), length)
            table = [
                {"query": a, "positives": [b], "negatives": [c]}
                for a, b, c in zip(made[::3], made[1::3], made[2::3], strict=True)
            ]
            Path(folder, f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
            lines.append(
                f"  d{number}: {{train: {folder}/{number}.jsonl, task: retrieval, batch_size: {rows}, dev_share: 0.0}}"
            )
        Path(folder, "data").mkdir()
        Path(folder, "data", "growth.yaml").write_text("\n".join(lines) + f"\nnum_workers: {workers}\n")
        with initialize_config_dir(version_base="1.3", config_dir=str(schema.conf_folder())):
            cfg = compose(
                "train",
                [
                    f"hydra.searchpath=[file://{folder}]", "data=growth", "experts=joint", "logger=none", "sampler=round_robin",
                    f"trainer.max_steps={STEPS}", "trainer.enable_progress_bar=false", "trainer.limit_val_batches=0",
                    "trainer.accelerator=cpu", f"out={folder}/out", f"encoder.dtype={dtype}", f"encoder.max_tokens={chunk}",
                    "name=growth",
                ],
            )  # fmt: skip
        data = build.datasets(cfg)
        encoder = build.encoder(cfg, data.values())
        expert, clock = Expert("joint", dict.fromkeys(data)), Clock()
        batches = build.datamodule(cfg, data, encoder, expert)
        module = build.module(cfg, encoder, {name: rows.options for name, rows in batches.train_rows.items()}, expert)
        build.trainer(cfg, [], Path(folder, "checkpoints"), [clock]).fit(module, batches)
    return clock.seconds()


def work(rows: int, length: int) -> float:
    """Operations of a step, in a unit of their own: texts are evenly spread from half of `length` to `length`."""
    tokens, squares = 3 * rows * 0.75 * length, 3 * rows * length**2 * 7 / 12
    return 6 * 10.6e6 * tokens + 12 * 6 * 384 * squares


def draw(found: dict[str, dict[str, list[float]]], out: str) -> None:
    """One panel a sweep, with the growth of the work."""
    figure, axes = plt.subplots(1, len(SWEEPS), figsize=(15, 3.2), sharey=True, layout="constrained")
    for panel, (name, values) in zip(axes, SWEEPS.items(), strict=True):
        for dtype, sweeps in found.items():
            (line,) = panel.plot(values, [1 / s for s in sweeps[name]], marker="o", label=dtype)
            scale = [work(**{k: v for k, v in (USUAL | {name: x}).items() if k in ("rows", "length")}) for x in values]
            panel.plot(
                values, [scale[0] / sweeps[name][0] / s for s in scale], "--", color=line.get_color(), linewidth=0.8
            )
        panel.set(xlabel=LABELS[name], yscale="log")
        if name != "workers":
            panel.set_xscale("log", base=2)
        panel.set_xticks(values, [f"{value:,}" for value in values])
        panel.minorticks_off()
        panel.spines[["top", "right"]].set_visible(False)
    ticks = [0.25, 0.5, 1, 2, 4, 8, 16]
    axes[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes[0].set_ylabel("steps a second")
    axes[0].legend(frameon=False, title="dashed: as the work")
    figure.savefig(out)
    print(out)


def main() -> None:
    """Run all sweeps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="growth.svg")
    given = parser.parse_args()
    schema.register()
    auto = str(compute_dtype(Dtype.auto, torch.device("cpu"), training=True)).removeprefix("torch.")
    dtypes = dict.fromkeys(["float32", auto])
    found: dict[str, dict[str, list[float]]] = {dtype: {} for dtype in dtypes}
    table = Table("swept", "value", *(f"steps/s, {dtype}" for dtype in dtypes), box=None)
    for name, values in SWEEPS.items():
        for dtype in dtypes:
            found[dtype][name] = [seconds(dtype, **(USUAL | {name: value})) for value in values]
        for number, value in enumerate(values):
            table.add_row(LABELS[name], f"{value:,}", *(f"{1 / found[dtype][name][number]:.2f}" for dtype in dtypes))
    Console(width=120).print(table)
    draw(found, given.out)


if __name__ == "__main__":
    main()
