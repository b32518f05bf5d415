"""Lines of packed files: all of them, or one sentence."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest

from lightning_embed.data.text_lines import first_bytes, text_lines, whole_text
from lightning_embed.errors import DataError

LINES = [f"{i} é\n" for i in range(3_000)]
TEXT = "".join(LINES).encode()
PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pyarrow.compress(content, codec="zstd", asbytes=True),
    "": bytes,
}


def _write(folder: Path, suffix: str, content: bytes) -> Path:
    (folder / f"a.jsonl{suffix}").write_bytes(content)
    return folder / f"a.jsonl{suffix}"


@pytest.mark.parametrize("suffix", PACK)
def test_packed_lines(tmp_path: Path, suffix: str) -> None:
    path = _write(tmp_path, suffix, PACK[suffix](TEXT))
    assert [line for _, line in text_lines(path)] == LINES
    assert whole_text(path) == TEXT.decode()
    assert first_bytes(path, 9) == TEXT[:9]


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_two_members_are_one_text(tmp_path: Path, suffix: str) -> None:
    """As `cat a.gz b.gz > c.gz` leaves them."""
    pack = PACK[suffix]
    path = _write(tmp_path, suffix, pack(b"a\n") + pack(b"b\n"))
    assert [line for _, line in text_lines(path)] == ["a\n", "b\n"]


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_part_of_a_packed_file(tmp_path: Path, suffix: str, share: float) -> None:
    content = PACK[suffix](TEXT)
    path = _write(tmp_path, suffix, content[: int(len(content) * share)])
    for read in (lambda: list(text_lines(path)), lambda: whole_text(path)):
        with pytest.raises(DataError, match=r"a\.jsonl\.\w+: cannot be unpacked"):
            read()


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("packed", [".gz", ".bz2", ".xz", ".zst"])
def test_a_packed_file_of_a_wrong_name(tmp_path: Path, suffix: str, packed: str) -> None:
    if suffix == packed:
        return
    path = _write(tmp_path, suffix, PACK[packed](b"a\n"))
    with pytest.raises(DataError, match=rf"its content is \w+\. Name it \.jsonl\{packed}\."):
        list(text_lines(path))
