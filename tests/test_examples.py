"""The packages under examples/: built, installed, put under the laws, and merged with, from the outside."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.merge import toy
from tests.pages import Page

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "examples" / "lightning-embed-magmax"
TEMPLATE = ROOT / "examples" / "template"
WORD = "magmax"
MATRIX = "encoder.layer.0.dense.weight"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the package is installed."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--target"]
    subprocess.run([*pip, str(folder), str(PACKAGE)], check=True, capture_output=True, timeout=300)
    return {**os.environ, "PYTHONPATH": str(folder)}


def _run(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_it_is_under_the_laws(installed: dict[str, str]) -> None:
    assert " passed" in _run(installed, "-m", "pytest", "-q", "tests/merge/test_laws.py", "-k", WORD)


def test_merge(installed: dict[str, str], tmp_path: Path) -> None:
    base, sources = toy.family(3)
    paths = [str(toy.write(tmp_path / f"s{number}", source)) for number, source in enumerate(sources)]
    origin, out = toy.write(tmp_path / "base", base), tmp_path / "out"
    given = [f"sources=[{','.join(paths)}]", f"base={origin}", f"out={out}", f"merge={WORD}", "merge.scale=0.5"]
    _run(installed, "merge.py", *given)
    (merged,) = (out / "merged").iterdir()
    assert merged.name.startswith(WORD)
    found = toy.read(merged / "model")
    deltas = torch.stack([source[MATRIX].double() - base[MATRIX].double() for source in sources])
    expected = base[MATRIX].double() + 0.5 * _magmax(deltas)
    torch.testing.assert_close(found[MATRIX].double(), expected, rtol=1e-5, atol=1e-5)


def _magmax(deltas: torch.Tensor) -> torch.Tensor:
    rows = [[max(element, key=abs) for element in zip(*row, strict=True)] for row in zip(*deltas.tolist(), strict=True)]
    return torch.tensor(rows, dtype=torch.float64)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment with the template and our wheel; what these need is seen in the tests' own."""
    home = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True, timeout=300)
    (site,) = home.glob("lib/python*/site-packages")
    seen = [path for path in sys.path if path.endswith("site-packages")]
    (site / "seen.pth").write_text("\n".join(seen))  # as paths: an editable install there is not followed
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install", "-q", "--no-deps"]
    for package in (ROOT, TEMPLATE):
        subprocess.run([*pip, "--no-build-isolation", str(package)], check=True, capture_output=True, timeout=600)
    return home / "bin"


def _type(folder: Path, *words: str) -> str:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_template_in_a_fresh_environment(fresh: Path, tmp_path: Path) -> None:
    """Shown, merged with, and swept, far from any checkout."""
    where = _type(tmp_path, str(fresh / "python"), "-c", "import lightning_embed; print(lightning_embed.__file__)")
    assert str(fresh.parent) in where
    merge = str(fresh / "lightning-embed-merge")
    assert re.search(
        r"halfway +The mean of the sources, half of the way from the base\.", _type(tmp_path, merge, "--help")
    )
    base, sources = toy.family(2)
    origin = toy.write(tmp_path / "base", base)
    paths = [str(toy.write(tmp_path / f"s{number}", source)) for number, source in enumerate(sources)]
    given = [f"sources=[{','.join(paths)}]", f"base={origin}", f"out={tmp_path}/out"]
    _type(tmp_path, merge, "merge=halfway", "merge.share=0.25", *given)
    (merged,) = (tmp_path / "out/merged").glob("halfway-*")
    expected = base[MATRIX] + 0.25 * ((sources[0][MATRIX] + sources[1][MATRIX]) / 2 - base[MATRIX])
    torch.testing.assert_close(toy.read(merged / "model")[MATRIX], expected)
    _type(tmp_path, merge, "-m", "merge=soup,halfway", *given)
    assert {path.name.partition("-")[0] for path in (tmp_path / "out/merged").iterdir()} == {"halfway", "soup"}
    assert len(list((tmp_path / "out/merged").iterdir())) == 3, "merged with two shares, and averaged"


def test_the_test_of_the_template(fresh: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(TEMPLATE, tmp_path / "my-merge")
    assert "2 passed" in _type(tmp_path, str(fresh / "python"), "-m", "pytest", "-q", str(copied))


def test_code_of_this_folder_in_a_fresh_environment(fresh: Path, tmp_path: Path, tiny_model: Path) -> None:
    """A word in plugins/ and a callback beside it: alone, as a module, on two ranks, in the workers of a launcher."""
    for page, name in (("own-loss", "plugins/huber.py"), ("own-callback", "my_callback.py")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(Page(ROOT / f"docs/{page}.md").files()[name])
    options = [
        f"encoder.path={tiny_model}", "encoder.max_length=32", "trainer.max_steps=2", "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false", "evaluation=none", "loss@sts_loss=huber", "experts=joint", "merge=none",
        "+callback.a._target_=my_callback.Loudest",
    ]  # fmt: skip
    train = str(fresh / "lightning-embed-train")
    for name, words in {
        "alone": [train],
        "module": [str(fresh / "python"), "-m", "lightning_embed", "--config-name=train"],
        "ranks": [train, "trainer.devices=2", "trainer.strategy=ddp"],
        "sweep": [train, "-m", "seed=1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    }.items():
        out = _type(tmp_path, *words, *options, f"name={name}")
        assert "plugins/huber.py: words of this folder" in out
        assert "largest loss: " in out
    done = subprocess.run(
        [train, *options, "plugins=installed"], cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert "ConfigError: loss=huber: no such choice." in done.stderr
