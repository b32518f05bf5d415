"""Kills at random moments: does the same command again end with the undisturbed run's weights and scores?

    python benchmarks/kills.py --rounds 60

Each round starts a command (a training, one on two ranks, a merge, an evaluation, a sweep, a search) in a folder and with
a cache of its own, sends SIGKILL, SIGTERM or SIGINT once or twice at random moments, and repeats the command to its end.
A round passes if every status is right (137, 143, 130; 0 at the end), if no signal that can be handled leaves a
traceback, more than one line, or a process, and if all weights and results.json are those of the undisturbed command (of
a search: as many, and the same for the options that both have drawn). No network, no data: the embedded data set and a
random encoder of two layers. Exit status 1: a round failed.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import string
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
SECONDS = 240  # that a signal has to end a command, on a machine that is busy; the grace time is 60 s
TRAINING = (
    "trainer.max_steps=30", "trainer.val_check_interval=10", "trainer.accelerator=cpu", "checkpoint_minutes=0.001",
    "trainer.enable_progress_bar=false", "data.datasets.facts.max_rows=200", "data.datasets.phrases.max_rows=200",
    "encoder.max_length=32",
)  # fmt: skip
SEARCH = (
    "-m",
    "hydra/sweeper=search",
    "hydra.sweeper.n_trials=4",
    "merge=task_arithmetic",
    "merge.scale=interval(0,1)",
)


def commands(model: Path, trained: Path) -> dict[str, list[str]]:
    """The commands by name; those of merge.py use the experts in the run `trained`."""
    train = [str(ROOT / "train.py"), f"encoder.path={model}", *TRAINING]
    sources = ",".join(str(trained / "models" / name) for name in ("retrieval", "sts"))
    merge = [str(ROOT / "merge.py"), f"sources=[{sources}]", f"base={trained}/models/base", "data=sample"]
    return {
        "train": [*train, "experts=per_task", "experts.snapshots=2", "merge=soup"],
        "two ranks": [*train, "experts=joint", "trainer.devices=2", "merge=none"],
        "merge": [*merge, "merge=self_positioning", "merge.steps=20"],
        "evaluation": [*merge, "merge=none"],
        "sweep": [*train, "-m", "experts=joint", "merge=none", "seed=1,2"],
        "search": [*merge, *SEARCH],
    }


@dataclass(frozen=True)
class Undisturbed:
    """A command that ran to its end.

    Args:
        command: arguments of Python.
        seconds: its duration.
        outcome: its weights and scores, by file.
        draws: whether it draws options; a search that goes on draws other ones than it would have.
    """

    command: Sequence[str]
    seconds: float
    outcome: Mapping[str, Any]
    draws: bool


def outcome(folder: Path) -> dict[str, Any]:
    """Digests of all weights, by path, and the scores in each results.json, by path and model or job."""
    found: dict[str, Any] = {}
    for file in sorted(folder.glob("runs/**/*")):
        name = str(file.relative_to(folder))
        if file.suffix == ".safetensors":
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
        elif file.name == "results.json":
            found |= {f"{name}, {key}": scores for key, scores in _scores(json.loads(file.read_text())).items()}
    return found


def _scores(results: dict[str, Any]) -> dict[str, Any]:
    """The scores of a run's models, or, of a sweep, of its jobs; costs and seconds may differ."""
    if "models" in results:
        return dict(results["models"])
    return {recipe["name"]: recipe["seeds"] for recipe in results["recipes"]}


