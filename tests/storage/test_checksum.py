import hashlib
import os
import threading
from pathlib import Path

import pytest

from lightning_embed.storage import checksum


def test_digest_and_change(tmp_path: Path) -> None:
    file = tmp_path / "one"
    file.write_bytes(b"a" * 100)
    assert checksum.sha256(file) == hashlib.sha256(b"a" * 100).hexdigest()
    file.write_bytes(b"b" * 100)
    os.utime(file, ns=(0, 1))  # the clock of a file may be coarser than this test is fast
    assert checksum.sha256(file) == hashlib.sha256(b"b" * 100).hexdigest()
    with pytest.raises(FileNotFoundError):
        checksum.sha256(tmp_path / "none")


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, reads, digest = tmp_path / "one", [], hashlib.file_digest
    file.write_bytes(b"a")
    monkeypatch.setattr(hashlib, "file_digest", lambda *a: (reads.append(1), digest(*a))[1])
    checksum.begin([tmp_path / "none", file])  # an unreadable file raises where its digest is used
    threads = [threading.Thread(target=checksum.sha256, args=(file,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert checksum.sha256(file) == hashlib.sha256(b"a").hexdigest()
    assert len(reads) == 1


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own, and no file counts as young, because the time of change cannot be set back."""
    monkeypatch.setattr(checksum, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(checksum, "_YOUNG", -1.0)
    return tmp_path / "cache"


def test_a_second_process_reads_nothing(cache: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"a" * 100)
    expected = checksum.sha256(file)
    checksum._digests.clear()  # as in a new process
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("read again"))
        assert checksum.sha256(file) == expected
    file.write_bytes(b"b" * 100)
    checksum._digests.clear()
    assert checksum.sha256(file) == hashlib.sha256(b"b" * 100).hexdigest()


def test_the_same_size_and_date_do_not_hide_a_change(cache: Path, tmp_path: Path) -> None:
    """`cp -p` over a file keeps its size, its inode and the date of the other."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"a" * 100)
    os.utime(file, (1, 1))
    before = checksum.sha256(file)
    with file.open("r+b") as stream:
        stream.write(b"b" * 100)
    os.utime(file, (1, 1))
    checksum._digests.clear()
    assert checksum.sha256(file) != before


def test_a_file_that_was_just_written_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksum, "CACHE", tmp_path / "cache")
    file = tmp_path / "new"
    file.write_bytes(b"a")
    checksum.sha256(file)
    assert not (tmp_path / "cache").exists()


def test_without_a_cache_folder_files_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"a")
    (tmp_path / "cache").write_bytes(b"no folder")
    monkeypatch.setattr(checksum, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(checksum, "_YOUNG", -1.0)
    assert checksum.sha256(tmp_path / "file") == hashlib.sha256(b"a").hexdigest()


def test_a_model_directory_is_what_a_model_is_loaded_from(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "1_Pooling/config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    before = checksum.directory_digest(tmp_path)
    for name in ("README.md", ".git/HEAD", "onnx/model.onnx", "pytorch_model.bin", "checkpoint-500/model.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("other")
        assert checksum.directory_digest(tmp_path) == before, name
    for name in ("1_Pooling/config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_text("other")
        after = checksum.directory_digest(tmp_path)
        assert after != before, name
        before = after
    (tmp_path / "tokenizer.json").rename(tmp_path / "vocab.json")
    assert checksum.directory_digest(tmp_path) != before


def test_pipes_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    before = checksum.directory_digest(tmp_path / "model")
    os.mkfifo(tmp_path / "model/model.safetensors")
    (tmp_path / "model/zero").symlink_to("/dev/zero")
    assert checksum.directory_digest(tmp_path / "model") == before
    for name in ("model.safetensors", "zero"):
        with pytest.raises(OSError, match="a pipe or a device"):
            checksum.sha256(tmp_path / "model" / name)


@pytest.mark.parametrize("links", [{"loop": "."}, {"a/up": ".."}, {"a/b": "../b", "b/a": "../a"}, {"self": "self"}])
def test_links_that_never_end(links: dict[str, str], tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text("{}")
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    found = set(checksum.model_digests(tmp_path))
    assert len(found) == 2, "each folder once"
    assert {"a/config.json"} <= found <= {"a/config.json", "b/config.json", "a/b/config.json"}


def test_a_folder_elsewhere(tmp_path: Path) -> None:
    """Its own files count, so that a change is noticed, and not all that is below: it may be the root."""
    (tmp_path / "model").mkdir()
    (tmp_path / "elsewhere/deep").mkdir(parents=True)
    (tmp_path / "elsewhere/config.json").write_text("{}")
    (tmp_path / "elsewhere/deep/data").write_text("{}")
    (tmp_path / "model/1_Pooling").symlink_to("../elsewhere")
    assert set(checksum.model_digests(tmp_path / "model")) == {"1_Pooling/config.json"}
