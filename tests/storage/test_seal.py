"""A file that exists need not be whole: its seal says so."""

from pathlib import Path

import pytest

from lightning_embed.storage.seal import is_whole, seal

CONTENT = bytes(range(200))


@pytest.mark.parametrize("length", [0, 1, 100, 199])
def test_a_file_cut_anywhere_is_found(length: int, tmp_path: Path) -> None:
    file = tmp_path / "rows.arrow"
    file.write_bytes(CONTENT)
    assert not is_whole(file), "without a seal"
    seal(file)
    assert is_whole(file)
    file.write_bytes(CONTENT[:length])
    assert not is_whole(file)


@pytest.mark.parametrize("kind", ["flipped", "longer", "folder", "missing", "no seal", "broken seal", "foreign seal", "folder as seal"])  # fmt: skip
def test_what_is_not_as_it_was_sealed(kind: str, tmp_path: Path) -> None:
    file, beside = tmp_path / "rows.arrow", tmp_path / "rows.arrow.sha256"
    file.write_bytes(CONTENT)
    seal(file)
    match kind:
        case "flipped":
            file.write_bytes(CONTENT[:-1] + b"\x00")
        case "longer":
            file.write_bytes(CONTENT + b"\n")
        case "folder":
            file.unlink()
            file.mkdir()
        case "missing":
            file.unlink()
        case "no seal":
            beside.unlink()
        case "broken seal":
            beside.write_bytes(b"\xff\xfe")
        case "foreign seal":
            beside.write_text("0" * 64)
        case _:
            beside.unlink()
            beside.mkdir()
    assert not is_whole(file)
