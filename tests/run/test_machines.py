"""A training by processes that are started by hand on several machines: here, two on one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.run.test_train import ROOT, _overrides
from tests.toy import write_toy


@pytest.mark.slow
def test_two_machines_train_what_one_of_two_processes_does(tiny_model: Path, tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "toy")
    command = [sys.executable, str(ROOT / "train.py")]
    more = ("evaluation=none", "merge=none", "experts=joint")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    two = _overrides(tiny_model, toy, tmp_path / "two", *more, "trainer.num_nodes=2", "trainer.devices=1")
    machines = [subprocess.Popen([*command, *two], env={**environment, "NODE_RANK": rank}) for rank in "01"]
    assert [machine.wait(300) for machine in machines] == [0, 0]
    one = _overrides(tiny_model, toy, tmp_path / "one", *more, "trainer.devices=2")
    assert subprocess.run([*command, *one], env=environment, timeout=300, check=False).returncode == 0
    weights = [tmp_path / run / "models/joint/model.safetensors" for run in ("one", "two")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
