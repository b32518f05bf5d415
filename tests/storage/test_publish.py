"""Publication: the earlier content or the new one, in the order that a power cut needs, with the mode of the umask."""

import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pytest

from lightning_embed.errors import CheckpointError
from lightning_embed.storage import publish
from lightning_embed.storage.atomic import write_whole
from lightning_embed.storage.publish import discard, published_file, published_folder, settle, settle_below


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is flushed, renamed and removed, in order: (what, name)."""
    seen: list[tuple[str, str]] = []
    names: dict[int, str] = {}
    opened, flushed, renamed, replaced, removed = os.open, os.fsync, Path.rename, os.replace, publish._remove

    def note_open(path: Any, *arguments: Any, **options: Any) -> int:
        names[number := opened(path, *arguments, **options)] = Path(path).name
        return number

    def note_flush(number: int) -> None:
        seen.append(("flush", names.get(number, "?")))
        flushed(number)

    def note_rename(self: Path, target: Path) -> Path:
        found = renamed(self, target)
        seen.append(("rename", target.name))
        return found

    def note_replace(source: Path, target: Path) -> None:
        seen.append(("rename", Path(target).name))
        replaced(source, target)

    def note_remove(path: Path) -> None:
        if path.exists():
            seen.append(("remove", path.name))
        removed(path)

    monkeypatch.setattr(os, "open", note_open)
    monkeypatch.setattr(os, "fsync", note_flush)
    monkeypatch.setattr(Path, "rename", note_rename)
    monkeypatch.setattr(os, "replace", note_replace)
    monkeypatch.setattr(publish, "_remove", note_remove)
    return seen


def test_a_file_is_on_the_disk_before_its_name(tmp_path: Path, order: list[tuple[str, str]]) -> None:
    write_whole(tmp_path / "new" / "a.json", "{}")
    hidden = f".a.json.partial.{socket.gethostname()}.{os.getpid()}"
    assert order[0] == ("flush", tmp_path.name), "of the new folder"
    assert order[1][1].startswith(hidden)
    assert order[1:][-2:] == [("rename", "a.json"), ("flush", "new")]
    assert (tmp_path / "new" / "a.json").read_text() == "{}"


def test_a_folder_is_on_the_disk_before_its_name_and_the_old_one_goes_last(
    tmp_path: Path, order: list[tuple[str, str]]
) -> None:
    (tmp_path / "model").mkdir()
    with published_folder(tmp_path / "model") as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "config").write_text("1")
        (folder / "weights").write_text("2")
    steps = [(what, "hidden" if name.startswith(".") else name) for what, name in order]
    flushed = steps.index(("rename", "hidden"))  # the earlier folder moves away
    assert set(steps[:flushed]) == {("flush", "weights"), ("flush", "config"), ("flush", "deep"), ("flush", "hidden")}
    assert steps[flushed:] == [
        ("rename", "hidden"), ("rename", "model"), ("flush", tmp_path.name), ("remove", "hidden"),
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002, 0o077, 0o000])
def test_a_colleague_can_read_what_the_umask_lets_him(umask: int, tmp_path: Path) -> None:
    """Also what a library wrote with the mode of a temporary file, as safetensors does."""
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "text", "a")
        with published_file(tmp_path / "file") as partial:
            partial.write_bytes(b"a")
        with published_folder(tmp_path / "folder") as folder:
            (folder / "inner").mkdir()
            for place in (folder, folder / "inner"):
                with NamedTemporaryFile(dir=place, delete=False, suffix=".private") as file:
                    file.write(b"a")
    finally:
        os.umask(before)
    found = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {0o666 & ~umask}
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_dir()} == {0o777 & ~umask}


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_failure_leaves_the_earlier_content_and_nothing_else(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("old") if kind == "file" else (target / "old").mkdir(parents=True)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(ZeroDivisionError):
        _publish(kind, target, lambda: 1 // 0)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_folder_of_another_process_may_be_kept(tmp_path: Path) -> None:
    with published_folder(tmp_path / "model", keep=True) as ours:
        (ours / "a").write_text("ours")
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "a").write_text("theirs")
    assert (tmp_path / "model" / "a").read_text() == "theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.fixture(scope="module")
def dead() -> str:
    with subprocess.Popen(["true"]) as process:
        return str(process.pid)


@pytest.fixture
def alive() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield f"{process.pid}-{publish._state(process.pid)[1]}"
    process.kill()
    process.wait()
    assert process.stdin is not None
    process.stdin.close()


def _leave(folder: Path, name: str, owner: str) -> Path:
    path = folder / f".{name}.{owner}"
    path.mkdir()
    (path / "half").write_text("half")
    return path


HOST = socket.gethostname()


@pytest.mark.parametrize("name", ["model", "joint-ema", "a.b.c", "rows.jsonl", "x.partial.y.1", "ä b\n"])
@pytest.mark.parametrize("form", ["{pid}", "{pid}-0", "{pid}-12345"])
def test_what_a_killed_process_left_is_removed(name: str, form: str, tmp_path: Path, dead: str) -> None:
    left = _leave(tmp_path, f"{name}.partial.{HOST}", form.format(pid=dead))
    (tmp_path / f".{name}.file.partial.{HOST}.{dead}").write_text("half a file")
    settle(tmp_path)
    assert not left.exists()
    assert not list(tmp_path.iterdir())


def test_a_process_with_the_number_of_a_dead_one_does_not_keep_its_files(tmp_path: Path, alive: str) -> None:
    """After a restart of the machine, or of a container, numbers begin anew."""
    pid, start = alive.split("-")
    earlier = _leave(tmp_path, f"model.partial.{HOST}", f"{pid}-{int(start) - 1}")
    ours = _leave(tmp_path, f"other.partial.{HOST}", alive)
    settle(tmp_path)
    assert not earlier.exists()
    assert (ours / "half").exists()


def test_a_zombie_is_dead(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    while publish._state(process.pid)[0] not in ("Z", None):
        pass
    left = _leave(tmp_path, f"model.partial.{HOST}", str(process.pid))
    settle(tmp_path)
    process.wait()
    assert not left.exists()


@pytest.mark.parametrize(
    "name",
    [".model.partial.another-host.{dead}", ".model.partial.{host}.{alive}", ".model.partial.{host}.", ".model.{dead}",
     ".git", "model", ".model.other.{host}.{dead}", ".model.partial.{host}.{dead}x", "model.partial.{host}.{dead}",
     ".tmpabc123"],
)  # fmt: skip
def test_what_is_not_ours_or_of_a_living_process_stays(name: str, tmp_path: Path, dead: str, alive: str) -> None:
    path = tmp_path / name.format(host=HOST, dead=dead, alive=alive)
    path.mkdir()
    settle(tmp_path)
    settle_below(tmp_path)
    assert path.exists()


def test_a_folder_that_was_moved_away_is_put_back(tmp_path: Path, dead: str) -> None:
    _leave(tmp_path, f"model.old.{HOST}", dead)
    _leave(tmp_path, f"model.partial.{HOST}", dead)
    _leave(tmp_path, f"other.partial.{HOST}", dead)
    settle(tmp_path, "model")
    assert (tmp_path / "model" / "half").exists()
    assert len(list(tmp_path.iterdir())) == 2, "the leftovers of the other target are its own affair"
    settle_below(tmp_path.parent)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_missing_places_are_nobodys_leftovers(tmp_path: Path) -> None:
    settle(tmp_path / "none")
    settle_below(tmp_path / "none")
    discard(tmp_path / "none")


@pytest.mark.parametrize("kind", ["file", "folder", "link to a folder", "dangling link"])
def test_discard(kind: str, tmp_path: Path) -> None:
    (tmp_path / "kept" / "a").mkdir(parents=True)
    path = tmp_path / "path"
    match kind:
        case "file":
            path.write_text("")
        case "folder":
            (path / "a").mkdir(parents=True)
        case "link to a folder":
            path.symlink_to(tmp_path / "kept")
        case _:
            path.symlink_to(tmp_path / "none")
    discard(path)
    assert not path.is_symlink()
    assert not path.exists()
    assert (tmp_path / "kept" / "a").exists()


def test_a_folder_that_cannot_be_flushed_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems refuse it; an error of the disk is one."""

    def refuse(number: int, code: int = errno.EINVAL) -> None:
        if stat.S_ISDIR(os.fstat(number).st_mode) or code == errno.EIO:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    write_whole(tmp_path / "a", "1")
    monkeypatch.setattr(os, "fsync", lambda number: refuse(number, errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        write_whole(tmp_path / "a", "2")
    assert (tmp_path / "a").read_text() == "1"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("place", ["file", "folder", "flush"])
def test_a_full_disk_is_named_with_what_does_not_fit(
    place: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    if place == "flush":
        monkeypatch.setattr(os, "fsync", full)
    target = tmp_path / "target"
    with pytest.raises(CheckpointError, match=r"target cannot be written: the disk /.* is full .*Make room there"):
        _publish(place, target, full)
    assert not list(tmp_path.iterdir())


def _publish(kind: str, target: Path, then: Callable[[], object]) -> None:
    """Write half of a file or a folder, then do something."""
    if kind == "folder":
        with published_folder(target) as folder:
            (folder / "half").write_text("half")
            then()
    else:
        with published_file(target) as partial:
            partial.write_text("half")
            then()
