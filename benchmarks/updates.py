"""BOOM's incremental update (arXiv 2602.05787): new datasets arrive; what each way to take them in costs, and keeps.

python benchmarks/updates.py runs/updates -- data=ir_sts_small data.root=/tmp/small encoder.max_length=64 \
    optimizer.lr=2e-5 loss@sts_loss=codiemb

`existing` is BOOM ({80, 100}, Multi-SLERP) on the old datasets. Then, on old and new: `joint`, full retraining; `boom`, full
retraining by BOOM; `continued`, the existing model trained on the new data alone; `update`, BOOM's step. With --chain the
new datasets arrive one after the other, and each update is merged with the model of the one before.

Every training is one epoch. What stands behind -- is given to every train.py. What is trained stays: a run that was cut
off goes on where it was.
"""

import argparse
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lightning_embed.report.scores.bootstrap import interval
from lightning_embed.report.scores.results_file import read, read_each
from lightning_embed.report.scores.summary import is_ensemble
from lightning_embed.types import Results

BOOM = ["experts=bagging_80_100", "merge=multislerp"]
EPOCH = ["trainer.max_steps=-1", "trainer.max_epochs=1", "trainer.val_check_interval=100000"]
MERGED = "measure_sources=false"
OLD = ["squad", "medquad", "wikiqa", "snli", "mrpc", "stsb", "sickr"]
NEW = ["argkp", "semrel_eng"]


@dataclass(frozen=True)
class Study:
    """One seed: where its trainings lie, and what all of them are given."""

    out: Path
    seed: int
    given: Sequence[str]

    def train(self, name: str, *overrides: str) -> Path:
        """Train, unless that is done, and return the model that came out: the merged one, or the only expert."""
        folder = self.out / f"{name}-{self.seed}"
        given = [f"out={folder}", f"seed={self.seed}", "name=updates", *EPOCH, *self.given, *overrides]
        print("train.py", *given, flush=True)
        subprocess.run([sys.executable, "train.py", *given], check=True, stdout=subprocess.DEVNULL)
        model = self.last(name)
        merged = folder / "merged" / model / "model"
        return (merged if merged.exists() else folder / "models" / model).absolute()

    def last(self, name: str) -> str:
        """The model that was measured last, ensembles left out."""
        measured = read(self.out / f"{name}-{self.seed}")["models"]
        return [model for model in measured if not is_ensemble(model)][-1]

    def scores(self, name: str) -> Results:
        """Of that model."""
        return read_each(self.out / f"{name}-{self.seed}", self.last(name))

    def rows(self, name: str) -> float | None:
        """That were trained on for it."""
        return read(self.out / f"{name}-{self.seed}")["costs"].get(self.last(name))


def words(names: Sequence[str]) -> str:
    """A list as Hydra reads it."""
    return f"[{','.join(names)}]"


def once(study: Study, old: Sequence[str], new: Sequence[str]) -> Path:
    """All ways to take in the new datasets at once. Returns the existing model."""
    everything = f"experts.datasets={words([*old, *new])}"
    existing = study.train("existing", *BOOM, MERGED, f"experts.datasets={words(old)}")
    study.train("joint", "experts=joint", "merge=none", everything)
    study.train("boom", *BOOM, everything, MERGED)
    update = ["experts=update", f"experts.new={words(new)}", f"experts.existing={existing}", everything]
    study.train("continued", *update, "experts.history_share=0", f"encoder.path={existing}", "merge=none")
    study.train("update", *update, "merge=multislerp", MERGED)
    return existing


def chain(study: Study, model: Path, old: Sequence[str], new: Sequence[str]) -> None:
    """The new datasets one after the other."""
    for place, name in enumerate(new, start=1):
        known = words([*old, *new[:place]])
        update = ["experts=update", f"experts.new=[{name}]", f"experts.existing={model}", f"experts.datasets={known}"]
        model = study.train(f"chain_{place}", *update, "merge=multislerp", MERGED)


def table(studies: Sequence[Study], names: Sequence[str], old: Sequence[str], new: Sequence[str]) -> Table:
    """Means over seeds, in points. Cost: of this step alone, in joint trainings on everything."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in (
        "",
        "cost of this step",
        "old sets",
        "new sets",
        "never trained on",
        "all, from joint",
        "all, from boom",
    ):
        shown.add_column(column, justify="right" if column else "left")
    scores = {name: {study.seed: study.scores(name) for study in studies} for name in names}
    unit = mean_of([study.rows("joint") for study in studies])
    for name, seeds in scores.items():
        rows = mean_of([study.rows(name) for study in studies])
        cost = "-" if rows is None or not unit else f"{rows / unit:.2f}"
        parts = [_points([mean(each, keep) for each in seeds.values()]) for keep in (old, new)]
        parts.append(_points([mean(each, set(each.get("test", {})) - {*old, *new}) for each in seeds.values()]))
        apart = [_apart(seeds, scores[other]) if other != name else "" for other in ("joint", "boom")]
        shown.add_row(name, cost, *parts, *apart)
    shown.caption = (
        "dev scores of old and new sets, test scores of the others; percent points, mean of tasks ± standard error over seeds; "
        "from joint, from boom: all dev sets, 95 % interval"
    )
    return shown


def mean(results: Results, keep: Collection[str]) -> float | None:
    """The mean over tasks: dev scores of what is trained on, test scores of what never is."""
    by_task: dict[str, list[float]] = {}
    for name in keep:
        found = results.get("dev", {}).get(name) or results.get("test", {}).get(name)
        if found is not None:
            by_task.setdefault(found["task"], []).append(found["score"])
    return fmean(map(fmean, by_task.values())) if by_task else None


def mean_of(values: Sequence[float | None]) -> float | None:
    """Over the seeds where it is known."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _points(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    error = f" ±{stdev(known) / len(known) ** 0.5:.2f}" if len(known) > 1 else ""
    return f"{fmean(known):.2f}{error}"


def _apart(ours: Mapping[int, Results], theirs: Mapping[int, Results]) -> str:
    found = interval(ours, theirs, "dev")
    return "-" if found is None else f"{found.difference:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def main() -> None:
    """Train and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--old", nargs="+", default=OLD)
    parser.add_argument("--new", nargs="+", default=NEW)
    parser.add_argument("--chain", action="store_true")
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    options = parser.parse_args(sys.argv[1:at])
    studies = [Study(options.out, seed, sys.argv[at + 1 :]) for seed in options.seeds]
    names = ["existing", "continued", "update", "joint", "boom"]
    for study in studies:
        existing = once(study, options.old, options.new)
        if options.chain:
            chain(study, existing, options.old, options.new)
    names += [f"chain_{place}" for place in range(1, len(options.new) + 1)] if options.chain else []
    Console(width=160).print(table(studies, names, options.old, options.new))


if __name__ == "__main__":
    main()
