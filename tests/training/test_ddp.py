"""train.py with two processes: Lightning starts the second, which leaves before the merge."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from tests.run.test_train import ROOT, _overrides
from tests.toy import write_toy


@pytest.mark.slow
def test_a_whole_run_on_two_devices(tiny_model: Path, tmp_path: Path) -> None:
    overrides = _overrides(
        tiny_model, write_toy(tmp_path / "toy"), tmp_path / "run", "trainer.devices=2", "trainer.strategy=ddp"
    )
    command = [sys.executable, str(ROOT / "train.py"), *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.name for path in (tmp_path / "run" / "models").iterdir()} == {"base", "retrieval", "sts"}
    assert done.stdout.count("models, merge and report:") == 1, "only one process merges and measures"


@pytest.mark.slow
def test_an_expert_that_another_process_trains_is_waited_for_by_all_ranks(tiny_model: Path, tmp_path: Path) -> None:
    """Here the other process is this one: what it leaves is the expert, for rank zero as for its neighbour."""
    out = tmp_path / "run"
    overrides = _overrides(
        tiny_model, write_toy(tmp_path / "toy"), out, "trainer.devices=2", "trainer.strategy=ddp", "evaluation=none"
    )
    lock = FileLock(out / "checkpoints" / "sts" / "lock")
    Path(lock.lock_file).parent.mkdir(parents=True)
    lock.acquire()
    process = subprocess.Popen(
        [sys.executable, "-u", str(ROOT / "train.py"), *overrides], stdout=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    while "another process is training it; waiting" not in (line := process.stdout.readline()):
        assert line, "it ended"
    shutil.copytree(out / "models" / "retrieval", out / "models" / "sts")
    lock.release()
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0
    assert "sts: trained already" in said


def test_indivisible_batch_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    from hydra.core.global_hydra import GlobalHydra

    from lightning_embed.config.compose import check_command
    from lightning_embed.errors import ConfigError

    GlobalHydra.instance().clear()
    with pytest.raises(
        ConfigError, match=r"facts: batch_size=30 rows cannot be shared equally by 4 ranks: use 28 or 32"
    ):
        check_command("train", ["trainer.devices=4", "data.datasets.facts.batch_size=30"])
