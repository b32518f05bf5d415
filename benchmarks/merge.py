"""Merging beside MergeKit and sentence-transformers: seconds and memory of whole processes, imports included.

python benchmarks/merge.py --folder /tmp/models --peers /tmp/peers/bin/python [--models 4 8] [--methods ties della]
python benchmarks/merge.py --folder /tmp/models --growth        (ours alone: 2 to 16 models, and 3 to 12 layers)
python benchmarks/merge.py --folder /tmp/models --floor         (imports excluded, beside plain safetensors)

--peers is the python of an environment with mergekit 0.1.5 and sentence-transformers 6.2 (never ours: MergeKit is not
a dependency). The models are random BERT-bases (110M parameters, float32, 438 MB), made in --folder once and kept: a
base, and sources that are the base and noise of 0.01, half of it common to all (cosine 0.5 of their deltas). All sides get the same options and take turns. The models are in
the page cache before the first process starts, and written pages are on disk before each; figures are medians.
Anonymous memory is what no file backs, so mapped models do not count; every 20 ms, over the process and its children.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

REPOSITORY = Path(__file__).parents[1]
NOISE = 0.01  # standard deviation of source minus base
INTERVAL = 0.02  # seconds between two looks at the memory
OURS, MERGEKIT, SENTENCE_TRANSFORMERS = SIDES = ("ours", "mergekit", "sentence-transformers")
GROWTH_MODELS, GROWTH_LAYERS, LAYERS = (2, 4, 8, 16), (3, 6, 12), 12
console = Console()


@dataclass(frozen=True)
class Method:
    """One merge in the words of both sides.

    Args:
        word: ours; with `options`, what follows `merge=` on the command line.
        peer: the word of MergeKit and sentence-transformers.
        parameters: theirs.
        base: whether it works on deltas.
        random: whether the sides cannot agree.
        num_sources: if it takes so many only.
    """

    word: str
    peer: str
    parameters: Mapping[str, float] = field(default_factory=dict)
    options: Sequence[str] = ()
    base: bool = False
    random: bool = False
    num_sources: int | None = None


METHODS = (
    Method("soup", "linear", {"weight": 1.0}),
    Method("slerp", "slerp", {"t": 0.5}, ("of=weights", "granularity=tensor"), num_sources=2),
    Method("multislerp", "multislerp", {"weight": 1.0}, ("of=weights",)),
    Method("ties", "ties", {"weight": 1.0, "density": 0.5}, ("density=0.5",), base=True),
    Method(
        "dare",
        "dare_ties",
        {"weight": 1.0, "density": 0.5, "normalize": True},
        ("density=0.5", "combine=ties"),
        True,
        random=True,
    ),
    Method("della", "della", {"weight": 1.0, "density": 0.5, "epsilon": 0.15}, ("density=0.5",), True, random=True),
    Method("model_stock", "model_stock", base=True),
    Method("sce", "sce", {"select_topk": 0.5}, ("density=0.5",), base=True),
)


def make_models(folder: Path, count: int, layers: int = LAYERS) -> tuple[Path, list[Path]]:
    """The base and the first `count` sources, made if they are not there."""
    folder = folder / f"{layers}-layers"
    base, sources = folder / "base", [folder / f"source_{number}" for number in range(count)]
    for seed, path in enumerate((base, *sources)):
        if not (path / "model.safetensors").exists():
            console.print(f"making {path}")
            _make(path, base, seed, layers)
    return base, sources


def _make(path: Path, base: Path, seed: int, layers: int) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel, BertTokenizer

    torch.manual_seed(0)
    model = BertModel(BertConfig(num_hidden_layers=layers))
    if path != base:
        common, own = (torch.Generator().manual_seed(number) for number in (0, seed))
        for name, tensor in load_file(base / "model.safetensors").items():
            noise = sum(torch.randn(tensor.shape, generator=generator) for generator in (common, own))
            model.state_dict()[name].copy_(tensor + NOISE / 2**0.5 * noise)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]
    BertTokenizer(vocab={word: number for number, word in enumerate(words)}).save_pretrained(path)
    model.save_pretrained(path)


@dataclass(frozen=True)
class Job:
    """One merge of some models by one side, into `out`."""

    method: Method
    base: Path
    sources: Sequence[Path]
    out: Path
    peers: Path | None

    def command(self, side: str) -> list[str]:
        """What to run."""
        return {OURS: self._ours, MERGEKIT: self._mergekit, SENTENCE_TRANSFORMERS: self._sentence_transformers}[side]()

    def weights(self, side: str) -> Path:
        """Where the merged weights are then."""
        found = sorted((self.out / side).rglob("model*.safetensors"))
        assert len(found) == 1, f"{side} should have written one file, and wrote {found}"
        return found[0]

    def _ours(self) -> list[str]:
        method = self.method
        return [
            *(sys.executable, "merge.py", f"merge={method.word}", *(f"merge.{option}" for option in method.options)),
            f"sources=[{','.join(map(str, self.sources))}]",
            *([f"base={self.base}"] if method.base else []),
            *("logger=none", "evaluation=none", f"out={self.out / OURS}"),
        ]

    def _mergekit(self) -> list[str]:
        """Its command for any architecture: `mergekit-yaml` stops on BERT. It reads and writes weights only."""
        assert self.peers is not None
        config: dict[str, Any] = {
            "merge_method": self.method.peer,
            "models": [{"model": str(source / "model.safetensors")} for source in self.sources],
            "parameters": dict(self.method.parameters),
        }
        if base := self._peers_base():
            config["base_model"] = str(base / "model.safetensors")
        (self.out / "mergekit.yaml").write_text(json.dumps(config))
        command = str(self.peers.with_name("mergekit-pytorch"))
        return [command, str(self.out / "mergekit.yaml"), str(self.out / MERGEKIT), "--quiet"]

    def _sentence_transformers(self) -> list[str]:
        base = self._peers_base()
        options = {
            "models": [str(source) for source in self.sources],
            "method": self.method.peer,
            "base_model": base and str(base),
            "parameters": dict(self.method.parameters),
        }
        script = (
            "import json, sys\nfrom sentence_transformers import SentenceTransformer\n"
            "SentenceTransformer.merge(**json.loads(sys.argv[1])).save_pretrained(sys.argv[2])"
        )
        return [str(self.peers), "-c", script, json.dumps(options), str(self.out / SENTENCE_TRANSFORMERS)]

    def _peers_base(self) -> Path | None:
        """What they call the base of a slerp is the model at t=0."""
        return self.sources[0] if self.method.peer == "slerp" else self.base if self.method.base else None


@dataclass(frozen=True)
class Figures:
    """Of one process: seconds on the clock and of all cores, and peak MB of resident and of anonymous memory."""

    seconds: float
    cores: float
    resident: float
    anonymous: float


def measure(command: Sequence[str]) -> Figures:
    """Run a process and watch it."""
    os.sync()
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log, env=environment)
        with _watched(process.pid) as peaks:
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait for it again
        if process.returncode:
            log.seek(0)
            raise SystemExit(f"{' '.join(command)}\n{log.read().decode()[-2000:]}")
    return Figures(seconds, usage.ru_utime + usage.ru_stime, peaks["VmRSS"] / 1024, peaks["RssAnon"] / 1024)


@contextmanager
def _watched(pid: int) -> Iterator[dict[str, int]]:
    """Peak kB of the tree of processes."""
    done, peaks = threading.Event(), {"VmRSS": 0, "RssAnon": 0}

    def watch() -> None:
        while not done.wait(INTERVAL):
            seen = [_memory(process) for process in _tree(pid)]
            for key in peaks:
                peaks[key] = max(peaks[key], sum(memory.get(key, 0) for memory in seen))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peaks
    finally:
        done.set()
        watcher.join()


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _read(children).split():
            yield from _tree(int(child))


def _memory(pid: int) -> dict[str, int]:
    lines = (line.split() for line in _read(Path(f"/proc/{pid}/status")).splitlines())
    return {line[0][:-1]: int(line[1]) for line in lines if line[-1] == "kB"}


def _read(path: Path) -> str:
    """Nothing, once the process has ended."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def difference(one: Path, other: Path) -> tuple[float, float]:
    """Largest absolute difference of two files' tensors, and the share of elements that differ by more than 1e-6."""
    from safetensors import safe_open

    largest, num_differing, total = 0.0, 0, 0
    with safe_open(one, "pt") as left, safe_open(other, "pt") as right:
        assert set(left.keys()) == set(right.keys())
        for name in left.keys():  # noqa: SIM118
            gap = (left.get_tensor(name) - right.get_tensor(name)).abs()
            largest = max(largest, float(gap.max()))
            num_differing += int((gap > 1e-6).sum())
            total += gap.numel()
    return largest, num_differing / total


