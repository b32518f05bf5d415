"""Merging beside MergeKit and sentence-transformers: seconds and memory of whole processes, imports included.

python benchmarks/merge.py --folder /tmp/models --peers /tmp/peers/bin/python [--models 4 8] [--methods ties della]
python benchmarks/merge.py --folder /tmp/models --peers /tmp/peers/bin/python --shape qwen3 --models 4
python benchmarks/merge.py --folder /tmp/models --shape 8b --models 4 --methods soup     (ours alone: the memory)
python benchmarks/merge.py --folder /tmp/models --growth        (ours alone: 2 to 16 models, and 3 to 12 layers)
python benchmarks/merge.py --folder /tmp/models --floor         (imports excluded, beside plain safetensors)

--peers is the python of an environment with mergekit 0.1.5 and sentence-transformers 6.2 (never ours: MergeKit is not
a dependency). The models are random (--shape, see random_models.py), made in --folder once and kept: a base, and sources
that are the base and noise of 0.01, half of it common to all (cosine 0.5 of their deltas). All sides compute in float32
and write the dtype of the sources.

All sides get the same options and take turns. The models are in the page cache before the first process starts, and
written pages are on disk before each; figures are medians. With --stop-at 4.5 a peer that needs more than 4.5 times our
seconds is stopped then, and its figures are lower bounds (>). Anonymous memory is what no file backs, so mapped models do
not count: every 20 ms, over the process and its children. `of all cores` is processor time: it tells more than the
clock where other programs run.

Ours and MergeKit differ: in slerp, which is a straight line for MergeKit below two degrees (1e-5); in multislerp and
model_stock, whose lengths it adds up in float32 (3e-4 and 4e-5 in large parameters; ours is within 1e-7 of float64 in
the first); in ties and sce by the handful of elements that stand exactly at a threshold (1e-2).
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from machine import machine
from merge_floor import floor
from random_models import LAYERS, SHAPES, difference, make_models, warm
from rich.console import Console
from rich.table import Table
from watched import Figures, measure

REPOSITORY = Path(__file__).parents[1]
OURS, MERGEKIT, SENTENCE_TRANSFORMERS = SIDES = ("ours", "mergekit", "sentence-transformers")
GROWTH = [(count, LAYERS) for count in (2, 4, 8, 16)] + [(2, layers) for layers in (3, 6)]  # models, layers
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
        found = {file.parent for file in (self.out / side).rglob("model*.safetensors")}
        assert len(found) == 1, f"{side} should have written one model, and wrote {found}"
        return found.pop()

    def _ours(self) -> list[str]:
        method = self.method
        return [
            *(sys.executable, "merge.py", f"merge={method.word}", *(f"merge.{option}" for option in method.options)),
            f"sources=[{','.join(map(str, self.sources))}]",
            *([f"base={self.base}"] if method.base else []),
            *("logger=none", "evaluation=none", "out_dtype=auto", f"out={self.out / OURS}"),
        ]

    def _mergekit(self) -> list[str]:
        """`mergekit-yaml` stops on BERT: there, its command for any architecture, which knows weights of one file only."""
        assert self.peers is not None
        is_raw = (self.sources[0] / "model.safetensors").exists()

        def named(model: Path) -> str:
            return str(model / "model.safetensors" if is_raw else model)

        config: dict[str, Any] = {
            "merge_method": self.method.peer,
            "models": [{"model": named(source)} for source in self.sources],
            "parameters": dict(self.method.parameters),
            "dtype": "float32",
            "out_dtype": "float32" if is_raw else "bfloat16",
        }
        if base := self._peers_base():
            config["base_model"] = named(base)
        (self.out / "mergekit.yaml").write_text(json.dumps(config))
        command = str(self.peers.with_name("mergekit-pytorch" if is_raw else "mergekit-yaml"))
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


def run(job: Job, sides: Sequence[str], repeats: int, stop_at: float | None = None) -> dict[str, Any]:
    """All sides of one merge, in turns; a peer is stopped after `stop_at` times our last time."""
    figures: dict[str, list[Figures]] = {side: [] for side in sides}
    for _ in range(repeats):
        for side in sides:
            shutil.rmtree(job.out / side, ignore_errors=True)
            limit = stop_at * figures[OURS][-1].seconds if stop_at and side != OURS else None
            figures[side].append(measure(job.command(side), REPOSITORY, limit))
    result: dict[str, Any] = {"method": job.method.word, "models": len(job.sources)}
    result["sides"] = {side: [vars(figure) for figure in values] for side, values in figures.items()}
    whole = {side for side, values in figures.items() if not any(figure.stopped for figure in values)}
    if {OURS, MERGEKIT} <= whole and not job.method.random:
        result["difference"] = difference(job.weights(OURS), job.weights(MERGEKIT))
    return result


def compare(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Every method with every number of models."""
    results = []
    for method in arguments.methods:
        counts = [method.num_sources] if method.num_sources else arguments.models
        for count in counts:
            base, sources = make_models(arguments.folder, count, shape=arguments.shape)
            if arguments.shape != "8b":  # 80 GB do not fit
                warm([base, *sources])
            with tempfile.TemporaryDirectory(dir=arguments.folder) as out:
                job = Job(method, base, sources, Path(out), arguments.peers)
                results.append(run(job, arguments.sides, arguments.repeats, arguments.stop_at))
            console.print(f"{method.word}, {count} models: {_sentence(results[-1])}")
    return results


