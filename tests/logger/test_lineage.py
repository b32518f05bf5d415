"""Logged models: their names among all runs, and the models that they were made from."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lightning_embed.logger import lineage
from lightning_embed.logger.lineage import LoggedModel, coefficients


def _model(folder: Path, value: float) -> Path:
    folder.mkdir(parents=True)
    save_file({"weight": torch.full((2,), value)}, folder / "model.safetensors")
    return folder


def test_a_base_is_called_by_its_weights(tmp_path: Path) -> None:
    folders = [_model(tmp_path / name, value) for name, value in (("a", 1.0), ("b", 1.0), ("c", 2.0))]
    one, copy, other = (LoggedModel("base", folder).artifact for folder in folders)
    assert one == copy != other


@pytest.mark.parametrize(("place", "name"), [("models/sts", "sts"), ("merged/soup-1/model", "soup-1")])
def test_a_model_is_called_by_the_run_that_wrote_it(tmp_path: Path, place: str, name: str) -> None:
    """Whatever the run that asks calls it."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.yaml").write_text("hash: 1a2b3c4d\nconfig: {name: my try}\n")
    model = LoggedModel("run-models-sts", _model(tmp_path / "run" / place, 1.0))
    assert model.artifact == f"my_try-1a2b3c4d-{name}"
    assert model.metadata() == {
        "name": "run-models-sts", "artifact": model.artifact, "path": str(model.folder), "sha256": model.sha256,
    }  # fmt: skip


def test_a_strangers_model_is_called_by_its_folder(tmp_path: Path) -> None:
    assert LoggedModel("all: mine", _model(tmp_path / "model", 1.0)).artifact == "all_mine"


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ({"coefficients": {"*": [0.25, 0.75]}}, [0.25, 0.75]),
        ({"coefficients": {"a": [0.0, 1.0], "b": [1.0, 1.0]}, "path": []}, [0.5, 1.0]),
        ({"weights": [2.0, 1.0], "thresholds": {}}, [2.0, 1.0]),
        ({"weights": {"a": 1.0}}, [None, None]),
        ({}, [None, None]),
    ],
)
def test_how_much_of_each_source(plan: dict, expected: list) -> None:
    assert coefficients(plan, 2) == expected


@pytest.mark.parametrize(
    "name", ["a b", "a/b", "检索", "поиск", "a$b", "😀", "[bold]", "x" * 300, "é", "a:b", "..", "\udcff"]
)
def test_every_name_of_a_model_is_one_of_an_artifact(name: str) -> None:
    legal = lineage._legal(name)
    assert re.fullmatch(r"[a-zA-Z0-9_.-]{1,128}", legal)
    assert name.isascii() or legal != lineage._legal(name + name)
