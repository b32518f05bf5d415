"""Failures of the machine: one sentence with file, reason and remedy; faults of the program keep their traceback."""

import errno
import os
from pathlib import Path

import pytest
import torch

from lightning_embed.cli import failures, launch
from lightning_embed.errors import CheckpointError, ConfigError, DataError, LightningEmbedError
from lightning_embed.storage.cache_dir import CACHE

BELOW = {
    errno.ENOENT: "it does not exist", errno.ENOTDIR: "a part of this path is a file", errno.EISDIR: "it is a folder, not a file",
    errno.EEXIST: "it is a file, not a folder", errno.ENAMETOOLONG: "the name is too long", errno.ELOOP: "its symbolic links lead in a circle",
    errno.EACCES: "permission denied", errno.EPERM: "permission denied", errno.EROFS: "the file system is read-only",
    errno.EIO: "the device could not read or write it", errno.ESTALE: "the network file system has lost it",
    errno.ENOLCK: "the file system has no locks", errno.EINVAL: "Invalid argument", errno.ENXIO: "No such device or address",
    errno.EBUSY: "Device or resource busy", errno.ETXTBSY: "Text file busy", errno.EFBIG: "File too large",
}  # fmt: skip
FILES = {
    "/runs/x": (CheckpointError, "another path: out="), "/runs/x/run.yaml": (CheckpointError, "out="), "/m/model.safetensors": (CheckpointError, "encoder.path="),
    "conf/data/mine.yaml": (ConfigError, "a file of options"), "mine.yml": (ConfigError, "--config-dir"),
    "/d/train.jsonl": (DataError, "a file of rows"), "/d/train.jsonl.gz": (DataError, "a file of rows"),
    "/d/a.parquet": (DataError, "a file of rows"), "/d/qrels.tsv": (DataError, "a file of rows"),
    str(CACHE / "scores"): (ConfigError, "LIGHTNING_EMBED_CACHE"), str(CACHE.parent): (ConfigError, "LIGHTNING_EMBED_CACHE"),
}  # fmt: skip


@pytest.mark.parametrize("number", BELOW, ids=errno.errorcode.get)
@pytest.mark.parametrize(
    "file", FILES, ids=map(str, range(len(FILES)))
)  # a folder of the cache has another name each time
def test_a_file(file: str, number: int) -> None:
    found = failures.explained(OSError(number, os.strerror(number), file))
    kind, remedy = FILES[file]
    assert type(found) is kind
    assert str(found).startswith(f"{file}: {BELOW[number]}")
    assert remedy in str(found)
    assert "\n" not in str(found)


@pytest.mark.parametrize(
    ("error", "kind", "parts"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), CheckpointError, ["The disk is full", "out="]),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/x"), CheckpointError, ["/x cannot be written: the disk"]),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), CheckpointError, ["disk is full"]),
        (RuntimeError("Symlink loop from '/a/b.jsonl'"), DataError, ["/a/b.jsonl: its symbolic links lead in a circle"]),
        (OSError(errno.EMFILE, "Too many open files", "/x"), CheckpointError, ["/x", "ulimit -n"]),
        (OSError(errno.EMFILE, "Too many open files"), CheckpointError, ["ulimit -n"]),
        (OSError(errno.ENFILE, "Too many open files in system"), CheckpointError, ["This machine has too many open files"]),
        (OSError(errno.EIO, "Input/output error"), CheckpointError, ["A device could not be read or written"]),
        (OSError(errno.ESTALE, "Stale file handle"), CheckpointError, ["Mount it again"]),
        (OSError(errno.EROFS, "Read-only file system"), CheckpointError, ["read-only", "out="]),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), ConfigError, ["The network failed"]),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), ConfigError, ["The network failed"]),
        (OSError(errno.EXDEV, "Invalid cross-device link", "/a", None, "/b"), CheckpointError, ["/b: Invalid cross-device link"]),
        (OSError(errno.ENAMETOOLONG, "File name too long", "/" + "x" * 5000), CheckpointError, ["x...: the name is too long"]),
        (ValueError("embedded null byte"), ConfigError, ["null character"]),
        (MemoryError(), ConfigError, ["batch_size", "max_tokens", "step=cached"]),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore"), ConfigError, ["Tried to allocate 2 GiB). Lower"]),
        (RuntimeError("CUDA error: out of memory"), ConfigError, ["step=cached"]),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), ConfigError, ["batch_size"]),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried"), ConfigError, ["batch_size"]),
        (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), ConfigError, ["data.num_workers=0"]),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), ConfigError, ["killed by signal: Killed)"]),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that ..."), ConfigError, ["--shm-size"]),
    ],
)  # fmt: skip
def test_the_machine(error: Exception, kind: type[LightningEmbedError], parts: list[str]) -> None:
    found = failures.explained(error)
    assert type(found) is kind
    assert all(part in str(found) for part in parts), found
    assert "\n" not in str(found)
    assert len(str(found)) < 600
    assert launch._ours(error) is not None


@pytest.mark.parametrize(
    "error",
    [
        TypeError("x"), ValueError("x"), KeyError("x"), AttributeError("x"), AssertionError(), IndexError(), ZeroDivisionError(),
        RuntimeError("Expected all tensors to be on the same device"), RuntimeError("The size of tensor a"), NotImplementedError(),
        OSError("a message of a library, without a number"), OSError(errno.EPIPE, "Broken pipe"), OSError(errno.EBADF, "Bad file descriptor"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "x"), StopIteration(), RecursionError(), ImportError("x"),
    ],
    ids=repr,
)  # fmt: skip
def test_a_fault_of_the_program_is_none(error: Exception) -> None:
    assert failures.explained(error) is None
    assert launch._ours(error) is None


def test_the_working_directory_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(FileNotFoundError) as caught:
        Path.cwd()
    assert "The working directory does not exist any more." in str(failures.explained(caught.value))


def test_a_read_that_fails_in_mid_file_names_the_file() -> None:
    """/proc/self/mem opens, and the first read of it is an input/output error."""

    def read(path: Path) -> None:
        with path.open("rb") as stream:
            stream.read(1)

    with pytest.raises(OSError, match="Input/output error") as caught:
        read(Path("/proc/self/mem"))
    assert str(failures.explained(caught.value)).startswith("/proc/self/mem: the device could not read or write it.")


@pytest.mark.parametrize("path", ["file/x", "file", "loop/x", "/proc/x", "/sys/x", "/dev/null/x", "x" * 300, "a\0b"])
def test_a_folder_that_cannot_be_made(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_embed.storage.atomic import write_whole

    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    Path("loop").symlink_to("loop")
    with pytest.raises((OSError, ValueError)) as caught:
        write_whole(Path(path) / "run.yaml", "x")
    assert launch._ours(caught.value) is not None


def test_what_hydra_does_is_explained_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def makes_a_folder() -> None:
        raise NotADirectoryError(errno.ENOTDIR, "Not a directory", "/a/file/x")

    with pytest.raises(SystemExit) as ended:
        launch.hydra_utils.run_and_report(makes_a_folder)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("CheckpointError: /a/file/x: a part of this path is a file")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(SystemExit):
        launch.hydra_utils.run_and_report(makes_a_folder)
    assert "Traceback" in capsys.readouterr().err


def test_a_fault_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        launch.hydra_utils.run_and_report(lambda: [][1])
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert "IndexError" in error
    assert "test_failures.py" in error
