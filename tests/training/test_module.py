"""The module: two processes equal one; what a loss is given; refusals."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightning_embed.errors import ConfigError
from lightning_embed.loss.pearson import Pearson
from lightning_embed.training.module import check_losses
from lightning_embed.types import Task
from tests.toy import write_toy

SCRIPT = Path(__file__).with_name("two_processes.py")


ACCUMULATE = (1, 2)


@pytest.fixture(scope="module")
def runs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Ranks -> the folder of what they saw: one process, and one pair of gloo processes."""
    data = write_toy(tmp_path_factory.mktemp("toy"))
    folders = {ranks: tmp_path_factory.mktemp(f"ranks-{ranks}") for ranks in (1, 2)}
    for ranks, launcher in ((1, []), (2, ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"])):
        given = [str(tiny_model), str(data), str(folders[ranks]), *map(str, ACCUMULATE)]
        done = subprocess.run(
            [sys.executable, *launcher, str(SCRIPT), *given],
            capture_output=True, text=True, check=False, cwd=SCRIPT.parents[2], timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
    return folders


@pytest.mark.parametrize("accumulate", ACCUMULATE)
def test_two_processes_equal_one(runs: dict[int, Path], accumulate: int) -> None:
    """Loss and gradient of every step, and the weights after four: cross-device InfoNCE (both ways) and CoSENT."""
    one, two = (torch.load(runs[ranks] / f"{accumulate}.pt") for ranks in (1, 2))
    assert len(one["record"]) == 4
    assert {name for losses, _ in one["record"] for name in losses} == {"pairs", "scores"}
    for its, theirs in zip(one["record"], two["record"], strict=True):
        torch.testing.assert_close(its, theirs, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(one["weights"], two["weights"], rtol=1e-9, atol=1e-11)


def test_a_loss_of_scores_cannot_train_retrieval() -> None:
    with pytest.raises(ConfigError, match="Pearson cannot train retrieval: it supports sts"):
        check_losses({Task.retrieval: Pearson()})
