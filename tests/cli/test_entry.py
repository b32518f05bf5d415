import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from lightning_embed.cli import entry, launch


def test_weights_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "b c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").touch()
    (tmp_path / "a/config.json").touch()
    monkeypatch.chdir(tmp_path)
    found = entry._named_weights([f"sources=[a,'{tmp_path}/b']", "merge=soup", "base=a", "+x={y: none}", "seed=1"])
    assert [file.parent.name for file in found] == ["a", "b", "a"]
    assert {file.parent.name for file in entry._named_weights(["sources=[*]"])} == {"a", "b", "b c"}


def test_torch_waits() -> None:
    code = "import sys, lightning_embed.cli.entry; sys.exit('torch' in sys.modules or 'hydra' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_versions_of_what_results_depend_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "merge=soup", "--version"])
    launch.launch("train")
    said = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert said["lightning-embed"] == version("lightning-embed")
    assert said["torch"] == version("torch")
    assert {"python", "lightning", "transformers", "mteb"} < said.keys()
