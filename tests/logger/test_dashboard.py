"""The dashboard as code: what it shows is what a run logs, and what the page lists."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.logger.offline import read_runs
from tests.run.test_train import _cfg

ROOT = Path(__file__).parent.parent.parent
OUT_OF_DOMAIN = "test_out_of_domain/mean"  # the run has no such test; see tests/report/test_results.py


@pytest.fixture(scope="module")
def dashboard() -> Any:
    spec = importlib.util.spec_from_file_location("wandb_dashboard", ROOT / "examples" / "wandb_dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["wandb_dashboard"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_key_is_logged(dashboard: Any, logged: Path) -> None:
    keys = {key.partition("._type")[0] for run in read_runs(logged).values() for key in run.keys}
    shown = [key for panels in dashboard.DASHBOARD.values() for panel in panels for key in panel.keys]
    assert [key for key in shown if not any(re.fullmatch(key, each) for each in keys)] == [OUT_OF_DOMAIN]


def test_the_page_lists_the_same_panels(dashboard: Any) -> None:
    page = (ROOT / "docs" / "wandb.md").read_text()
    rows = [
        f"| {section} | {panel.title} | {panel.kind} | {', '.join(f'`{key}`' for key in panel.keys)} |"
        for section, panels in dashboard.DASHBOARD.items()
        for panel in panels
    ]
    assert "\n".join(rows) in page


def test_the_commands_of_the_page_compose() -> None:
    page = (ROOT / "docs" / "wandb.md").read_text()
    commands = re.findall(r"python train\.py(.*)", page)
    assert len(commands) == 4
    for command in commands:
        assert "logger" in _cfg("train", shlex.split(command, comments=True))


@pytest.mark.filterwarnings("ignore")  # pydantic, of wandb-workspaces
def test_it_is_made_without_a_network(dashboard: Any) -> None:
    pytest.importorskip("wandb_workspaces")
    made = dashboard.workspace("entity", "project")
    assert [section.name for section in made.sections] == list(dashboard.DASHBOARD)
    assert [len(section.panels) for section in made.sections] == [len(p) for p in dashboard.DASHBOARD.values()]
