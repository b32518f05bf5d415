"""The parity matrix: every loss, on one process or two, plain or cached, is the same loss with the same gradient."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightning_embed import registry
from tests.training.parity import CASES

SCRIPT = Path(__file__).with_name("parity.py")

# what must be equal to what
WHOLE = ["whole cached", "whole partial", "cross-device plain", "cross-device cached", "cross-device partial"]
MEAN = [
    "accumulated plain", "accumulated cached", "accumulated partial", "per rank plain", "per rank cached", "per rank partial",
]  # fmt: skip


@pytest.fixture(scope="module")
def record(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Values and gradients of one process, and of one pair of gloo processes."""
    folder, record = tmp_path_factory.mktemp("parity"), {}
    for ranks, launcher in ((1, []), (2, ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"])):
        command = [sys.executable, *launcher, str(SCRIPT), str(tiny_model), str(folder / f"{ranks}.pt")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=SCRIPT.parents[2], timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
        record |= torch.load(folder / f"{ranks}.pt")
    return record


def test_every_loss_is_a_case() -> None:
    assert {options.get("name", case) for case, (_, options) in CASES.items()} == set(registry.names("loss"))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("mode", "expected"), [*((mode, "whole plain") for mode in WHOLE), *((mode, "mean of halves") for mode in MEAN)]
)
def test_parity(record: dict, case: str, mode: str, expected: str) -> None:
    (value, gradient), (reference, its_gradient) = record[case, mode], record[case, expected]
    torch.testing.assert_close(value, reference, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient, its_gradient, rtol=1e-7, atol=1e-9 * float(its_gradient.abs().max()))


@pytest.mark.parametrize("case", CASES)
def test_the_comparison_means_something(record: dict, case: str) -> None:
    """There is a gradient, and the mean of the halves is another loss wherever rows are compared with each other."""
    whole, halves = record[case, "whole plain"], record[case, "mean of halves"]
    assert whole[1].norm() > 1e-6
    if case not in ("cosine_mse", "infonce grouped"):
        assert not torch.allclose(whole[1], halves[1], rtol=1e-3, atol=1e-9)