def _medians(result: Mapping[str, Any], figure: str) -> dict[str, float]:
    return {side: median(each[figure] for each in values) for side, values in result["sides"].items()}


def _sentence(result: Mapping[str, Any]) -> str:
    anonymous = _medians(result, "anonymous")
    shown = (
        f"{side} {_least(result, side)}{value:.1f} s, {anonymous[side]:.0f} MB"
        for side, value in _medians(result, "seconds").items()
    )
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
            figures = [
                _least(result, side) + f"{seconds[side]:.1f}",
                f"{cores[side]:.1f}",
                f"{anonymous[side]:.0f}",
                f"{resident[side]:.0f}",
            ]
            models = f"{result['models']}" + (f" of {result['layers']} layers" if "layers" in result else "")
            shown.add_row(result["method"], models, side, *figures, *extra)
        shown.add_section()
    return shown


def _verdict(result: Mapping[str, Any], seconds: Mapping[str, float]) -> list[str]:
    peers = {side: value for side, value in seconds.items() if side != OURS}
    faster = min(peers, key=peers.__getitem__, default=None)
    ratio = f"1 : {_least(result, faster)}{peers[faster] / seconds[OURS]:.1f}" if faster else ""
    return [ratio, f"{result['difference'][0]:.0e}" if "difference" in result else ""]


def _least(result: Mapping[str, Any], side: str) -> str:
    """What stands before the time of a side that was stopped."""
    return "> " if any(figure["stopped"] for figure in result["sides"][side]) else ""


def growth(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Ours alone, for more and more models, and for more and more layers."""
    results = []
    for method in arguments.methods:
        for count, layers in () if method.num_sources else GROWTH:
            base, sources = make_models(arguments.folder, count, layers)
            warm([base, *sources])
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

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for method in dict.fromkeys(result["method"] for result in results):
        own = [result for result in results if result["method"] == method]
        models = [result for result in own if result["layers"] == LAYERS]
        layers = sorted((result for result in own if result["models"] == 2), key=lambda result: result["layers"])
        for axes, points, x, y in (
            (left, models, "models", "seconds"),
            (middle, models, "models", "anonymous"),
            (right, layers, "layers", "anonymous"),
        ):
            sizes = [point[x] for point in points]
            axes.plot(sizes, [_medians(point, y)[OURS] for point in points], marker="o", label=method)
            axes.set_xticks(sizes)
    left.set(xlabel=f"models of {LAYERS} layers", ylabel="seconds of the process")
    middle.set(xlabel=f"models of {LAYERS} layers", ylabel="peak anonymous memory, MB")
    right.set(xlabel="layers of 2 models and their base", ylabel="peak anonymous memory, MB")
    for axes in (left, middle, right):
        axes.set_ylim(0, None if axes is left else max(650, axes.get_ylim()[1]))
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, fontsize="small")
    figure.suptitle("Merging BERT-base models (438 MB each): whole processes", fontsize="medium")
    figure.savefig(path, dpi=150)
    console.print(str(path))


def main() -> None:
    """Run what was asked for and write it down."""
    words = {method.word: method for method in METHODS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of the models; kept")
    parser.add_argument("--peers", type=Path, help="python of an environment with both peers")
    parser.add_argument("--shape", choices=SHAPES, default="bert")
    parser.add_argument("--models", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--methods", nargs="+", choices=words, default=list(words))
    parser.add_argument("--sides", nargs="+", choices=SIDES)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--stop-at", type=float, help="stop a peer after so many times our time")
    parser.add_argument("--out", type=Path, default=Path("merge.json"))
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--floor", action="store_true")
    given = parser.parse_args()
    given.folder = given.folder.absolute()
    given.methods = [words[word] for word in given.methods]
    given.sides = given.sides or (SIDES if given.peers else [OURS])
    given.peers = given.peers and given.peers.absolute()
    if given.stop_at and given.sides[0] != OURS:
        parser.error(f"--stop-at compares with our time: expected {OURS} as the first of --sides")
    if given.floor:
        results = floor(given.folder, given.models, given.repeats)
    else:
        results = growth(given) if given.growth else compare(given)
        Console(width=120).print(table(results))
    given.out.write_text(json.dumps({"machine": machine(), "results": results}, indent=2) + "\n")
    console.print(str(given.out))


if __name__ == "__main__":
    main()
