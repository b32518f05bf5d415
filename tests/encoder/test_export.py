"""Formats of a model for other runtimes: what cannot be made is refused before anything starts; what is made is compared."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lightning_embed.cli.launch import check_command
from lightning_embed.encoder import export as exports
from lightning_embed.encoder.export import check_export, export
from lightning_embed.errors import CheckpointError, ConfigError


def _installed(monkeypatch: pytest.MonkeyPatch, **packages: str) -> None:
    """Packages by version; optimum-intel with the requirements of 2.2.0."""
    needs = ["torch>=2.1", "transformers<5.6,>=4.51", "torchvision; extra == 'tests'"]

    def version(name: str) -> str:
        if name.replace("-", "_") not in packages:
            raise PackageNotFoundError(name)
        return packages[name.replace("-", "_")]

    def distribution(name: str) -> SimpleNamespace:
        return SimpleNamespace(version=version(name), requires=needs)

    monkeypatch.setattr(exports, "version", version)
    monkeypatch.setattr(exports, "distribution", distribution)


def test_versions_that_stand_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"optimum_intel": "2.2.0", "torch": "2.13.0"}
    _installed(monkeypatch, **known, transformers="5.5.4")
    check_export(["openvino"])
    _installed(monkeypatch, **known, transformers="5.23.0")
    with pytest.raises(
        ConfigError, match=r"export=openvino: optimum-intel 2.2.0 needs transformers<5.6,>=4.51, found 5.23.0"
    ):
        check_export(["openvino"])
    _installed(monkeypatch, optimum_intel="2.2.0", transformers="5.5.4")
    with pytest.raises(ConfigError, match=r"needs torch>=2.1, found none"):
        check_export(["openvino"])


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(monkeypatch)
    with pytest.raises(
        ConfigError, match=r"export=openvino: expected the package optimum-intel, found none. pip install"
    ):
        check_export(["openvino"])
    with pytest.raises(
        ConfigError, match=r"export=onnx: expected the package optimum-onnx, .* 0.1.0 needs transformers<4.58"
    ):
        check_export(["onnx"])
    with pytest.raises(ConfigError, match=r"export: expected openvino or onnx, got 'onxn'. .*onnx"):
        check_export(["onxn"])
    with pytest.raises(ConfigError, match=r"export=onnx: expected the package optimum-onnx"):
        check_command("train", ["export=[onnx]"])


class _Backend:
    """A sentence-transformers model of some backend: vectors of a text's length, turned by an angle."""

    def __init__(self, word: str, degrees: float) -> None:
        self.word, self.degrees = word, degrees if word != "torch" else 0.0

    def save_pretrained(self, folder: str) -> None:
        (Path(folder) / self.word).mkdir()
        (Path(folder) / self.word / "openvino_model.xml").write_text("<net/>")

    def encode(self, texts: list[str], normalize_embeddings: bool) -> np.ndarray:
        angles = np.array([len(text) for text in texts]) + np.deg2rad(self.degrees)
        return np.stack([np.cos(angles), np.sin(angles)], 1)


@pytest.fixture
def turned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The files are written by a stand-in: the real backend is not installed beside the pinned transformers."""
    monkeypatch.setattr(exports, "_versions", lambda word: {})
    monkeypatch.setattr(exports, "_open", lambda model, word: _Backend(word, degrees=2.0))
    return tmp_path


def test_it_is_compared_with_torch_and_recorded(turned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert export(turned, "openvino") == pytest.approx(np.cos(np.deg2rad(2)))
    assert {file.name for file in (turned / "openvino").iterdir()} == {"openvino_model.xml", "export.json"}
    monkeypatch.setattr(exports, "_open", lambda model, word: pytest.fail("made again"))
    assert export(turned, "openvino") == pytest.approx(np.cos(np.deg2rad(2)))


def test_other_embeddings_and_other_failures_leave_nothing(turned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "_open", lambda model, word: _Backend(word, degrees=30.0))
    with pytest.raises(CheckpointError, match=r"cosines with torch's down to 0.8660"):
        export(turned, "openvino")
    monkeypatch.setattr(exports, "_open", lambda model, word: 1 / 0)
    with pytest.raises(CheckpointError, match=r"is complete, but was not exported to openvino \(ZeroDivisionError"):
        export(turned, "openvino")
    assert not (turned / "openvino").exists()


@pytest.mark.slow
def test_openvino_opens_what_is_written(tiny_model: Path, tmp_path: Path) -> None:
    """Where optimum-intel is installed, which the pinned transformers does not allow."""
    pytest.importorskip("optimum.intel")
    assert export(tiny_model, "openvino") > 0.999
