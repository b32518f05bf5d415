"""Is the point that Self Positioning found the best near it? Its direction and its norm swept on dev, as in the paper's figure 6.

python benchmarks/around.py runs/around runs/*/merged/self_positioning-*/merge.json -- data=ir_sts_small data.root=/tmp/small \
    'evaluation.splits=[dev]' evaluation.max_dev_queries=200 evaluation.max_dev_documents=300

Takes merges of two sources with one a and one lambda (merge=self_positioning, granularity=model), one for each seed. The
direction is a_1 / (a_1 + a_2) at the norm that was found: 0 is the first source's, 1 the second's. The norm is lambda, as
a multiple of what was found, in the direction that was found. What stands behind -- is given to every merge.py. Prints
both tables and draws around.svg and .png in the folder.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from lightning_embed.merge import arc
from lightning_embed.report.figures.style import INK, drawing, save
from lightning_embed.report.scores.results_file import read
from lightning_embed.report.scores.summary import dev

DIRECTIONS = [place / 6 for place in range(7)]
NORMS = [0.4, 0.6, 0.8, 1.0, 1.2, 1.4]
PANELS = {"direction": "direction: first source 0, second 1", "norm": "norm, of the one found"}


@dataclass(frozen=True)
class Found:
    """One merge: where its sources lie, and the point among them."""

    file: Path
    record: dict[str, Any]

    @property
    def direction(self) -> float:
        """Share of the way from the first source to the second."""
        one, other = self.record["plan"]["a"]["*"]
        return float(one / (one + other))

    def coefficients(self, direction: float, norm: float) -> list[float]:
        """Of the two task vectors, at a multiple of the norm that was found."""
        one, other = self.record["geometry"]["delta_norms"]
        cosine = self.record["geometry"]["delta_cosines"][0][1]
        left, right, product = torch.tensor([one**2, other**2, one * other * cosine], dtype=torch.float64)
        scale = norm * self.record["plan"]["lambda"]["*"]
        return [round(scale * float(part), 6) for part in arc(left, right, product, direction)]

    def measure(self, out: Path, points: Sequence[list[float]], given: Sequence[str]) -> list[float]:
        """The dev score of every point, in points."""
        sources = [str((self.file.parent / source["path"]).resolve()) for source in self.record["sources"]]
        base, seed = (self.file.parent / self.record["base"]["path"]).resolve(), self.record["seed"]
        folder = out / f"seed-{seed}"
        weights = ",".join(f"[{one},{other}]" for one, other in points)
        command = [sys.executable, "merge.py", "-m", "merge=task_arithmetic", "merge.scale=1", "merge.weighting=given"]
        command += [f"merge.weights={weights}", f"sources=[{','.join(sources)}]", f"base={base}", f"seed={seed}"]
        command += [f"out={folder}", "measure_sources=false", "logger=none", *given]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        block = dev(read(folder)["models"])
        assert block is not None
        scores = {}
        for name, row in block.rows.items():
            record = folder / "merged" / name / "merge.json"
            if record.exists():
                scores[tuple(json.loads(record.read_text())["options"]["weights"])] = row["mean"] or 0.0
        return [scores[tuple(point)] for point in points]


def opened(file: Path) -> Found:
    """A merge that has what is needed."""
    record = json.loads(file.read_text())
    plan = record["plan"]
    if record["strategy"] != "self_positioning" or len(record["sources"]) != 2 or list(plan["lambda"]) != ["*"]:
        sys.exit(f"{file}: expected a merge of two sources by self_positioning with granularity=model.")
    return Found(file, record)


def draw(curves: dict[str, dict[float, list[float]]], mark: dict[str, float], path: Path) -> None:
    """A panel for the direction, one for the norm, written to `path` with suffixes; bars are standard errors, the dashed line is what was found."""
    with drawing(9, 3.4) as figure:
        for axes, (name, curve) in zip(figure.subplots(1, 2, sharey=True), curves.items(), strict=True):
            errors = [_error(values) for values in curve.values()]
            axes.errorbar(list(curve), [fmean(v) for v in curve.values()], errors, color=INK, marker="o", capsize=2)
            axes.axvline(mark[name], color=INK, linewidth=0.8, linestyle="--", label="found by the search")
            axes.set(xlabel=PANELS[name], ylabel="dev, points, mean of tasks")
            axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
        save(figure, path)


def _error(values: Sequence[float]) -> float:
    return stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("merges", type=Path, nargs="+", help="merge.json of self_positioning")
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    options = parser.parse_args(sys.argv[1:at])
    curves: dict[str, dict[float, list[float]]] = {"direction": {}, "norm": {}}
    merges = [opened(file) for file in options.merges]
    for found in merges:
        places = [("direction", d, found.coefficients(d, 1.0)) for d in DIRECTIONS]
        places += [("norm", n, found.coefficients(found.direction, n)) for n in NORMS]
        scores = found.measure(options.out, [point for *_, point in places], sys.argv[at + 1 :])
        for (panel, place, _), score in zip(places, scores, strict=True):
            curves[panel].setdefault(place, []).append(score)
    mark = {"direction": fmean(found.direction for found in merges), "norm": 1.0}
    for panel, curve in curves.items():
        print(f"{PANELS[panel]} (found: {mark[panel]:.2f})")
        for place, values in curve.items():
            print(f"  {place:5.2f}  {fmean(values):6.2f} ±{_error(values):.2f}")
    draw(curves, mark, options.out / "around")
    print(options.out / "around.png")


if __name__ == "__main__":
    main()