@contextmanager
def started(command: Sequence[str], folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process of a session of its own, in the folder and with a cache in it; its output goes to files there."""
    environment = {**os.environ, "LIGHTNING_EMBED_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    with (folder / "out").open("ab") as out, (folder / "errors").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=folder, env=environment, stdout=out, stderr=errors, start_new_session=True
        )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def undisturbed(command: Sequence[str], folder: Path) -> Undisturbed:
    """Run a command to its end."""
    folder.mkdir()
    begun = time.monotonic()
    with started(command, folder) as process:
        status = process.wait()
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {status}: {(folder / 'errors').read_text()}")
    return Undisturbed(command, time.monotonic() - begun, outcome(folder), "hydra/sweeper=search" in command)


def faults(whole: Undisturbed, folder: Path, draw: random.Random, log: list[str]) -> Iterator[str]:
    """What went wrong in a round; the signals and their moments are added to `log`."""
    folder.mkdir()
    for _ in range(draw.choice((1, 1, 2))):
        signum, moment, group = draw.choice(SIGNALS), draw.uniform(0, whole.seconds), draw.random() < 0.5
        log.append(f"{signum.name} {moment:.1f} s")
        with started(whole.command, folder) as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(moment)
            if process.poll() is None:
                (os.kill if signum is signal.SIGTERM and not group else os.killpg)(process.pid, signum)
            try:
                status = process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                yield f"{signum.name} at {moment:.2f} s did not end it in {SECONDS} s"
                return
            errors = (folder / "errors").read_text()
            if status not in (0, -signum, 128 + signum):
                yield f"status {status} after {signum.name} at {moment:.2f} s: {errors[-500:]}"
            elif status == 128 + signum and (errors.count("the same command goes on") != 1 or "Traceback" in errors):
                yield f"said of {signum.name}: {errors[-2000:]}"
            if signum is not signal.SIGKILL and not is_gone(process.pid):
                yield f"processes left by {signum.name}"
    with started(whole.command, folder) as process:
        status = process.wait()
    if status:
        yield f"status {status} at the end: {(folder / 'errors').read_text()[-2000:]}"
    found = outcome(folder)
    for name in sorted(found.keys() & whole.outcome.keys() if whole.draws else found.keys() | whole.outcome.keys()):
        if found.get(name) != whole.outcome.get(name):
            yield f"{name} differs from the undisturbed command's" if name in found else f"{name} is missing"
    if len(found) < len(whole.outcome):
        yield f"{len(whole.outcome) - len(found)} weights and scores are missing"
    yield from (
        f"left behind: {path.relative_to(folder)}" for path in folder.glob("runs/**/.*") if path.suffix != ".lock"
    )


def is_gone(group: int, seconds: float = 10) -> bool:
    """Whether all processes of a group end in this time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def make_model(folder: Path) -> Path:
    """A random BERT of two layers whose tokens are letters."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    torch.manual_seed(0)
    letters = string.ascii_lowercase + string.digits + string.punctuation
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    BertTokenizer(vocab={word: number for number, word in enumerate(words)}, model_max_length=64).save_pretrained(
        folder
    )
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=64, **sizes)).save_pretrained(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=1, help="rounds that run side by side")
    parser.add_argument("--only", help="one of the commands")
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        top = Path(name)
        model = make_model(top / "model")
        first = undisturbed(commands(model, top)["train"], top / "train")
        (trained,) = (top / "train" / "runs").iterdir()
        named = commands(model, trained)
        chosen = [options.only] if options.only else list(named)
        whole = {each: first if each == "train" else undisturbed(named[each], top / each) for each in chosen}
        print("undisturbed:", ", ".join(f"{each} {run.seconds:.0f} s" for each, run in whole.items()), flush=True)

        def one(number: int) -> bool:
            command, log = chosen[number % len(chosen)], list[str]()
            draw = random.Random(f"{options.seed} {number}")
            found = list(faults(whole[command], top / f"round {number}", draw, log))
            print(f"{number:3} {command}: {', '.join(log)}: {'; '.join(found) or 'equal'}", flush=True)
            return not found

        with ThreadPoolExecutor(options.at_once) as pool:
            passed = list(pool.map(one, range(options.rounds)))
    print(
        f"{sum(passed)} of {len(passed)} rounds ended with the undisturbed weights and scores, and with the right status"
    )
    sys.exit(sum(passed) != len(passed))


if __name__ == "__main__":
    main()
