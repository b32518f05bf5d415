"""The wheel: plugins and conf inside the package, nothing beside it."""

import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent


def test_all_packages_are_listed() -> None:
    """setuptools finds none by itself where `package-dir` maps folders: a room left out would be missing in the wheel."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {file.parent.relative_to(ROOT) for file in (ROOT / "lightning_embed").rglob("__init__.py")}
    mapped = {"lightning_embed.plugins", "lightning_embed.conf"}
    assert sorted(listed) == sorted({".".join(folder.parts) for folder in folders} | mapped)


@pytest.mark.slow
def test_wheel(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    files = set(ZipFile(wheel).namelist())
    for folder in ("plugins", "conf"):
        ours = {p.relative_to(ROOT / folder) for s in ("*.py", "*.yaml") for p in (ROOT / folder).rglob(s)}
        assert {f"lightning_embed/{folder}/{path.as_posix()}" for path in ours} <= files
    tables = (ROOT / "lightning_embed/data/sample/tables").glob("*.toml")
    assert {f"lightning_embed/data/sample/tables/{path.name}" for path in tables} <= files
    assert {name.partition("/")[0].partition("-")[0] for name in files} == {"lightning_embed"}
