"""A file that exists need not be whole: its seal says so."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lightning_embed.storage.publish import discard
from lightning_embed.storage.seal import is_whole, made_once

CONTENT = bytes(range(200))


def made(file: Path) -> bool:
    with made_once(file) as is_missing:
        if is_missing:
            discard(file)
            file.write_bytes(CONTENT)
    return is_missing


@pytest.mark.parametrize("length", [0, 1, 100, 199])
def test_a_file_cut_anywhere_is_found(length: int, tmp_path: Path) -> None:
    file = tmp_path / "rows.arrow"
    file.write_bytes(CONTENT)
    assert not is_whole(file), "without a seal"
    assert made(file)
    assert is_whole(file)
    assert not made(file)
    file.write_bytes(CONTENT[:length])
    assert not is_whole(file)


@pytest.mark.parametrize("kind", ["flipped", "longer", "folder", "missing", "no seal", "broken seal", "foreign seal", "folder as seal"])  # fmt: skip
def test_what_is_not_as_it_was_sealed(kind: str, tmp_path: Path) -> None:
    file, beside = tmp_path / "rows.arrow", tmp_path / "rows.arrow.sha256"
    made(file)
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
    assert made(file)
    assert is_whole(file)


def test_the_second_waits_for_the_first_and_takes_its_file(tmp_path: Path) -> None:
    """Two ranks on one cache: the second must not remove what the first has published and not yet sealed."""
    file = tmp_path / "rows.arrow"
    with ThreadPoolExecutor(1) as pool:
        with made_once(file) as is_missing:
            assert is_missing
            file.write_bytes(CONTENT)
            second = pool.submit(made, file)
            with pytest.raises(TimeoutError):
                second.result(0.3)
            assert file.read_bytes() == CONTENT
        assert second.result(10) is False
    assert is_whole(file)


def test_a_file_that_could_not_be_made_is_left_to_the_next(tmp_path: Path) -> None:
    file = tmp_path / "rows.arrow"
    file.write_bytes(CONTENT)
    with pytest.raises(ZeroDivisionError), made_once(file):
        raise ZeroDivisionError
    assert not is_whole(file)
    assert made(file)
