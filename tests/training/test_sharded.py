"""`trainer.strategy=fsdp`: several ranks that share one model train what one process trains."""

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_embed.merge import Source
from lightning_embed.merge.checkpoint.reader import ModelDirectory
from lightning_embed.runtime import distributed
from tests.toy import write_toy
from tests.training.sharded_ranks import CASES, trained, with_callbacks

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def one(tiny_model: Path, toy: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process finds, not sharded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: dict[str, Any] = {name: trained(tiny_model, toy, case) for name, case in CASES.items()}
        found["out"] = tmp_path_factory.mktemp("one")
        found["callbacks"] = with_callbacks(tiny_model, toy, found["out"])
    return found


@pytest.fixture(scope="module", params=[2, 4])
def several(request: Any, tiny_model: Path, toy: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What several gloo processes find."""
    out = tmp_path_factory.mktemp("several")
    launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={request.param}", "--standalone"]
    command = [*launch, "-m", "tests.training.sharded_ranks", *map(str, (tiny_model, toy, out))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = torch.load(out / "found.pt")
    return found | {"out": out, "ranks": request.param}
