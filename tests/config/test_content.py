"""Paths of model directories as a user gives them."""

from pathlib import Path

import pytest

from lightning_embed.config.content import model_content, model_folder, source_paths
from tests.merge import toy


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (["e0", "e1", "e2", "e10"], "e*"),
        (["bag_1", "bag_9", "bag_10", "bag_100"], "*"),
        (["a1b2", "a1b10", "a2b1"], "a*"),
        (["1", "2", "10", "a"], "*"),
        (["e-1.5", "e-1.10"], "e*"),
        (["x", "x1"], "x*"),
        (["é1", "é2", "é10"], "é*"),
    ],
)
def test_the_natural_order_of_a_pattern(names: list[str], pattern: str, tmp_path: Path) -> None:
    for name in reversed(names):
        (tmp_path / name).mkdir()
    assert [path.name for path in source_paths([f"{tmp_path}/{pattern}"])] == names


def test_the_given_order_stays(tmp_path: Path) -> None:
    assert source_paths(["e10", "e2"]) == [Path("e10"), Path("e2")]
    assert source_paths(["no*match"]) == [Path("no*match")]


def test_the_folder_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    toy.write(tmp_path / "models/a", toy.model(0))
    assert source_paths(["~/models/*", "~/b"]) == [tmp_path / "models/a", tmp_path / "b"]
    assert model_content("~/models/a", None) == model_content(str(tmp_path / "models/a"), None) != "not readable"


def test_the_folder_of_a_merge(tmp_path: Path) -> None:
    merged = toy.write(tmp_path / "soup-1/model", toy.model(0)).parent
    assert model_folder(merged) == merged, "no merge"
    (merged / "merge.json").write_text("{}")
    assert model_folder(merged) == merged / "model"
    assert model_folder(merged / "model") == merged / "model"
    assert model_folder(tmp_path) == tmp_path