def run(job: Job, sides: Sequence[str], repeats: int) -> dict[str, Any]:
    """All sides of one merge, in turns."""
    figures: dict[str, list[Figures]] = {side: [] for side in sides}
    for _ in range(repeats):
        for side in sides:
            shutil.rmtree(job.out / side, ignore_errors=True)
            figures[side].append(measure(job.command(side)))
    result: dict[str, Any] = {"method": job.method.word, "models": len(job.sources)}
    result["sides"] = {side: [vars(figure) for figure in values] for side, values in figures.items()}
    if {OURS, MERGEKIT} <= set(sides) and not job.method.random:
        result["difference"] = difference(job.weights(OURS), job.weights(MERGEKIT))
    return result


def compare(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Every method with every number of models."""
    results = []
    for method in arguments.methods:
        counts = [method.num_sources] if method.num_sources else arguments.models
        for count in counts:
            base, sources = make_models(arguments.folder, count)
            _warm([base, *sources])
            with tempfile.TemporaryDirectory(dir=arguments.folder) as out:
                job = Job(method, base, sources, Path(out), arguments.peers)
                results.append(run(job, arguments.sides, arguments.repeats))
            console.print(f"{method.word}, {count} models: {_sentence(results[-1])}")
    return results


def _warm(models: Sequence[Path]) -> None:
    for model in models:
        with (model / "model.safetensors").open("rb") as file:
            while file.read(2**24):
                pass


def _medians(result: Mapping[str, Any], figure: str) -> dict[str, float]:
    return {side: median(each[figure] for each in values) for side, values in result["sides"].items()}


def _sentence(result: Mapping[str, Any]) -> str:
    anonymous = _medians(result, "anonymous")
    shown = (f"{side} {value:.1f} s, {anonymous[side]:.0f} MB" for side, value in _medians(result, "seconds").items())
    return "; ".join(shown)


def table(results: Sequence[Mapping[str, Any]]) -> Table:
    """Medians, and how often ours goes into the faster peer."""
    shown = Table(title="whole processes, warm caches: medians of seconds and of peak MB")
    for column in ("method", "models", "side"):
        shown.add_column(column, no_wrap=True)
    for column in ("seconds", "of all cores", "anonymous", "resident", "ours : faster", "|ours - mergekit|"):
        shown.add_column(column, justify="right")
    for result in results:
        seconds, cores = _medians(result, "seconds"), _medians(result, "cores")
        anonymous, resident = _medians(result, "anonymous"), _medians(result, "resident")
        for side in seconds:
            extra = _verdict(result, seconds) if side == OURS else []
            figures = [f"{seconds[side]:.1f}", f"{cores[side]:.1f}", f"{anonymous[side]:.0f}", f"{resident[side]:.0f}"]
            shown.add_row(result["method"], str(result["models"]), side, *figures, *extra)
        shown.add_section()
    return shown


def _verdict(result: Mapping[str, Any], seconds: Mapping[str, float]) -> list[str]:
    peers = [value for side, value in seconds.items() if side != OURS]
    ratio = f"1 : {min(peers) / seconds[OURS]:.1f}" if peers else ""
    return [ratio, f"{result['difference'][0]:.0e}" if "difference" in result else ""]


def growth(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Ours alone: more models of 12 layers, then 2 models of more layers."""
    results = []
    sizes = [(count, LAYERS) for count in GROWTH_MODELS] + [(2, layers) for layers in GROWTH_LAYERS]
    for method in arguments.methods:
        for count, layers in sizes if method.num_sources is None else []:
            base, sources = make_models(arguments.folder, count, layers)
            _warm([base, *sources])
            with tempfile.TemporaryDirectory(dir=arguments.folder) as out:
                result = run(Job(method, base, sources, Path(out), None), [OURS], arguments.repeats)
            results.append(result | {"layers": layers})
            console.print(f"{method.word}, {count} models of {layers} layers: {_sentence(result)}")
    plot(results, arguments.out.with_suffix(".png"))
    return results


def plot(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Seconds and memory against models, memory against layers."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    models, layers = results_of(results, GROWTH_MODELS, "models"), results_of(results, GROWTH_LAYERS, "layers")
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    _lines(left, models, "seconds", "models of 12 layers", "seconds of the process")
    _lines(middle, models, "anonymous", "models of 12 layers", "peak anonymous memory, MB")
    _lines(right, layers, "anonymous", "layers of 2 models and the base", "peak anonymous memory, MB")
    for axes in (middle, right):
        axes.set_ylim(0, max(700, axes.get_ylim()[1]))
        axes.axhline(600, color="grey", linewidth=0.8)
    left.set_ylim(0)
    left.legend(frameon=False, fontsize="small")
    figure.suptitle("Merging BERT-base models (438 MB each) with one command", fontsize="medium")
    figure.savefig(path, dpi=150)
    console.print(str(path))


def results_of(
    results: Sequence[Mapping[str, Any]], sizes: Sequence[int], key: str
) -> dict[str, list[tuple[int, Mapping[str, Any]]]]:
    """Of each method, the results of these sizes, all else at its first value."""
    found: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    fixed = ("layers", LAYERS) if key == "models" else ("models", 2)
    for size in sizes:
        for result in results:
            points = found.setdefault(result["method"], [])
            if result[key] == size and result[fixed[0]] == fixed[1] and (not points or points[-1][0] != size):
                points.append((size, result))
    return found


def _lines(axes: Any, series: Mapping[str, list[tuple[int, Mapping[str, Any]]]], key: str, x: str, y: str) -> None:
    for method, points in series.items():
        sizes = [size for size, _ in points]
        axes.plot(sizes, [_medians(result, key)[OURS] for _, result in points], marker="o", label=method)
        axes.set_xticks(sizes)
    axes.set(xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)


def floor(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The soup without its imports, beside reading the inputs and writing one model with safetensors."""
    results = []
    for count in arguments.models:
        _, sources = make_models(arguments.folder, count)
        _warm(sources)
        seconds: dict[str, list[float]] = {"plain": [], "soup": []}
        for _ in range(arguments.repeats):
            for side, values in seconds.items():
                os.sync()
                command = [sys.executable, __file__, "--inside", side, *map(str, sources), "--folder", arguments.folder]
                done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
                values.append(float(done.stdout.split()[-1]))
        plain, soup = median(seconds["plain"]), median(seconds["soup"])
        console.print(f"{count} models: read and write {plain:.2f} s, soup {soup:.2f} s, ratio {soup / plain:.2f}")
        results.append({"models": count, "seconds": seconds, "ratio": soup / plain})
    return results


def inside(side: str, sources: Sequence[str], folder: Path) -> float:
    """Seconds of one side of the floor, in this process."""
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
    from lightning_embed import config, registry
    from lightning_embed.merge import Source
    from lightning_embed.merge.engine import merge_models

    config.register()
    soup: Any = registry.build("merge", {"name": "soup"})
    models = [Source(Path(source), Path(source).name) for source in sources]
    return lambda: merge_models(soup, models, None, out / "merged")


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    model = next(
        (line.partition(":")[2].strip() for line in _read(Path("/proc/cpuinfo")).splitlines() if "model name" in line),
        "",
    )
    return {"cpu": model, "cores": os.cpu_count(), "load": os.getloadavg(), "python": platform.python_version()}


def main() -> None:
    """Run what was asked for and write it down."""
    words = {method.word: method for method in METHODS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of the models; kept")
    parser.add_argument("--peers", type=Path, help="python of an environment with both peers")
    parser.add_argument("--models", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--methods", nargs="+", choices=words, default=list(words))
    parser.add_argument("--sides", nargs="+", choices=SIDES)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("merge.json"))
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--floor", action="store_true")
    parser.add_argument("--inside", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.folder = given.folder.absolute()
    if given.inside:
        print(inside(given.inside[0], given.inside[1:], given.folder))
        return
    given.methods = [words[word] for word in given.methods]
    given.sides = given.sides or (SIDES if given.peers else [OURS])
    given.peers = given.peers and given.peers.absolute()
    results = (growth if given.growth else floor if given.floor else compare)(given)
    if not (given.growth or given.floor):
        Console(width=120).print(table(results))
    given.out.write_text(json.dumps({"machine": machine(), "results": results}, indent=2) + "\n")
    console.print(str(given.out))


if __name__ == "__main__":
    main()
