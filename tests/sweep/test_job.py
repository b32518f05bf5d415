"""Sweeps as whole processes: killed and started again, under every launcher, on two devices, searched by Optuna."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightning_embed.sweep import records
from tests.logger.offline import read_runs
from tests.toy import write_toy

ROOT = Path(__file__).parent.parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Optuna 2 is older than its SQLAlchemy


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def given(tiny_model: Path, toy: Path) -> list[str]:
    """What all trainings here share."""
    return [
        f"encoder.path={tiny_model}", "encoder.max_length=32", f"data.root={toy}", "evaluation.splits=[dev]",
        *(f"data.datasets.{name}.{key}" for name, path in (("facts", "pairs"), ("phrases", "scores"))
          for key in (f"path={toy}/{path}", "batch_size=8")),
        "data.datasets.phrases.score_range=[0,1]", "trainer.max_steps=3", "trainer.accelerator=cpu",
        "trainer.val_check_interval=3", "trainer.enable_progress_bar=false",
    ]  # fmt: skip


def _start(folder: Path, script: str, *arguments: str) -> "subprocess.Popen[str]":
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    return subprocess.Popen(
        [sys.executable, str(ROOT / script), *arguments], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def _run(folder: Path, script: str, *arguments: str, status: int = 0) -> str:
    process = _start(folder, script, *arguments)
    said, _ = process.communicate(timeout=900)
    assert process.returncode == status, said[-5000:]
    return said


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records name the folders of their jobs as the sweep does: from where it was started."""
    monkeypatch.chdir(tmp_path)


def _sweep(folder: Path) -> Path:
    (found,) = folder.glob("runs/sweep-*")
    return found


def test_a_killed_sweep_does_the_rest(given: list[str], tmp_path: Path) -> None:
    """Six jobs in two folders; what was done before the kill is not touched, and the table is the undisturbed one."""
    command = ["-m", "seed=1,2", "merge=soup,slerp,karcher", *given]
    _run(tmp_path / "whole", "train.py", *command)
    process = _start(tmp_path / "killed", "train.py", *command)
    while process.poll() is None and len(list((tmp_path / "killed").glob("runs/sweep-*/jobs/*.json"))) < 3:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    written = list(_sweep(tmp_path / "killed").glob("jobs/*.json"))
    assert 3 <= len(written) < 6, "killed in the middle"
    outs = {job.out for record in written if (job := records.read(record)) is not None}
    models = [file for out in outs for file in (tmp_path / "killed" / out).rglob("*.safetensors")]
    before = {file: file.stat().st_mtime_ns for file in [*written, *models]}
    said = _run(tmp_path / "killed", "train.py", *command)
    assert said.count("done already: ") == len(written)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    whole, killed = ((_sweep(tmp_path / name) / "results.json").read_text() for name in ("whole", "killed"))
    assert killed == whole


def test_a_failed_job_stops_nothing(given: list[str], tmp_path: Path) -> None:
    """And the logged runs of all jobs, of which each has its own, are in the group of the sweep."""
    said = _run(tmp_path, "train.py", "-m", "experts.snapshots=1,50,2", "logger=wandb", *given, status=1)
    assert "1 of 3 jobs failed" in said
    assert (
        "  experts.snapshots=50: ConfigError: experts.snapshots=50: the training of retrieval has only 3 steps." in said
    )
    assert "Traceback" not in said
    found = records.read_all(_sweep(tmp_path))
    assert [job.is_done for job in found] == [True, True, False]
    assert "snapshots=2" in (_sweep(tmp_path) / "report.html").read_text()
    logged = [run for run in read_runs(tmp_path).values() if run.history]
    assert {run.group for run in logged} == {_sweep(tmp_path).name}
    assert len({run.id for run in logged}) == 6, "two experts and a merge, of two jobs"


