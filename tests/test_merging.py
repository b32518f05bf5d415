"""merge.py as a whole: what it makes, what it says, what it refuses."""

import json
from pathlib import Path

import pytest

from lightning_embed import cli, merging
from lightning_embed.errors import ConfigError
from tests.merge import toy
from tests.test_pipeline import _cfg


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    """Two models, as an override."""
    _, tensors = toy.family(2)
    paths = [toy.write(tmp_path / "models" / f"s{number}", t) for number, t in enumerate(tensors)]
    return [f"sources=[{','.join(map(str, paths))}]", "evaluation=none", "logger=none"]


def _merge(*overrides: str) -> None:
    merging.merge(_cfg("merge", list(overrides)))


def test_a_recipe(sources: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["merge=dare", f"base={tmp_path}/models/s0", "seed=5", "merge.density=0.5"]
    _merge(*sources, *options, f"out={tmp_path}/one")
    (first,) = (tmp_path / "one/merged").iterdir()
    _merge(f"recipe={first}/merge.json", "evaluation=none", "logger=none", f"out={tmp_path}/two")
    (second,) = (tmp_path / "two/merged").iterdir()
    files = [folder / "model/model.safetensors" for folder in (first, second)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert second.name.startswith("dare-")
    record = json.loads((second / "merge.json").read_text())
    assert record["options"]["density"] == 0.5
    assert record["seed"] == 5
    assert "repeating" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "sources is missing: give it as sources=[...], or repeat a merge by recipe=<its merge.json>."),
        (
            ["recipe=a/merge.json", "sources=[b]", "merge.weighting=size", "seed=3"],
            "recipe=a/merge.json says how to merge, and sources, merge, seed too: give one or the other.",
        ),
        (
            ["recipe=a/merge.json", "merge=soup"],
            "recipe=a/merge.json says how to merge, and merge too: give one or the other.",
        ),
    ],
)
def test_sources_or_a_recipe(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cli.check_command("merge", overrides)
    assert str(caught.value) == message


def test_no_recipe() -> None:
    with pytest.raises(
        ConfigError, match=r"^recipe=nowhere.json: no such file. Give the merge.json that a merge wrote.$"
    ):
        _merge("recipe=nowhere.json", "evaluation=none", "logger=none")
