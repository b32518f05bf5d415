"""A finished model that is not what was exported is refused with what to delete; the base is made again."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save_file

from lightning_embed.errors import CheckpointError
from lightning_embed.run import finished
from tests.merge import toy


def _run(out: Path) -> Path:
    for name in ("joint-ema", "joint"):
        toy.write(out / "models" / name, toy.model(len(name)))
        (out / "models" / name / "config.json").write_text('{"model_type": "bert"}')
        (out / "models" / name / "1_Pooling").mkdir()
        (out / "models" / name / "1_Pooling" / "config.json").write_text("{}")
    finished.record(out, ["joint-ema", "joint"])
    finished.verify(out, ["joint-ema", "joint"])
    return out


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


CHANGES: dict[str, Callable[[Path], object]] = {
    "flipped": _flip, "cut": lambda file: file.write_bytes(file.read_bytes()[:-1]), "missing": Path.unlink,
    "empty": lambda file: file.write_bytes(b""), "longer": lambda file: file.write_bytes(file.read_bytes() + b" "),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "1_Pooling/config.json"])
@pytest.mark.parametrize("model", ["joint", "joint-ema"])
def test_a_changed_file(model: str, name: str, change: str, tmp_path: Path) -> None:
    out = _run(tmp_path)
    CHANGES[change](out / "models" / model / name)
    with pytest.raises(CheckpointError) as refused:
        finished.verify(out, ["joint-ema", "joint"])
    message = str(refused.value)
    assert message.startswith(str(out / "models" / model / name))
    folders = f"{out}/models/joint-ema and {out}/models/joint" if model != "joint" else f"{out}/models/joint"
    assert f"Delete {folders}: the same command trains joint again." in message
    finished._record(out, model).unlink()  # the other way out, where what is there is a model
    is_broken = name == "config.json" and change in ("flipped", "cut", "empty")
    if not is_broken and (name != "model.safetensors" or change == "flipped"):
        finished.verify(out, ["joint-ema", "joint"])
        finished.verify(out, ["joint-ema", "joint"])


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    out = _run(tmp_path)
    (out / "models" / "joint-ema").rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=r"models/joint-ema/1_Pooling/config.json is missing"):
        finished.verify(out, ["joint-ema", "joint"])


@pytest.mark.parametrize("text", [None, "", "[", "[]", '{"a": 1}', "3"])
def test_without_a_record_a_whole_model_counts(text: str | None, tmp_path: Path) -> None:
    """As those of earlier versions, and those whose process was killed before it could write the record."""
    out = _run(tmp_path)
    record = finished._record(out, "joint")
    record.unlink() if text is None else record.write_text(text)
    finished.verify(out, ["joint-ema", "joint"])
    assert "model.safetensors" in json.loads(record.read_text())
    record.unlink()
    CHANGES["cut"](out / "models" / "joint" / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"model.safetensors is not a complete safetensors file .* Delete .*joint"
    ):
        finished.verify(out, ["joint-ema", "joint"])


def test_what_does_not_belong_to_the_model_may_change(tmp_path: Path) -> None:
    out = _run(tmp_path)
    (out / "models" / "joint" / "README.md").write_text("a card, written later")
    (out / "models" / "joint" / ".cache").write_text("of a tool")
    (out / "models" / "joint" / "onnx").mkdir()
    save_file(toy.model(1), out / "models" / "joint" / "onnx" / "model.safetensors")
    finished.verify(out, ["joint-ema", "joint"])


def test_the_record_goes_with_its_model(tmp_path: Path) -> None:
    """A record of a model that was deleted must not refuse the one that is trained in its place."""
    out = _run(tmp_path)
    (out / "models" / "joint").rename(tmp_path / "elsewhere")
    finished.forget_missing(out, ["joint-ema", "joint"])
    assert not finished._record(out, "joint").exists()
    assert finished._record(out, "joint-ema").exists()
    toy.write(out / "models" / "joint", toy.model(9))
    finished.verify(out, ["joint-ema", "joint"])
