"""The evidence grid: bases x data x plans of experts x merges, at three seeds; one command, which goes on where it was.

python benchmarks/evidence/sets.py ../shared/data /tmp/evidence
python benchmarks/evidence/study.py tune /tmp/evidence          # joint training: rate and temperature, by dev
python benchmarks/evidence/study.py grid /tmp/evidence          # every cell, with what tune.json says
python benchmarks/evidence/study.py collect                     # results.json, from the folders of the runs

Each command of a study is one sweep of train.py with a folder of its own under runs/evidence; when it is done, the
weights of its merged models are deleted, and the scores stay. Test scores are measured along with dev scores; every
choice is made by a script that reads dev alone (tables.py), and is committed before anybody reads a test.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_embed.storage.checksum import digest

HERE = Path(__file__).parent
RUNS = Path("runs/evidence")
BASES = {"cut": ["encoder.num_layers=4"], "whole": []}
DATA = ("pairs", "general")
SEEDS = (1, 2, 3)
COMMON = [
    "--config-dir", str(HERE / "conf"), "encoder.max_length=64", "encoder.dtype=bfloat16", "sampler=batch_shuffle",
    "loss@sts_loss=codiemb", "trainer.max_steps=-1", "trainer.limit_val_batches=0", "trainer.enable_progress_bar=false",
    "logger=none", "callback=none", "probe.batch_size=16", "evaluation.max_dev_queries=200",
    "evaluation.max_dev_documents=300", "measure_sources=true",
]  # fmt: skip
PLAIN = ["merge=soup", "merge=delta_guided"]
TASKS = [
    *PLAIN, "merge=multislerp,slerp,karcher,model_stock,sce,tsv,iso_c,wudi,regmean,fisher,lm_cocktail,self_positioning",
    "merge=ties merge.density=0.2,0.5 merge.scale=1,1.5", "merge=task_arithmetic merge.scale=0.3,0.5,0.8",
    "merge=wise_ft merge.share=0.5,0.7,0.9", "merge=dare,breadcrumbs",
]  # fmt: skip
MANY = [*PLAIN, "merge=ties,iso_c,tsv,model_stock,self_positioning", "merge=task_arithmetic merge.scale=0.3,0.5"]
ROWS = {
    "joint": ("experts=joint experts.snapshots=3 trainer.max_epochs=1", [*PLAIN, "merge=wise_ft merge.share=0.7"]),
    "joint_3": ("experts=joint experts.snapshots=3 trainer.max_epochs=3", [*PLAIN, "merge=wise_ft merge.share=0.7"]),
    "per_task": ("experts=per_task trainer.max_epochs=1", TASKS),
    "per_task_3": ("experts=per_task trainer.max_epochs=3", TASKS),
    "per_dataset": ("experts=per_dataset trainer.max_epochs=1", MANY),
    "per_cluster": ("experts=per_cluster trainer.max_epochs=1", MANY),
    "bags_50": ("experts=bagging_50 trainer.max_epochs=1", [*PLAIN, "merge=ties,model_stock"]),
    "bags_80_100": ("experts=bagging_80_100 trainer.max_epochs=1", [*PLAIN, "merge=multislerp"]),
    "bags_60": ("experts=bagging experts.bag_shares=[0.6,0.6,0.6] trainer.max_epochs=1", [*PLAIN, "merge=multislerp"]),
    "seeds": ("experts=joint experts.seeds=3 trainer.max_epochs=1", ["merge=soup"]),
}
RATES = {"cut": "5e-5,1e-4,2e-4,4e-4", "whole": "1e-5,2e-5,5e-5,1e-4"}


@dataclass(frozen=True)
class Cell:
    """One sweep: trainings that are shared, and the merges of them."""

    study: str
    base: str
    data: str
    row: str
    seed: int
    options: tuple[str, ...]

    @property
    def out(self) -> Path:
        """The folder of its runs."""
        return RUNS / self.study / f"{self.base}-{self.data}" / self.row / f"seed-{self.seed}"

    def run(self, root: str) -> None:
        """Train and measure what is not there yet."""
        done = self.out / f"done-{digest(list(self.options))}"
        if done.exists():
            return
        start = time.time()
        where = [] if self.study == "tune" else [f"out={self.out}"]
        name = [f"name=evidence-{self.study}"]
        command = [
            sys.executable,
            "train.py",
            "-m",
            *COMMON,
            *BASES[self.base],
            f"data={self.data}",
            f"data.root={root}",
        ]
        sweep = [f"hydra.sweep.dir={self.out}/sweep-{done.name[5:]}"]
        subprocess.run([*command, *where, *name, *sweep, f"seed={self.seed}", *self.options], check=True)
        for weights in self.out.glob("merged/*/model/*.safetensors"):
            weights.unlink()
        done.parent.mkdir(parents=True, exist_ok=True)
        done.write_text(f"{time.time() - start:.0f}")


def tune() -> Iterator[Cell]:
    """Rate and temperature of joint training, one epoch, one seed, dev alone."""
    for base, rates in RATES.items():
        for data in DATA:
            options = ("experts=joint", "merge=none", "trainer.max_epochs=1", "evaluation.splits=[dev]")
            swept = (f"optimizer.lr={rates}", "retrieval_loss.temperature=0.02,0.05")
            yield Cell("tune", base, data, "joint", 1, (*options, *swept))


def grid() -> Iterator[Cell]:
    """Whole seeds first, so that a table exists early."""
    tuned: dict[str, list[str]] = json.loads((HERE / "tune.json").read_text())
    for seed in SEEDS:
        for base in BASES:
            for data in DATA:
                for row, (plan, merges) in ROWS.items():
                    for merge in merges:
                        given = (*tuned[f"{base}-{data}"], *plan.split(), *merge.split())
                        yield Cell("grid", base, data, row, seed, given)


def collect() -> list[dict[str, Any]]:
    """Every measured model of the grid, with its scores in points."""
    found = []
    for file in sorted(RUNS.glob("grid/*/*/*/results.json")):
        setting, row, seed = file.parts[-4:-1]
        content = json.loads(file.read_text())
        for name, splits in content["models"].items():
            record = file.parent / "merged" / name / "merge.json"
            merge = json.loads(record.read_text()) if record.exists() else {}
            scores = {
                split: {test: [round(s["score"], 3), s["task"], s.get("in_domain", True)] for test, s in tests.items()}
                for split, tests in splits.items()
            }
            found.append(
                {
                    "setting": setting, "row": row, "seed": int(seed.removeprefix("seed-")), "model": name,
                    "merge": merge.get("strategy"), "rows": content["costs"].get(name), "scores": scores,
                }
            )  # fmt: skip
    return found


def main() -> None:
    """Run a study, or collect its scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=["tune", "grid", "collect"])
    parser.add_argument("root", nargs="?", help="the folder that sets.py made")
    parser.add_argument("--only", nargs="*", default=[], help="parts of settings and rows: cut-pairs per_task seed-1")
    given = parser.parse_args()
    if given.study == "collect":
        (HERE / "results.json").write_text(json.dumps(collect(), indent=1) + "\n")
        return
    for cell in {"tune": tune, "grid": grid}[given.study]():
        if all(part in cell.out.parts for part in given.only):
            print(f"== {time.strftime('%H:%M')} {cell.out} {' '.join(cell.options)}", flush=True)
            cell.run(given.root)


if __name__ == "__main__":
    main()
