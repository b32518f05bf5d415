import os
import socket
import subprocess
from pathlib import Path

import pytest

from lightning_embed.errors import CheckpointError
from lightning_embed.merge import Source
from lightning_embed.merge.checkpoint.directory import replaced
from lightning_embed.merge.engine import MergeSpec, merge_models
from tests.merge import toy


def test_leftovers_of_a_killed_merge(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as killed:
        owner = f"{socket.gethostname()}.{killed.pid}"
    for kind in ("partial", "old"):
        (tmp_path / f".out.{kind}.{owner}").mkdir()
        (tmp_path / f".out.{kind}.{owner}" / "merge.json").write_text(kind)
    with replaced(tmp_path / "out") as folder:
        # killed between two renames: the earlier merge is put back before anything else
        assert (tmp_path / "out/merge.json").read_text() == "old"
        (folder / "merge.json").write_text("new")
    assert (tmp_path / "out/merge.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_processes_may_write_one_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out"
    with replaced(target) as ours:
        (ours / "merge.json").write_text("ours")
        with monkeypatch.context() as theirs:
            theirs.setattr(os, "getpid", os.getppid)
            with replaced(target) as folder:
                (folder / "merge.json").write_text("theirs")
            assert ours.exists()
        assert (target / "merge.json").read_text() == "theirs"
    assert (target / "merge.json").read_text() == "ours"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("target", ["merges/out", "out"])
def test_what_is_not_the_disks_fault_is_not_called_so(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere/train.jsonl"), replaced(Path(target)):
        Path("/nowhere/train.jsonl").read_text()


def test_a_target_that_cannot_be_written(tmp_path: Path) -> None:
    source = Source(toy.write(tmp_path / "a", toy.model(0)), "a")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"file exists and holds no merge.json, so no merge wrote it"):
        merge_models(MergeSpec(toy.strategy("soup"), [source]), tmp_path / "file")
    with pytest.raises(
        CheckpointError, match=r"file/merged cannot be written \(.*Not a directory.*\). Choose a different target"
    ):
        merge_models(MergeSpec(toy.strategy("soup"), [source]), tmp_path / "file" / "merged")
