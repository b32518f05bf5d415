"""Copies of a run's folder: on memory://, which stands for object storage, and in a folder."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from lightning_embed.errors import CheckpointError, ConfigError
from lightning_embed.storage.atomic import write_whole
from lightning_embed.storage.mirror import Mirror, TakenOver
from lightning_embed.storage.mirror_files import unit_of
from lightning_embed.storage.publish import published_folder

FILES = {
    "run.yaml": "hash: 1",
    "results.json": "{}",
    "logs/law/metrics.csv": "step,loss\n",
    "models/law/model.safetensors": "weights",
    "models/law/1_Pooling/config.json": "pooling",
    "checkpoints/law/model.json": "digests",
    "checkpoints/medicine/last.ckpt": "step 1",
}


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "file":
        (tmp_path / "storage").mkdir()
        yield f"file://{tmp_path}/storage"
        return
    system = fsspec.filesystem("memory")
    yield "memory://bucket/runs"
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "here" / "run-1"
    for name, text in FILES.items():
        write_whole(folder / name, text)
    (folder / "checkpoints/law/lock").touch()
    return folder


def _read(folder: Path) -> dict[str, str]:
    """What a folder holds that a copy should have."""
    inside = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    return {
        name: file.read_text()
        for name, file in inside.items()
        if not name.startswith(".mirror") and file.name != "lock"
    }


def _there(url: str) -> dict[str, bytes]:
    """The files on the storage."""
    system, root = fsspec.core.url_to_fs(f"{url}/run-1")
    system.invalidate_cache()
    return {path.removeprefix(f"{root}/"): system.cat_file(path) for path in system.find(root)}


def _owned(url: str, out: Path, part: str = "run") -> Mirror:
    mirror = Mirror(url, out, part)
    mirror.fetch()
    return mirror


def test_what_a_lost_machine_uploaded_and_did_not_list_is_removed(url: str, out: Path) -> None:
    mirror = _owned(url, out)
    mirror.copy()
    listed = _there(url)
    system, root = fsspec.core.url_to_fs(f"{url}/run-1")
    for place in (
        "run/checkpoints/law/last.0123456789abcdef.ckpt",
        "run/models/law/model.0123456789abcdef.safetensors",
    ):
        system.makedirs(f"{root}/{place}".rpartition("/")[0], exist_ok=True)
        system.pipe_file(f"{root}/{place}", b"step 2")
    assert len(_there(url)) == len(listed) + 2
    _owned(url, out)  # the same machine: another process of it may be about to list them
    assert len(_there(url)) == len(listed) + 2
    _owned(url, out.parent.parent / "elsewhere" / out.name)
    assert _there(url).keys() == listed.keys()


def test_an_empty_machine_gets_everything(url: str, out: Path, tmp_path: Path) -> None:
    _owned(url, out).copy()
    elsewhere = tmp_path / "elsewhere" / "run-1"
    assert Mirror(url, elsewhere, "run").fetch() == len(FILES)
    assert _read(elsewhere) == FILES
    assert Mirror(url, elsewhere, "run").fetch() == 0, "it is the owner now: what is here counts"


def test_what_changes_is_replaced_and_what_is_removed_goes(url: str, out: Path, tmp_path: Path) -> None:
    mirror = _owned(url, out)
    mirror.copy()
    first = _there(url)
    write_whole(out / "checkpoints/medicine/last.ckpt", "step 2")
    mirror.copy()
    second = _there(url)
    changed = {name for name in {*first, *second} if first.get(name) != second.get(name)}
    assert {name.partition("last.")[0] for name in changed} == {"run.json", "run/checkpoints/medicine/"}
    assert len(second) == len(FILES) + 1, "the earlier checkpoint is removed"
    (out / "checkpoints/medicine/last.ckpt").unlink()
    write_whole(out / "models/medicine/model.safetensors", "trained")
    mirror.copy()
    elsewhere = tmp_path / "elsewhere" / "run-1"
    assert Mirror(url, elsewhere, "run").fetch() == len(FILES)
    assert _read(elsewhere) == _read(out)
    assert not any("last" in name for name in _there(url))


def test_only_what_changed_is_uploaded(url: str, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _owned(url, out).copy()
    mirror, put = Mirror(url, out, "run"), list[str]()
    monkeypatch.setattr(mirror, "_put", _counting(mirror._put, put))
    mirror.fetch()
    mirror.copy()
    assert put == [f"run.json.{mirror._owner()}.partial"], "a process that starts again uploads nothing that is there"
    write_whole(out / "results.json", "[]")
    mirror.copy()
    assert [name.split(".")[0] for name in put[1:]] == ["run/results", "run"]


def _counting(put: Any, seen: list[str]) -> Any:
    return lambda file, place: (seen.append(place), put(file, place))[1]


def test_a_checkpoint_that_is_a_folder(url: str, out: Path, tmp_path: Path) -> None:
    """Whole or not at all: shards of two saves are never mixed, also where a different number of ranks wrote them."""
    checkpoint = "checkpoints/medicine/last.ckpt"
    (out / checkpoint).unlink()
    mirror, elsewhere = _owned(url, out), tmp_path / "elsewhere" / "run-1"
    for step, shards in ((1, 3), (2, 2)):
        with published_folder(out / checkpoint) as folder:
            for number in range(shards):
                (folder / f"shard-{number}.safetensors").write_text(f"step {step}")
        mirror.copy()
        if step == 1:
            shutil.copytree(out / checkpoint, elsewhere / checkpoint)
    Mirror(url, elsewhere, "run").fetch()
    assert _read(elsewhere / checkpoint) == {f"shard-{number}.safetensors": "step 2" for number in range(2)}


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_checkpoint_of_a_different_strategy_is_replaced(is_folder: bool, url: str, out: Path, tmp_path: Path) -> None:
    checkpoint, elsewhere = "checkpoints/medicine/last.ckpt", tmp_path / "elsewhere" / "run-1"
    (out / checkpoint).unlink()
    for folder, name in ((out, "/state.ckpt" * is_folder), (elsewhere, "/state.ckpt" * (not is_folder))):
        write_whole(folder / f"{checkpoint}{name}", str(folder))
    _owned(url, out).copy()
    _owned(url, elsewhere)
    assert _read(elsewhere) == _read(out)


@pytest.mark.parametrize("failing", range(9))
def test_a_copy_that_is_cut_off_is_never_used(
    failing: int, url: str, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine is lost at the n-th upload: what comes is the run of one moment, the earlier one or the new one."""
    mirror = _owned(url, out)
    mirror.copy()
    before = _read(out)
    for name in FILES:
        write_whole(out / name, f"new {name}")
    put, count = mirror._put, iter(range(100))

    def cut(file: Path, place: str) -> None:
        if next(count) == failing:
            system, root = mirror._system, mirror._root
            system.pipe_file(f"{root}/{place}", file.read_bytes()[:3]) if "/" in place else None
            raise OSError("connection lost")
        put(file, place)

    monkeypatch.setattr(mirror, "_put", cut)
    if failing <= len(FILES):
        with pytest.raises(CheckpointError, match="connection lost"):
            mirror.copy()
    else:
        mirror.copy()
    elsewhere = tmp_path / "elsewhere" / "run-1"
    _owned(url, elsewhere)
    assert _read(elsewhere) == (before if failing <= len(FILES) else _read(out))


