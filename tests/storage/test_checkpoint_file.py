"""Checkpoints are tensors, numbers and texts; anything else is one sentence."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lightning_embed.errors import CheckpointError
from lightning_embed.storage.checkpoint_file import read


class _Other:
    """An object of a class."""


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (Path.touch, "is not a whole checkpoint"),
    "text": (lambda file: file.write_text("x" * 100), "is not a whole checkpoint"),
    "other class": (lambda file: torch.save({"a": _Other()}, file), r"could run code \(.*_Other"),
    "function": (lambda file: torch.save({"a": print}, file), r"could run code \(print\)"),
    "list": (lambda file: torch.save([1], file), "is not a checkpoint of a training, but a list"),
    "cut": (lambda file: (torch.save({"a": 1}, file), file.write_bytes(file.read_bytes()[:200])), "not a whole"),
    "absent": (lambda file: None, "No such file"),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("mmap", [False, True])
def test_broken_ones_are_one_sentence(case: str, mmap: bool, tmp_path: Path) -> None:
    make, answer = BROKEN[case]
    make(tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=rf"a.ckpt.*{answer}.*\. Mend it\.$"):
        read(tmp_path / "a.ckpt", "Mend it.", mmap=mmap)


def test_a_changed_byte_of_a_tensor_is_found(tmp_path: Path) -> None:
    torch.save({"a": torch.full((1000,), 7.0)}, tmp_path / "a.ckpt")
    content = bytearray((tmp_path / "a.ckpt").read_bytes())
    content[content.index(torch.full((3,), 7.0).numpy().tobytes()) + 100] ^= 1
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"has changed since it was written, in .*Mend it"):
        read(tmp_path / "a.ckpt", "Mend it.")


def test_a_whole_one_is_read(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2), "b": {"c": [1, "d", None]}}, tmp_path / "a.ckpt")
    assert read(tmp_path / "a.ckpt", "Mend it.")["b"] == {"c": [1, "d", None]}
