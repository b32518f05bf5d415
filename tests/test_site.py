"""`make docs`: the site builds without a warning and asks nobody for anything."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_site_builds_and_loads_nothing(tmp_path: Path) -> None:
    """Strict: a link to a page or a heading that does not exist is an error."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    options = (tmp_path / "reference/options.html").read_text()
    assert "step_memory" in options
    assert "loss@sts_loss" not in options, "a list of defaults is no option"
    for word in ("infonce", "ties", "round_robin", "bagging"):
        assert any(f">{word}<" in page.read_text() for page in (tmp_path / "reference").glob("*.html")), word
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"(https?://[^\"]*)\"", page.read_text())
        assert loaded == [], page.name
