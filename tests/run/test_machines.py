"""A training by processes that Lightning, torchrun, srun or people start, on one machine or several (here: all on this one)."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.run.machines import PATIENCE, ROOT, environment, free_port, run, started, torchrun
from tests.run.test_train import _overrides
from tests.toy import write_toy

TRAIN = str(ROOT / "train.py")


def _training(tiny_model: Path, folder: Path, *more: str) -> list[str]:
    toy = folder / "toy"
    return [
        TRAIN,
        *_overrides(tiny_model, toy if toy.exists() else write_toy(toy), folder / "run", "merge=none", "experts=joint"),
        *more,
    ]


def _weights(folder: Path) -> bytes:
    return (folder / "run/models/joint/model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def by_lightning(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of a training that Lightning's launcher starts, on two devices of one machine."""
    folder = tmp_path_factory.mktemp("lightning")
    command = [sys.executable, *_training(tiny_model, folder, "trainer.devices=2", "evaluation=none")]
    (done,) = run([command], [environment()], folder)
    assert done[0] == 0, done
    return _weights(folder)


@pytest.mark.slow
def test_torchrun(tiny_model: Path, by_lightning: bytes, tmp_path: Path) -> None:
    command = [
        *torchrun("--nproc_per_node=2", f"--master_port={free_port()}"),
        *_training(tiny_model, tmp_path, "trainer.devices=2"),
    ]
    (done,) = run([command], [environment()], tmp_path)
    assert done[0] == 0, done
    assert _weights(tmp_path) == by_lightning
    assert done[1].count("models and report:") == 1, "one process reports"


@pytest.mark.slow
def test_two_agents_of_torchrun(tiny_model: Path, by_lightning: bytes, tmp_path: Path) -> None:
    rendezvous = ["--nnodes=2", "--nproc_per_node=1", "--rdzv_backend=c10d", f"--rdzv_endpoint=127.0.0.1:{free_port()}"]
    one = ["trainer.num_nodes=2", "trainer.devices=1", "evaluation=none"]
    command = [*torchrun(*rendezvous), *_training(tiny_model, tmp_path, *one)]
    done = run([command] * 2, [environment()] * 2, tmp_path)
    assert [status for status, *_ in done] == [0, 0], done
    assert _weights(tmp_path) == by_lightning


def _of_slurm(task: int, port: str) -> dict[str, str]:
    """The variables of a task of srun --nodes=2 --ntasks-per-node=1."""
    return environment(
        SLURM_JOB_ID="1234", SLURM_JOB_NAME="train", SLURM_NTASKS="2", SLURM_NTASKS_PER_NODE="1", SLURM_NNODES="2",
        SLURM_PROCID=str(task), SLURM_LOCALID="0", SLURM_NODEID=str(task), SLURM_NODELIST="127.0.0.1",
        MASTER_ADDR="127.0.0.1", MASTER_PORT=port,
    )  # fmt: skip


def _by_hand(machine: int, port: str) -> dict[str, str]:
    return environment(NODE_RANK=str(machine), MASTER_ADDR="127.0.0.1", MASTER_PORT=port)


@pytest.mark.slow
@pytest.mark.parametrize("place", [_of_slurm, _by_hand])
def test_two_machines(place, tiny_model: Path, by_lightning: bytes, tmp_path: Path) -> None:
    more = ["trainer.num_nodes=2", "trainer.devices=1", "evaluation=none"]
    command, port = [sys.executable, *_training(tiny_model, tmp_path, *more)], free_port()
    done = run([command] * 2, [place(0, port), place(1, port)], tmp_path)
    assert [status for status, *_ in done] == [0, 0], done
    assert _weights(tmp_path) == by_lightning


@pytest.mark.slow
@pytest.mark.parametrize(("number", "said"), [(signal.SIGKILL, "rank 1 of 2"), (signal.SIGTERM, "stopped by SIGTERM")])
def test_the_end_of_one_machine_ends_the_other(
    number: signal.Signals, said: str, tiny_model: Path, tmp_path: Path
) -> None:
    more = ["trainer.num_nodes=2", "trainer.devices=1", "evaluation=none", "trainer.max_steps=100000"]
    more += ["trainer.val_check_interval=100000"]
    command, port = [sys.executable, *_training(tiny_model, tmp_path, *more)], free_port()
    with started([command] * 2, [_by_hand(0, port), _by_hand(1, port)], tmp_path) as machines:
        until = time.monotonic() + PATIENCE
        while not list((tmp_path / "run").rglob("metrics.csv")):
            assert time.monotonic() < until
            assert all(machine.poll() is None for machine in machines)
            time.sleep(0.1)
        os.kill(machines[1].pid, number)
        begun = time.monotonic()
        errors = "".join(machine.communicate(timeout=30)[1] for machine in machines)
        assert time.monotonic() - begun < 20
    statuses = [machine.returncode for machine in machines]
    assert statuses == ([1, -9] if number == signal.SIGKILL else [143, 143]), errors
    lines = [line for line in errors.splitlines() if "the same command goes on" in line]
    assert len(lines) == 1, errors
    assert said in lines[0]


@pytest.mark.slow
def test_other_data_on_one_machine(tiny_model: Path, tmp_path: Path) -> None:
    more = ["trainer.num_nodes=2", "trainer.devices=1", "evaluation=none"]
    command, port = [sys.executable, *_training(tiny_model, tmp_path, *more)], free_port()
    done = run([command, [*command, "seed=7"]], [_by_hand(0, port), _by_hand(1, port)], tmp_path)
    assert [status for status, *_ in done] == [2, 2], done
    said = "".join(errors for *_, errors in done)
    assert said.count("ConfigError: Two ranks found different data, bases or options") == 1, said
    assert "Traceback" not in said