@pytest.fixture(scope="module")
def sequential(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sequential")


@pytest.mark.parametrize("launcher", ["joblib hydra.launcher.n_jobs=2", "submitit_local", "ray"])
def test_experts_over_machines(launcher: str, given: list[str], sequential: Path, tmp_path: Path) -> None:
    """Two workers train an expert each, and merge.py joins them: bit for bit what one process does in turn."""
    bags = ["experts=bagging", "experts.bag_shares=[0.5,0.5]", "merge=multislerp", *given]
    if not (sequential / "out").exists():
        _run(sequential, "train.py", *bags, "out=out")
    word, *more = launcher.split()
    _run(tmp_path, "train.py", "-m", f"hydra/launcher={word}", *more, "experts.only=bag_0,bag_1", *bags, "out=out")
    for bag in ("bag_0", "bag_1"):
        found, expected = (folder / "out" / "models" / bag / "model.safetensors" for folder in (tmp_path, sequential))
        assert found.read_bytes() == expected.read_bytes()
    _run(tmp_path, "merge.py", "merge=multislerp", "sources=[out/models/bag_*]", "base=out/models/base", "out=merged")
    (found,), (expected,) = (f.rglob("merged/multislerp-*/model/model.safetensors") for f in (tmp_path, sequential))
    assert found.read_bytes() == expected.read_bytes()


def test_jobs_at_the_same_time_train_a_shared_expert_once(given: list[str], tmp_path: Path) -> None:
    command = ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "merge=soup,slerp", *given]
    said = _run(tmp_path, "train.py", *command)
    assert said.count("trained already") == 2
    assert len(list(tmp_path.glob("runs/quickstart-*/merged/*"))) == 2
    assert {job.is_done for job in records.read_all(_sweep(tmp_path))} == {True}


def test_several_devices_in_a_job(given: list[str], tmp_path: Path) -> None:
    """Every rank of every job has the config of the job: its weights are those of the command without a sweep."""
    devices = ["trainer.devices=2", "trainer.strategy=ddp", *given]
    _run(tmp_path, "train.py", "-m", "seed=1,2", *devices)
    found = records.read_all(_sweep(tmp_path))
    assert [job.choices[0].text for job in found] == ["seed=1", "seed=2"]
    assert all(job.is_done and job.value is not None for job in found)
    _run(tmp_path, "train.py", "seed=2", *devices, "out=alone")
    for expert in ("retrieval", "sts"):
        one, other = (
            folder / "models" / expert / "model.safetensors" for folder in (Path(found[1].out), tmp_path / "alone")
        )
        assert one.read_bytes() == other.read_bytes()


def test_a_search_goes_on(given: list[str], tmp_path: Path) -> None:
    """Optuna over a merge: per-layer coefficients and a weight, against dev; more trials continue the study."""
    import optuna

    _run(tmp_path, "train.py", "merge=none", *given, "out=out")
    command = [
        "-m", "hydra/sweeper=search", "sources=[out/models/retrieval,out/models/sts]", "base=out/models/base",
        "merge=soup", "merge.weighting=given", "+let.low=interval(0.0,1.0)", "+let.share=interval(0.1,0.9)",
        "merge.weights=[${let.share},0.5]", 'merge.layers=["encoder.layer.0[.].*=${let.low}"]', "measure_sources=false",
        *(option for option in given if option.startswith(("data.", "evaluation."))), "data=sample",
    ]  # fmt: skip
    _run(tmp_path, "merge.py", *command, "hydra.sweeper.n_trials=2")
    said = _run(tmp_path, "merge.py", *command, "hydra.sweeper.n_trials=5")
    assert "the search continues: 2 trials are done, 3 remain" in said
    folder = _sweep(tmp_path)
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{folder}/study.db")
    found = records.read_all(folder)
    assert len(study.trials) == len(found) == 5
    assert study.best_value == max(job.value for job in found if job.value is not None)
    drawn = {trial.params["+let.low"] for trial in study.trials}
    assert len(drawn) == 5, "the sampler went on too"
    recipes = json.loads((folder / "results.json").read_text())["recipes"]
    assert sum(recipe["kind"] == "merge" for recipe in recipes) == 5
    layers = [json.loads(f.read_text())["options"]["layers"] for f in tmp_path.glob("runs/merge-*/merged/*/merge.json")]
    assert sorted(float(rule.partition("=")[2]) for (rule,) in layers) == pytest.approx(sorted(drawn))
