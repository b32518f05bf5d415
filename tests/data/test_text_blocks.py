"""Blocks of whole lines: the same lines, numbers and refusals for every size of a block."""

import random
from collections.abc import Iterator

import pytest

from lightning_embed.data import text_blocks
from lightning_embed.data.text_blocks import TextBlock, blocks
from lightning_embed.errors import DataError

CONTENTS = [
    b"", b"\n", b"\n\n\n", b"a", b"a\n", b"a\nb", b"a\r\nb\r\n", b"\xef\xbb\xbfa\nb\n", "a\u2028b\x0cc\nd\u0085e\n".encode(),
    b"\rone\rline\r\n", b"last without end\nx" * 40, b"long " * 500 + b"\nshort\n",
]  # fmt: skip


def _lines(content: bytes, size: int) -> list[tuple[str, str]]:
    found = list(
        blocks(content.splitlines(keepends=True) if b"\r" not in content else _split(content), "f", "JSON", size)
    )
    assert b"".join(block.content for block in found) == content
    assert all(block.content.endswith(b"\n") for block in found[:-1])
    return [line for block in found for line in block]


def _split(content: bytes) -> list[bytes]:
    return [line + b"\n" for line in content.split(b"\n")[:-1]] + ([last] if (last := content.split(b"\n")[-1]) else [])


@pytest.mark.parametrize("content", [*CONTENTS, bytes(random.Random(0).choices(b"ab\n\r ", k=999))])
def test_every_size_gives_the_same_lines(content: bytes) -> None:
    whole = _lines(content, 10**9)
    texts = content.decode("utf-8-sig").split("\n")
    assert "".join(text for _, text in whole) == content.decode("utf-8-sig")
    assert [where for where, _ in whole] == [f"f: line {n}" for n in range(1, len(texts) + bool(texts[-1]))]
    for size in (1, 2, 7, 64, 1000):
        assert _lines(content, size) == whole


@pytest.mark.parametrize("size", [1, 10, 1000])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a\nb\n\xff\n", "f: line 3: byte 0 is not UTF-8"),
        (b"a\n" * 9 + b"ab\xc3", "f: line 10: byte 2 is not UTF-8"),
        (b"a\n\xef\xbb\xbfb\n\x80", "f: line 3: byte 0 is not UTF-8"),
        (b"a\n" + b"x" * 300, "f: line 2: longer than 0 MiB"),
        (b"x" * 100 + b"\n" + b"y" * 101 + b"\nz\n", "f: line 2: longer than 0 MiB"),
    ],
)
def test_a_bad_line_has_its_number(monkeypatch: pytest.MonkeyPatch, content: bytes, reason: str, size: int) -> None:
    monkeypatch.setattr(text_blocks, "MAX_LINE", 101)  # the line break counts
    pieces = [piece[i : i + 102] for piece in _split(content) for i in range(0, len(piece), 102)]
    with pytest.raises(DataError, match=reason):
        [line for block in blocks(pieces, "f", "JSON", size) for line in block]


def test_what_was_read_before_an_error_comes_first() -> None:
    def lines() -> Iterator[bytes]:
        yield b"a\n"
        yield b"b\n"
        raise DataError("cut short")

    found = blocks(lines(), "f", "JSON")
    assert next(found) == TextBlock("f", 1, b"a\nb\n", "JSON")
    with pytest.raises(DataError, match="cut short"):
        next(found)
