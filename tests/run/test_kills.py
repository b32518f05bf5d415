"""What a run survives: kills at the worst moments, a full disk."""

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from lightning_embed import load
from lightning_embed.callback import AtomicCheckpointIO
from lightning_embed.encoder import Encoder
from lightning_embed.run import train
from lightning_embed.runtime import fault_injection
from tests.merge import toy as merge_toy
from tests.run.test_fit import _weights
from tests.run.test_train import ROOT, _cfg, _overrides
from tests.toy import write_toy

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns of itself in a whole run


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.mark.slow
def test_killed_between_the_last_step_and_the_export(
    tiny_model: Path, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint of the last step alone still becomes the model, and its average the average."""
    more = ("experts=joint", "experts.ema=0.5", "merge=none", "evaluation=none", "checkpoint_minutes=0")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train.train(_cfg("train", _overrides(tiny_model, toy, whole, *more)))
    export = Encoder.export
    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "export", lambda self, target: export(self, target) if target.name == "base" else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train.train(_cfg("train", _overrides(tiny_model, toy, killed, *more)))
    assert list(killed.rglob("last.ckpt"))
    train.train(_cfg("train", _overrides(tiny_model, toy, killed, *more)))
    for name in ("joint", "joint-ema"):
        assert torch.equal(_weights(killed / "models" / name), _weights(whole / "models" / name)), name


RUN = (
    "experts=per_task", "experts.snapshots=2", "experts.ema=0.9", "merge=none", "evaluation=none",
    "checkpoint_minutes=0.0001", "trainer.max_steps=60", "trainer.val_check_interval=7",
)  # fmt: skip


def _run(overrides: list[str], folder: Path, **environment: str) -> "subprocess.Popen[str]":
    whole = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen([sys.executable, str(ROOT / "train.py"), *overrides], env=whole, cwd=folder, text=True)


@pytest.fixture(scope="module")
def undisturbed(tiny_model: Path, toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    assert _run(_overrides(tiny_model, toy, out, *RUN), out).wait(300) == 0
    return out


def _same_models(one: Path, other: Path) -> None:
    names = {path.name for path in (one / "models").iterdir()}
    assert {path.name for path in (other / "models").iterdir() if not path.name.startswith(".")} == names
    for name in names:
        files = [run / "models" / name / "model.safetensors" for run in (one, other)]
        assert files[0].read_bytes() == files[1].read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    [
        "before_step:20", "after_step:20", "before_replace:11", "in_validation:5", "before_export", "before_rename:2",
        "before_rename:3", "between_experts",
    ],
)  # fmt: skip
def test_killed_at(point: str, tiny_model: Path, toy: Path, undisturbed: Path, tmp_path: Path) -> None:
    """The process dies at the named point as by kill -9; the same command again ends with the undisturbed run's weights."""
    overrides = _overrides(tiny_model, toy, tmp_path, *RUN)
    assert _run(overrides, tmp_path, **{fault_injection.VARIABLE: point}).wait(300) == -signal.SIGKILL
    assert _run(overrides, tmp_path).wait(300) == 0
    _same_models(undisturbed, tmp_path)


@pytest.mark.slow
def test_killed_five_times_at_random(tiny_model: Path, toy: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Each time some moments after the training has gone on by a checkpoint, wherever that is."""
    draw, overrides = random.Random(3), _overrides(tiny_model, toy, tmp_path, *RUN)
    for _ in range(5):
        begun, process = time.time(), _run(overrides, tmp_path)
        while not any(file.stat().st_mtime > begun for file in tmp_path.glob("checkpoints/*/last.ckpt")):
            assert process.poll() is None, "ended before it could be killed"
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.3))
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert _run(overrides, tmp_path).wait(300) == 0
    _same_models(undisturbed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["before_step:20", "after_step:70"])
def test_many_rows_of_one_file_are_killed(point: str, tiny_model: Path, tmp_path: Path) -> None:
    """Rows that worker processes have checked, a test set cut off them, batches of workers, into the second epoch.

    The orders of rows, and of the documents that are left aside, are functions: what resumes needs no state of them.
    """
    words = ["red", "blue", "cat", "dog", "river", "road", "king", "queen"]
    rows = ({"query": f"{words[n % 8]} {n}", "positives": [f"{words[n // 8 % 8]} {n // 2}"]} for n in range(300_000))
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "conf/data").mkdir(parents=True)
    (tmp_path / "conf/data/one.yaml").write_text(
        "defaults: [schema/data@_here_]\ndatasets:\n"
        f"  rows: {{task: retrieval, path: {tmp_path}/rows.jsonl, batch_size: 4, max_rows: 200, dev_share: 0.0001, "
        "test_share: 0.0001}\n"
    )
    given = [
        "--config-dir", str(tmp_path / "conf"), "data=one", f"encoder.path={tiny_model}", "experts=joint", "merge=none",
        "evaluation=none", "checkpoint_minutes=0.0001", "trainer.max_steps=80", "trainer.accelerator=cpu",
    ]  # fmt: skip
    assert _run([*given, "data.num_workers=0", f"out={tmp_path}/undisturbed"], tmp_path).wait(300) == 0
    killed = [*given, "data.num_workers=2", f"out={tmp_path}/killed"]
    assert _run(killed, tmp_path, **{fault_injection.VARIABLE: point}).wait(300) == -signal.SIGKILL
    assert _run(killed, tmp_path).wait(300) == 0
    _same_models(tmp_path / "undisturbed", tmp_path / "killed")


@pytest.mark.slow
def test_ten_rounds_of_the_campaign() -> None:
    """Trainings, one of two ranks, merges, evaluations, sweeps and searches, by three signals at random moments."""
    command = [sys.executable, str(ROOT / "benchmarks/kills.py"), "--rounds=10", "--at-once=2"]
    done = subprocess.run(command, text=True, capture_output=True, check=False, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 of 10 rounds" in done.stdout


def _digests(folder: Path) -> dict[Path, str]:
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*") if file.is_file()}


def _merge(
    overrides: list[str], folder: Path, word: str = "dare", **environment: str
) -> "subprocess.CompletedProcess[str]":
    whole = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, str(ROOT / "merge.py"), *overrides, f"merge={word}", "evaluation=none", "logger=none"]
    return subprocess.run(command, env=whole, cwd=folder, text=True, capture_output=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def undisturbed_merge(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], bytes]:
    """Where the models are, what to merge, and what comes of it."""
    folder = tmp_path_factory.mktemp("merge")
    base, tensors = merge_toy.family(2)
    sources = [merge_toy.write(folder / f"models/s{number}", t) for number, t in enumerate(tensors)]
    overrides = [f"sources=[{','.join(map(str, sources))}]", f"base={merge_toy.write(folder / 'models/base', base)}"]
    assert _merge([*overrides, f"out={folder}/out"], folder).returncode == 0
    (whole,) = folder.glob("out/merged/*/model/model.safetensors")
    return folder / "models", overrides, whole.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("earlier", [False, True], ids=["first", "again"])
@pytest.mark.parametrize(
    "point", ["writing_merge:3", "before_merge_replaces", "while_merge_replaces", "after_merge_replaced"]
)
def test_a_merge_is_killed_at(
    point: str, earlier: bool, undisturbed_merge: tuple[Path, list[str], bytes], tmp_path: Path
) -> None:
    """What is there is whole; the same command again ends with the undisturbed merge's bytes."""
    models, overrides, whole = undisturbed_merge
    overrides = [*overrides, f"out={tmp_path}"]
    if earlier:  # under the same name, but not of these weights: it will be replaced
        assert _merge(overrides, tmp_path).returncode == 0
        (record,) = tmp_path.glob("merged/*/merge.json")
        content = json.loads(record.read_text())
        content["sources"][0]["sha256"] = {"model.safetensors": "0" * 64}
        record.write_text(json.dumps(content))
    inputs = _digests(models)
    assert _merge(overrides, tmp_path, **{fault_injection.VARIABLE: point}).returncode == -signal.SIGKILL
    for target in tmp_path.glob("merged/[!.]*"):
        recorded = json.loads((target / "merge.json").read_text())["sha256"]
        assert recorded == {"model.safetensors": _digests(target)[target / "model/model.safetensors"]}
    assert _merge(overrides, tmp_path).returncode == 0
    (target,) = (tmp_path / "merged").iterdir()
    assert (target / "model/model.safetensors").read_bytes() == whole
    assert _digests(models) == inputs


@pytest.fixture
def small_disk(tmp_path: Path):
    """A tmpfs of 3 MiB, where this machine may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine may not mount a tmpfs: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_loses_nothing(small_disk: Path, tiny_model: Path) -> None:
    """A save that does not fit fails; what was there stays, and no half of anything is left."""
    checkpoints, target = AtomicCheckpointIO(), small_disk / "last.ckpt"
    checkpoints.save_checkpoint({"step": 1, "weights": torch.ones(2**17)}, target)
    with pytest.raises(Exception, match=r"(?i)no space left|file write failed|unexpected pos"):
        checkpoints.save_checkpoint({"step": 2, "weights": torch.ones(2**20)}, target)
    assert checkpoints.load_checkpoint(target)["step"] == 1
    assert [path.name for path in small_disk.iterdir()] == ["last.ckpt"]
    filler = small_disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(2**14))
    encoder = load(tiny_model)
    with pytest.raises(Exception, match=r"(?i)no space left|os error 28"):
        encoder.export(small_disk / "models" / "joint")
    assert not list((small_disk / "models").iterdir())
    filler.unlink()
    encoder.export(small_disk / "models" / "joint")
    assert (small_disk / "models" / "joint" / "model.safetensors").exists()


@pytest.mark.slow
def test_a_merge_that_does_not_fit(small_disk: Path, tmp_path: Path) -> None:
    """One sentence, exit code 2; the merge that was there stays, and no half of another is left."""
    sources = {name: f"sources=[{tmp_path}/{name}/0,{tmp_path}/{name}/1]" for name in ("small", "large")}
    for name, size in {"small": 10, "large": 1_000_000}.items():
        for number in range(2):
            merge_toy.write(tmp_path / name / str(number), {"a": torch.full((size,), float(number))})
    assert _merge([sources["small"], f"out={small_disk}/one"], tmp_path, "soup").returncode == 0
    before = _digests(small_disk)
    done = _merge([sources["large"], f"out={small_disk}/two"], tmp_path, "soup")
    assert done.returncode == 2
    assert re.fullmatch(
        r"CheckpointError: /.*/two/merged/soup-\w+ cannot be written: the disk /.*/disk is full \(No space left on device\)\. Make "
        r"room there, or choose a different place; what was there before is unchanged\.",
        done.stderr.strip(),
    )
    assert not list((small_disk / "two/merged").iterdir())
    assert {file: digest for file, digest in _digests(small_disk).items() if "one" in file.parts} == before
    with suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(2**12))
    done = _merge([sources["small"], f"out={small_disk}/three"], tmp_path, "soup")
    assert done.returncode == 2
    assert re.fullmatch(
        r"CheckpointError: /.*/disk/three.* cannot be written: the disk /.*/disk is full \(No space left on device\)\. Make "
        r"room there, or choose a different place; what was there before is unchanged\.",
        done.stderr.strip(),
    )
