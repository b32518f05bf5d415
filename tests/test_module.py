"""The module: two processes equal one; what a loss is given; refusals."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightning_embed.errors import ConfigError
from lightning_embed.loss.cosent import CoSENT
from lightning_embed.module import check_losses
from lightning_embed.types import Task
from tests.toy import write_toy

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_equal_one(tiny_model: Path, tmp_path: Path, accumulate: int) -> None:
    """Loss and gradient of every step, and the weights after four: cross-device InfoNCE (both ways) and CoSENT."""
    data = write_toy(tmp_path / "toy")
    runs = {}
    for ranks, launcher in ((1, []), (2, ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"])):
        out = tmp_path / f"{ranks}.pt"
        command = [sys.executable, *launcher, str(SCRIPT), str(tiny_model), str(data), str(out), str(accumulate)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=SCRIPT.parent.parent, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]
        runs[ranks] = torch.load(out)
    assert len(runs[1]["record"]) == 4
    assert {name for losses, _ in runs[1]["record"] for name in losses} == {"pairs", "scores"}
    for one, two in zip(runs[1]["record"], runs[2]["record"], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(runs[1]["weights"], runs[2]["weights"], rtol=1e-9, atol=1e-11)


def test_a_loss_of_scores_cannot_train_retrieval() -> None:
    with pytest.raises(ConfigError, match="CoSENT cannot train retrieval: it serves sts"):
        check_losses({Task.retrieval: CoSENT()})
