"""Loggers are asked for what they can do, and nothing is drawn for those that show no pictures."""

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from lightning_embed.logger import run_log
from lightning_embed.report import Run
from lightning_embed.types import Results
from tests.report.conftest import record


class _Numbers:
    """As csv is."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.metrics |= metrics


class _Everything(_Numbers):
    """As W&B is."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self.pictures: list[str] = []

    def log_table(self, key: str, columns: list[str], data: list[list[Any]]) -> None:
        self.tables[key] = [dict(zip(columns, row, strict=True)) for row in data]

    def log_picture(self, key: str, file: Path) -> None:
        assert file.exists()
        self.pictures.append(f"{key}{file.suffix}")


def _scores(points: float) -> Results:
    score = {"task": "sts", "metric": "cosine_spearman", "score": points}
    return {
        "dev": {"a": {**score, "in_domain": True}},
        "test": {"a": {**score, "in_domain": True}, "b": {**score, "score": points + 8, "in_domain": False}},
    }


@pytest.fixture
def run(tmp_path: Path) -> Run:
    found = Run(tmp_path)
    for name, points, cost in (("base", 50.0, 0.0), ("sts", 60.0, 100.0), ("soup-1", 62.0, 200.0)):
        found.add(name, _scores(points), cost)
    return found


def test_numbers_of_the_own_model_have_keys_without_its_name(run: Run) -> None:
    assert run.means("soup-1") == {
        "dev/sts": 62, "dev/mean": 62, "test_in_domain/sts": 62, "test_in_domain/mean": 62, "test_out_of_domain/sts": 70,
        "test_out_of_domain/mean": 70, "test/sts": 66, "test/mean": 66, "cost/rows": 200,
    }  # fmt: skip


def test_scores_of_the_own_model_have_keys_without_its_name(run: Run) -> None:
    """Those of other merges in the folder are logged by the jobs that made them; a set called as a task is no mean."""
    (run.out / "merged" / "ties-2").mkdir(parents=True)
    score = run.models["soup-1"]["dev"]["a"]
    run.add("ties-2", {"dev": {"a": score}})
    run.add("soup-1", {"dev": {"a": score, "sts": {**score, "score": 41.0}}})
    found = run.numbers("soup-1")
    assert found["dev/a"] == score["score"]
    assert found["dev/sts (set)"] == 41
    assert found["dev/sts"] == (score["score"] + 41) / 2
    assert "dev/a/base" in found
    assert not [key for key in found if "soup-1" in key or "ties-2" in key]


def test_what_each_logger_gets(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "merged" / "soup-1"
    target.mkdir(parents=True)
    written = record("soup")
    (target / "merge.json").write_text(json.dumps(written))
    (target / "geometry.svg").write_text("<svg/>")
    for suffix in ("svg", "png"):
        (target / f"plane.{suffix}").write_text("")
    csv, wandb = _Numbers(), _Everything()
    run_log.log_merge([csv, wandb], OmegaConf.create(), run, "soup-1", [], None, target)
    assert csv.metrics == wandb.metrics
    assert csv.metrics["dev/a/base"] == 50
    assert csv.metrics["geometry/norm/merged"] == written["geometry"]["merged_norm"]
    assert csv.metrics["geometry/sign_conflict_share"] == written["geometry"]["sign_conflict_share"]
    assert len(wandb.tables["results"]) == 9
    names = {row["model"] for row in wandb.tables["geometry"]}
    assert names == {*(source["name"] for source in written["sources"]), "merged"}
    assert wandb.pictures == ["picture/quality.png", "picture/geometry.svg", "picture/plane.png"]
    monkeypatch.setattr(Run, "quality", lambda _: pytest.fail("nobody shows this picture"))
    run_log.log_merge([csv], OmegaConf.create(), run, "soup-1", [], None, None)
