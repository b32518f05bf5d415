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
