"""BOOM's incremental update (arXiv 2602.05787): new datasets arrive; what each way to take them in costs, and keeps.

python benchmarks/updates.py runs/updates --seeds 1 2 3 -- data=ir_sts_small data.root=../shared/data encoder.max_length=64

`existing` is BOOM ({80, 100}, Multi-SLERP) on the old datasets. Then, on old and new: `joint`, full retraining; `boom`, full
retraining by BOOM; `continued`, the existing model trained on the new data alone; `update`, BOOM's step. With --chain the new
datasets arrive one after the other, and each update starts from the model of the one before.

What stands behind -- is given to every train.py. The trainings are kept: a run that was cut off goes on.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lightning_embed.report.bootstrap import Bootstrap
from lightning_embed.report.kinds import Kind
from lightning_embed.report.recipes import Recipe
from lightning_embed.report.results import read, read_each
from lightning_embed.types import Results

OLD = ["squad", "medquad", "wikiqa", "snli", "mrpc", "stsb", "sickr"]
NEW = ["argkp", "semrel_eng"]


@dataclass(frozen=True)
class Study:
    """Where the trainings lie, and what all of them are given."""

    out: Path
    seed: int
    given: Sequence[str]

    def train(self, name: str, *overrides: str) -> Path:
        """Train, unless that is done, and return the model that came out: the merged one, or the only expert."""
        folder = self.out / f"{name}-{self.seed}"
        command = [
            sys.executable,
            "train.py",
            f"out={folder}",
            f"seed={self.seed}",
            "name=updates",
            *self.given,
            *overrides,
        ]
        print(" ".join(command[1:]), flush=True)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        merged = sorted(folder.glob("merged/*/model"))
        return merged[0] if merged else next(p for p in sorted(folder.glob("models/*")) if p.name != "base")

    def scores(self, name: str) -> tuple[Results, float | None]:
        """Of the last model of a training, and its cost."""
        folder = self.out / f"{name}-{self.seed}"
        content = read(folder)
        model = list(content["models"])[-1]
        return read_each(folder, model), content["costs"].get(model)


def words(names: Sequence[str]) -> str:
    """A list as Hydra reads it."""
    return f"[{','.join(names)}]"


def once(study: Study, old: Sequence[str], new: Sequence[str]) -> None:
    """All ways to take in the new datasets at once."""
    boom = ["experts=bagging", "experts.bag_shares=[0.8,1.0]", "merge=multislerp"]
    existing = study.train("existing", *boom, f"experts.datasets={words(old)}").absolute()
    study.train("joint", "experts=joint", "merge=none")
    study.train("boom", *boom)
    update = ["experts=update", f"experts.new={words(new)}", f"experts.existing={existing}"]
    study.train("continued", *update, "experts.history_share=0", f"encoder.path={existing}", "merge=none")
    study.train("update", *update, "merge=multislerp")


def chain(study: Study, old: Sequence[str], new: Sequence[str]) -> None:
    """The new datasets one after the other."""
    model = study.out / f"existing-{study.seed}"
    model = sorted(model.glob("merged/*/model"))[0].absolute()
    known = list(old)
    for place, name in enumerate(new, start=1):
        known.append(name)
        update = [
            "experts=update",
            f"experts.new=[{name}]",
            f"experts.existing={model}",
            f"experts.datasets={words(known)}",
        ]
        model = study.train(f"chain_{place}", *update, "merge=multislerp").absolute()


def table(studies: Sequence[Study], names: Sequence[str], old: Sequence[str], new: Sequence[str]) -> Table:
    """Means over seeds, in points; the differences of the last columns are from full retraining by joint training."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in (
        "",
        "cost",
        "dev, old sets",
        "dev, new sets",
        "test in domain",
        "test out of domain",
        "all dev, from joint",
    ):
        shown.add_column(column, justify="right" if column else "left")
    found = {name: [study.scores(name) for study in studies] for name in names}
    joint = Recipe("joint", Kind.source, 1.0, [scores for scores, _ in found["joint"]])
    for name, seeds in found.items():
        costs = [cost for _, cost in seeds if cost is not None]
        columns = [
            [part_mean(scores, split, keep, in_domain) for scores, _ in seeds]
            for split, keep, in_domain in (
                ("dev", old, None),
                ("dev", new, None),
                ("test", None, True),
                ("test", None, False),
            )
        ]
        interval = Bootstrap().interval([scores for scores, _ in seeds], joint.seeds, "dev")
        apart = "" if interval is None else f"{interval.difference:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"
        shown.add_row(name, f"{fmean(costs):.2f}" if costs else "-", *map(_shown, columns), apart)
    return shown


def part_mean(results: Results, split: str, keep: Sequence[str] | None, in_domain: bool | None) -> float | None:
    """The mean over tasks of the mean over some tests."""
    by_task: dict[str, list[float]] = {}
    for test, score in results.get(split, {}).items():
        if (keep is None or test in keep) and in_domain in (None, score["in_domain"]):
            by_task.setdefault(score["task"], []).append(score["score"])
    return fmean(map(fmean, by_task.values())) if by_task else None


def _shown(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    error = f" ±{stdev(known) / len(known) ** 0.5:.2f}" if len(known) > 1 else ""
    return f"{fmean(known):.2f}{error}"


def main() -> None:
    """Train and show."""
    own, _, given = (lambda a: (a[: a.index("--")], None, a[a.index("--") + 1 :]) if "--" in a else (a, None, []))(
        sys.argv[1:]
    )
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--old", nargs="+", default=OLD)
    parser.add_argument("--new", nargs="+", default=NEW)
    parser.add_argument("--chain", action="store_true")
    options = parser.parse_args(own)
    studies = [Study(options.out, seed, given) for seed in options.seeds]
    names = ["existing", "continued", "update", "joint", "boom"]
    for study in studies:
        once(study, options.old, options.new)
        if options.chain:
            chain(study, options.old, options.new)
    names += [f"chain_{place}" for place in range(1, len(options.new) + 1)] if options.chain else []
    Console(width=140).print(table(studies, names, options.old, options.new))


if __name__ == "__main__":
    main()
