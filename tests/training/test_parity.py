"""The parity matrix: every loss, on one process or two, plain or cached, is the same loss with the same gradient."""

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_embed import registry
from tests.toy import write_toy
from tests.training import parity, two_processes
from tests.training.parity import CASES

ROOT = Path(__file__).parents[2]

# what must be equal to what
WHOLE = ["whole cached", "whole partial", "cross-device plain", "cross-device cached", "cross-device partial"]
MEAN = [
    "accumulated plain", "accumulated cached", "accumulated partial", "per rank plain", "per rank cached", "per rank partial",
]  # fmt: skip


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def pair(tiny_model: Path, toy: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The findings of one pair of gloo processes."""
    out = tmp_path_factory.mktemp("pair")
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    command = [*launch, "-m", "tests.training.pair", *map(str, (tiny_model, toy, out))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = torch.load(out / "pair.pt")
    return found


@pytest.fixture(scope="module")
def record(tiny_model: Path, pair: dict[str, Any]) -> dict:
    """Values and gradients of this process, and of the pair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning warns of few workers and of itself
        return parity.measured(tiny_model) | pair["steps"]


def test_every_loss_is_a_case() -> None:
    assert {options.get("name", case) for case, (_, options) in CASES.items()} == set(registry.names("loss"))


@pytest.mark.slow  # a minute for the processes of all
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("mode", "expected"), [*((mode, "whole plain") for mode in WHOLE), *((mode, "mean of halves") for mode in MEAN)]
)
def test_parity(record: dict, case: str, mode: str, expected: str) -> None:
    (value, gradient), (reference, its_gradient) = record[case, mode], record[case, expected]
    torch.testing.assert_close(value, reference, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient, its_gradient, rtol=1e-7, atol=1e-9 * float(its_gradient.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_comparison_means_something(record: dict, case: str) -> None:
    """There is a gradient, and the mean of the halves is another loss wherever rows are compared with each other."""
    whole, halves = record[case, "whole plain"], record[case, "mean of halves"]
    assert whole[1].norm() > 1e-6
    if case not in ("cosine_mse", "infonce grouped", "distill_embeddings of labels"):
        assert not torch.allclose(whole[1], halves[1], rtol=1e-3, atol=1e-9)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # as above
@pytest.mark.parametrize("accumulate", two_processes.ACCUMULATE)
def test_two_processes_equal_one(
    accumulate: int, pair: dict[str, Any], tiny_model: Path, toy: Path, tmp_path: Path
) -> None:
    """Loss and gradient of every step, and the weights after four: cross-device InfoNCE (both ways, learned temperature), CoSENT."""
    one, two = two_processes.trained(tiny_model, toy, tmp_path, accumulate), pair["trainings"][accumulate]
    assert len(one["record"]) == 4
    assert {name for losses, _ in one["record"] for name in losses} == {"pairs", "scores"}
    for its, theirs in zip(one["record"], two["record"], strict=True):
        torch.testing.assert_close(its, theirs, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(one["weights"], two["weights"], rtol=1e-9, atol=1e-11)
