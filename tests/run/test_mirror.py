"""`mirror=`: a run goes on on an empty machine."""

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightning_embed.errors import CheckpointError
from lightning_embed.run import merge, train
from tests.merge import toy as merge_toy
from tests.run.test_train import ROOT, _cfg, _overrides
from tests.toy import write_toy

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns of itself in a whole run

RUN = (
    "experts=per_task", "experts.snapshots=2", "merge=soup", "evaluation=none", "checkpoint_minutes=0.001",
    "trainer.max_steps=20",
)  # fmt: skip


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.mark.slow
def test_a_run_goes_on_on_an_empty_machine(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    """Killed in the second expert, and its disk is lost: the same command ends with the undisturbed run's weights."""
    storage, whole, out = tmp_path / "storage", tmp_path / "whole", tmp_path / "out"
    storage.mkdir()
    train.train(_cfg("train", _overrides(tiny_model, toy, whole, *RUN)))
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        *_overrides(tiny_model, toy, out, *RUN, f"mirror=file://{storage}"),
    ]
    process = subprocess.Popen(command, cwd=tmp_path)
    first = None
    while not first or len({file.parent for file in storage.rglob("last.*.ckpt")} - {first}) == 0:
        first = first or next((file.parent for file in storage.rglob("last.*.ckpt")), None)
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    shutil.rmtree(out)
    again = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=True).stdout
    assert re.search(rf"\d+ files of this run came from file://{storage}/out", again)
    assert f"{first.name}: trained already" in again
    models = {file.relative_to(whole) for file in whole.rglob("*.safetensors")}
    assert {file.relative_to(out) for file in out.rglob("*.safetensors")} == models
    assert len(models) > 4
    for model in models:
        assert (out / model).read_bytes() == (whole / model).read_bytes(), model
    assert not list(storage.rglob("last.*")), "the checkpoints of finished experts are removed there too"
    assert {file.name.split(".")[0] for file in (storage / "out/run").iterdir()} >= {
        "run",
        "report",
        "models",
        "merged",
    }


def test_storage_that_is_not_there(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    """Before anything is made."""
    out = tmp_path / "out"
    with pytest.raises(CheckpointError, match="mirror=file:///absent: expected a folder that exists"):
        train.train(_cfg("train", _overrides(tiny_model, toy, out, "mirror=file:///absent")))
    assert not out.exists()


def test_a_merge_is_not_made_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, tensors = merge_toy.family(2)
    paths = [merge_toy.write(tmp_path / "models" / f"s{number}", t) for number, t in enumerate(tensors)]
    (tmp_path / "storage").mkdir()
    options = [f"sources=[{','.join(map(str, paths))}]", "evaluation=none", "logger=none", f"out={tmp_path}/out"]
    made = []
    for number in range(2):
        merge.merge(_cfg("merge", [*options, f"mirror=file://{tmp_path}/storage"]))
        made.append({file.relative_to(tmp_path): file.read_bytes() for file in tmp_path.glob("out/merged/*/*/*")})
        assert ("merging" in capsys.readouterr().out) is (number == 0)
        shutil.rmtree(tmp_path / "out")
    assert made[0] == made[1] != {}