def test_a_failed_copy_is_made_up_for(url: str, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what the failed one had uploaded, and is out of date, does not stay."""
    mirror = _owned(url, out)
    with monkeypatch.context() as patch:
        patch.setattr(mirror, "_write", lambda _: (_ for _ in ()).throw(OSError("no room")))
        with pytest.raises(CheckpointError, match=r"cannot be read and written \(no room\)\. Check the address"):
            mirror.copy()
    write_whole(out / "checkpoints/medicine/last.ckpt", "step 2")
    mirror.copy()
    assert len(_there(url)) == len(FILES) + 1
    _owned(url, tmp_path / "elsewhere" / "run-1")
    assert _read(tmp_path / "elsewhere" / "run-1") == _read(out)


@pytest.mark.parametrize("damage", ["cut", "changed", "missing"])
def test_a_damaged_file_is_refused(damage: str, url: str, out: Path, tmp_path: Path) -> None:
    _owned(url, out).copy()
    system, root = fsspec.core.url_to_fs(f"{url}/run-1/run/models/law")
    (path,) = (each for each in system.find(root) if each.endswith(".safetensors"))
    content = system.cat_file(path)
    system.rm_file(path) if damage == "missing" else system.pipe_file(path, content[:-1] + b"!" * (damage == "changed"))
    elsewhere = tmp_path / "elsewhere" / "run-1"
    found = {"cut": "6 other bytes", "changed": "7 other bytes", "missing": "nothing"}[damage]
    message = rf"expected run/models/law/model\.\w+\.safetensors with 7 bytes .* found {found}\. Delete run\.json"
    with pytest.raises(CheckpointError, match=message):
        Mirror(url, elsewhere, "run").fetch()
    assert not (elsewhere / "models/law").exists()
    system.rm_file(f"{root.removesuffix('/run/models/law')}/run.json")
    assert Mirror(url, elsewhere, "run").fetch() == 0, "the remedy"


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"owner": "a"})])
def test_a_broken_index_is_refused(text: str, url: str, out: Path) -> None:
    mirror = _owned(url, out)
    mirror._system.pipe_file(f"{mirror._root}/run.json", text.encode())
    with pytest.raises(CheckpointError, match=r"run\.json: .*\. Delete it: the run goes on"):
        Mirror(url, out, "run").fetch()


def test_the_machine_that_starts_last_goes_on(url: str, out: Path, tmp_path: Path) -> None:
    mirror, elsewhere = _owned(url, out), tmp_path / "elsewhere" / "run-1"
    mirror.copy()
    other = _owned(url, elsewhere)
    write_whole(elsewhere / "checkpoints/medicine/last.ckpt", "step 5")
    other.copy()
    write_whole(out / "checkpoints/medicine/last.ckpt", "step 3")
    with pytest.raises(TakenOver, match="goes on with this run, so it stops here"):
        mirror.copy()
    again = Mirror(url, out, "run")  # the same command on the first machine, whose disk is still there
    assert again.fetch() == 1
    assert (out / "checkpoints/medicine/last.ckpt").read_text() == "step 5"
    with pytest.raises(TakenOver):
        other.copy()


def test_taken_over_during_an_upload(url: str, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror, put = _owned(url, out), list[str]()
    elsewhere = tmp_path / "elsewhere" / "run-1"

    def slow(file: Path, place: str) -> None:
        if not put:
            _owned(url, elsewhere)
        put.append(place)

    monkeypatch.setattr(mirror, "_put", slow)
    with pytest.raises(TakenOver):
        mirror.copy()
    assert len(put) == len(FILES), "no index was written"


def test_what_was_deleted_here_does_not_come_back(url: str, out: Path) -> None:
    """As where a message says to delete a model, which the same command trains again."""
    _owned(url, out).copy()
    shutil.rmtree(out / "models/law")
    assert Mirror(url, out, "run").fetch() == 0
    assert not (out / "models/law").exists()


def test_processes_that_share_a_folder(url: str, out: Path, tmp_path: Path) -> None:
    """Jobs of a sweep: neither takes the run from the other, and what one removed may come again."""
    one, other = _owned(url, out), _owned(url, out)
    for text in ("a", "b", "a"):
        write_whole(out / "results.json", text)
        one.copy()
        write_whole(out / "results.json", f"{text}'")
        other.copy()
    one.copy()
    _owned(url, tmp_path / "elsewhere" / "run-1")
    assert _read(tmp_path / "elsewhere" / "run-1") == _read(out)


def test_an_expert_a_machine(url: str, tmp_path: Path) -> None:
    """Machines that train an expert each do not disturb each other; the command that merges gets all of them."""
    mirrors = {}
    for name in ("law", "medicine"):
        folder = tmp_path / name / "run-1"
        mirrors[name] = _owned(url, folder, name)
        write_whole(folder / f"models/{name}/model.safetensors", name)
        write_whole(folder / "run.yaml", "hash: 1")
    for mirror in (*mirrors.values(), *mirrors.values()):
        mirror.copy()
    whole = tmp_path / "whole" / "run-1"
    assert Mirror(url, whole, "run").fetch() == 3
    assert {name for name in _read(whole) if "models" in name} == {
        f"models/{name}/model.safetensors" for name in mirrors
    }


def test_experts_of_one_folder(url: str, out: Path) -> None:
    """A disk that their machines share: the second to start does not take the first one's part."""
    mirrors = [_owned(url, out, name) for name in ("law", "medicine")]
    for mirror in mirrors:
        mirror.copy()
    assert {name.partition("/")[0] for name in _there(url)} == {"law", "law.json", "medicine", "medicine.json"}


def test_what_is_published_meanwhile(url: str, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot and the checkpoint after it, published while files are listed: both come, or neither."""
    mirror, published = _owned(url, out), iter([True])
    link = os.link

    def and_publish(*paths: Path) -> None:
        link(*paths)
        if next(published, False):
            write_whole(out / "models/snapshot/model.safetensors", "snapshot")
            write_whole(out / "checkpoints/medicine/last.ckpt", "after the snapshot")

    monkeypatch.setattr("lightning_embed.storage.mirror_files.os.link", and_publish)
    mirror.copy()
    monkeypatch.undo()
    _owned(url, tmp_path / "elsewhere" / "run-1")
    assert _read(tmp_path / "elsewhere" / "run-1") == _read(out)


def test_a_file_system_without_links(url: str, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Path) -> None:
        raise PermissionError("not supported")

    monkeypatch.setattr("lightning_embed.storage.mirror_files.os.link", refuse)
    _owned(url, out).copy()
    _owned(url, tmp_path / "elsewhere" / "run-1")
    assert _read(tmp_path / "elsewhere" / "run-1") == FILES


def test_a_deleted_copy_is_made_again(url: str, out: Path) -> None:
    mirror = _owned(url, out)
    mirror.copy()
    whole = set(_there(url))
    mirror._system.rm(mirror._root, recursive=True)
    mirror.copy()
    assert set(_there(url)) == whole


@pytest.mark.parametrize(
    ("place", "error", "message"),
    [
        ("file:///absent/storage", CheckpointError, "expected a folder that exists. Make it, or mount its disk"),
        ("nothing://a/b", ConfigError, "expected a file system of fsspec"),
        ("https://127.0.0.1:9/runs", CheckpointError, "cannot be read and written"),
    ],
)  # fmt: skip
def test_storage_that_is_not_there(place: str, error: type[Exception], message: str, out: Path) -> None:
    with pytest.raises(error, match=message):
        Mirror(place, out, "run").fetch()
    assert _read(out) == FILES


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("results.json", "results.json"), ("models/law/model.safetensors", "models/law"),
        ("mined/round_1/models/law/1_Pooling/config.json", "mined/round_1/models/law"),
        ("merged/ties-1/model/config.json", "merged/ties-1"), ("merged/geometry.json", "merged/geometry.json"),
        ("checkpoints/law/last.ckpt", "checkpoints/law/last.ckpt"),
        ("checkpoints/law/last.ckpt/shard-1.safetensors", "checkpoints/law/last.ckpt"),
    ],
)  # fmt: skip
def test_what_is_published_whole(name: str, unit: str) -> None:
    assert unit_of(name) == unit
