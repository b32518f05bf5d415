"""Paths of remote file systems: fsspec's memory:// stands for all of them."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from lightning_embed.errors import ConfigError, DataError
from lightning_embed.storage.checksum import sha256
from lightning_embed.storage.remote import answering, as_path, is_remote, version


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("s3://bucket/a.jsonl", True), ("gs://b/a", True), ("hf://datasets/a/b/c.parquet", True), ("S3://b", True),
        ("https://host/a.csv", True), ("memory://a", True), ("file:///a/b", False), ("a/b.jsonl", False),
        ("/a/b", False), ("owner/name", False), ("C:/a", False), ("a://b//c", True), ("sample:facts", False),
    ],
)  # fmt: skip
def test_what_is_remote(place: str, expected: bool) -> None:
    assert is_remote(place) == expected


def test_local_paths() -> None:
    assert as_path("a/b.jsonl") == Path("a/b.jsonl")
    assert as_path("file:///a/b%20c.jsonl") == Path("/a/b c.jsonl")


def test_a_file_and_its_digest(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    memory.pipe("/d/a.jsonl", b"abc")
    path = as_path("memory://d/a.jsonl")
    (tmp_path / "local").write_bytes(b"abc")
    assert (path.exists(), path.name, str(path), path.read_bytes()) == (True, "a.jsonl", "memory://d/a.jsonl", b"abc")
    assert sha256(path) == sha256(tmp_path / "local")
    before = version(path)
    memory.pipe("/d/a.jsonl", b"abd")
    assert version(path) != before
    assert sha256(path) != sha256(tmp_path / "local"), "a changed file is read again"
    with pytest.raises(FileNotFoundError):
        sha256(as_path("memory://d/absent"))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("s3://bucket/a.jsonl", r"s3://bucket/a\.jsonl: its package is not installed\. Install s3fs to access S3\.$"),
        ("gs://bucket/a.jsonl", r"gs://bucket/a\.jsonl: its package is not installed\. .*gcsfs"),
        ("sftp://host/a.jsonl", r"sftp://host/a\.jsonl: its package is not installed\. .*paramiko"),
        ("nothing://a/b", "nothing://a/b: expected a file system of fsspec, as in s3:// or hf://"),
    ],
)
def test_file_systems_that_are_not_there(place: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        as_path(place)
    assert "\n" not in str(caught.value)


def test_what_a_file_system_raises_is_one_sentence() -> None:
    class NoCredentials(Exception):
        pass

    with pytest.raises(DataError, match=r"s3://b: cannot be read \(Unable to locate credentials\)\. Check the address"), answering("s3://b"):  # fmt: skip
        raise NoCredentials("Unable to\nlocate credentials.")
    with pytest.raises(FileNotFoundError), answering("s3://b"):
        raise FileNotFoundError("a")
    with pytest.raises(ConfigError, match="ours"), answering("s3://b"):
        raise ConfigError("ours")
    with pytest.raises(OSError, match="No space"), answering("s3://b"):  # of the cache folder
        raise OSError(28, "No space left on device")
