"""A merge without its imports, beside reading its inputs and writing one model with plain safetensors."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from random_models import make_models, warm


def floor(folder: Path, counts: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """The soup, and the reading and writing, of so many models; each in a process of its own, in turns."""
    results = []
    for count in counts:
        _, sources = make_models(folder, count)
        warm(sources)
        seconds: dict[str, list[float]] = {"plain": [], "soup": []}
        for _ in range(repeats):
            for side, values in seconds.items():
                os.sync()
                command = [sys.executable, __file__, str(folder), side, *map(str, sources)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                values.append(float(done.stdout))
        plain, soup = median(seconds["plain"]), median(seconds["soup"])
        print(f"{count} models: read and write {plain:.2f} s, soup {soup:.2f} s, ratio {soup / plain:.2f}", flush=True)
        results.append({"models": count, "seconds": seconds, "ratio": soup / plain})
    return results


def seconds_of(side: str, sources: Sequence[str], folder: Path) -> float:
    """Of one side, in this process, after its imports."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        work = {"plain": _plain, "soup": _soup}[side](sources, Path(out))
        start = time.perf_counter()
        work()
        return time.perf_counter() - start


def _plain(sources: Sequence[str], out: Path) -> Callable[[], object]:
    from safetensors import safe_open
    from safetensors.torch import save_file

    def work() -> None:
        for source in sources:
            with safe_open(Path(source) / "model.safetensors", "pt") as file:
                # a tensor is a view of the file until it is copied
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        save_file(tensors, out / "model.safetensors", {"format": "pt"})

    return work


def _soup(sources: Sequence[str], out: Path) -> Callable[[], object]:
    from lightning_embed import registry
    from lightning_embed.config import schema
    from lightning_embed.merge import Source
    from lightning_embed.merge.engine import MergeSpec, merge_models

    schema.register()
    soup: Any = registry.build("merge", {"name": "soup"})
    models = [Source(Path(source), Path(source).name) for source in sources]
    return lambda: merge_models(MergeSpec(soup, models), out / "merged")


if __name__ == "__main__":
    print(seconds_of(sys.argv[2], sys.argv[3:], Path(sys.argv[1])))
