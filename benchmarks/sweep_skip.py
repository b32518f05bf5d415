"""Seconds until a sweep whose jobs are all done has passed over them.

python benchmarks/sweep_skip.py --jobs 100 1000      (MiniLM of the quickstart extra; about a minute)

One job of a sweep runs, with a training that does nothing. Its records are then copied for the other jobs, whose seeds
alone differ, and the command of the whole sweep is given.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from lightning_embed.sweep import known_jobs, records

_JOB = """
import sys, types
from pathlib import Path
import lightning_embed.run
run = types.ModuleType("lightning_embed.run.train")
run.train = lambda cfg: Path(cfg.out).mkdir(parents=True, exist_ok=True)
sys.modules[run.__name__] = lightning_embed.run.train = run
from lightning_embed.cli.entry import train
train()
"""


def seconds(folder: Path, *arguments: str) -> tuple[float, float, str]:
    """Seconds on the clock and of the processor, and the output of a sweep."""
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    said = subprocess.run(
        [sys.executable, "-c", _JOB, "-m", "hydra.sweep.dir=sweep", *arguments], cwd=folder, env=environment,
        check=True, text=True, capture_output=True,
    ).stdout  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - begin, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, said


def main() -> None:
    """Print the seconds for each number of jobs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[100, 1000])
    for number in parser.parse_args().jobs:
        with TemporaryDirectory() as name:
            folder = Path(name)
            seconds(folder, "seed=0,0")  # a swept key with one value is no sweep of Hydra
            sweep = folder / "sweep"
            known = json.loads(known_jobs._file(sweep, ["seed=0"]).read_text())
            (file,) = (sweep / records.FOLDER).glob("*.json")
            job = records.read(file)
            assert job is not None
            for seed in range(number):
                (choice,) = job.choices
                text = f"seed={seed}"
                records.write(file.with_stem(text), replace(job, choices=[replace(choice, value=str(seed), text=text)]))
                known_jobs._file(sweep, [text]).write_text(json.dumps({**known, "job": text}))
            clock, cpu, said = seconds(folder, f"seed={','.join(map(str, range(number)))}")
            assert said.count("done already") == number, said
            print(f"{number:6,} finished jobs: {clock:.1f} s on the clock, {cpu:.1f} s of the processor", flush=True)


if __name__ == "__main__":
    main()
