"""What W&B gets: read back from the files of an offline run; what needs its server, with a run that writes down what it is told."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from lightning_embed.logger.wandb import WandbLogger
from lightning_embed.run import train
from lightning_embed.training.module import EmbeddingModule
from tests.logger.conftest import run_overrides
from tests.logger.offline import Offline, read_runs
from tests.run.test_train import _cfg

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning, mteb and wandb warn of themselves in a whole run


@dataclass
class _Run:
    """A run that is online as far as our logger can see: there is no network in tests."""

    offline: bool = False
    used: list[Any] = field(default_factory=list)
    logged: list[Any] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def use_artifact(self, artifact: Any) -> None:
        if self.offline:
            raise TypeError("Cannot use artifact when in offline mode.")
        self.used.append(artifact)

    def log_artifact(self, artifact: Any) -> None:
        self.logged.append(artifact)

    def log(self, row: dict[str, Any]) -> None:
        self.rows.append(row)


def _model(folder: Path, value: float) -> Path:
    folder.mkdir(parents=True)
    save_file({"weight": torch.full((2,), value)}, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_online_a_run_uses_what_its_model_was_made_of(tmp_path: Path) -> None:
    base, expert = _model(tmp_path / "base", 0.0), _model(tmp_path / "expert", 1.0)
    training, merging = _Run(), _Run()
    WandbLogger(experiment=training).log_model_directory("sts", expert, {"rows": 7}, {"base-1": base})
    (expert / "README.md").write_text("written after the training")
    WandbLogger(experiment=merging).log_model_directory("soup", base, {}, {"base-1": base, "sts": expert})
    assert [artifact.name for artifact in training.used] == ["base-1"]
    assert [(artifact.name, artifact.type) for artifact in training.logged] == [("sts", "model")]
    assert [artifact.name for artifact in merging.used] == ["base-1", "sts"]
    made, used = training.logged[0], merging.used[1]
    assert made.metadata == {"rows": 7}
    assert made.manifest.digest() == used.manifest.digest(), "one version: the edge ends at what the training logged"
    assert made.manifest.digest() != training.used[0].manifest.digest(), "other weights are another version"


def test_offline_nothing_is_used(tmp_path: Path) -> None:
    run = _Run(offline=True)
    model = _model(tmp_path / "expert", 1.0)
    WandbLogger(experiment=run).log_model_directory("sts", model, {}, {"base-1": model})
    assert [artifact.name for artifact in run.logged] == ["sts"]


@pytest.mark.parametrize(
    ("log_model", "files"),
    [
        (False, {"config.json", "sha256.json", "merge.json"}),
        (True, {"config.json", "sha256.json", "merge.json", "tokenizer.json", "model.safetensors"}),
    ],
)
def test_weights_are_uploaded_only_if_asked(tmp_path: Path, log_model: bool, files: set[str]) -> None:
    run, merged = _Run(), _model(tmp_path / "soup-1" / "model", 1.0)
    (tmp_path / "soup-1" / "merge.json").write_text("{}")
    (merged / "README.md").write_text("# soup")
    WandbLogger(experiment=run, log_model=log_model).log_model_directory("soup", merged, {}, {})
    assert set(run.logged[0].manifest.entries) == files


def test_a_png_is_an_image_and_an_svg_a_page(tmp_path: Path) -> None:
    import wandb

    run, png, svg = _Run(), tmp_path / "plane.png", tmp_path / "geometry.svg"
    Image.new("RGB", (4, 3)).save(png)
    svg.write_text("<svg/>")
    for file in (png, svg):
        WandbLogger(experiment=run).log_picture(file.stem, file)
    assert isinstance(run.rows[0]["plane"][0], wandb.Image)
    assert isinstance(run.rows[1]["geometry"], wandb.Html)


def test_a_folder_is_meant_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where another process, started elsewhere, already runs the service of wandb that writes the files."""
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        logger = WandbLogger(save_dir="out", name=name, mode="offline")
        logger.log_metrics({"loss": 1.0})
        logger.experiment.finish()
        assert [run.name for run in read_runs(tmp_path / name / "out").values()] == [name]


def _parts(out: Path) -> dict[str, tuple[Path, Offline]]:
    return {run.name: (folder, run) for folder, run in read_runs(out).items()}


def _merged(out: Path) -> str:
    (found,) = (out / "merged").iterdir()
    return found.name


@pytest.mark.slow
def test_one_run_per_expert_and_one_for_merge_and_evaluation(logged: Path) -> None:
    runs = {name: run for name, (_, run) in _parts(logged).items()}
    merged = _merged(logged)
    assert {name: run.job_type for name, run in runs.items()} == {"bag_0": "train", "bag_1": "train", merged: "merge"}
    assert len({run.group for run in runs.values()}) == 1
    assert len({run.id for run in runs.values()}) == 3
    config = runs[merged].config
    assert {key: config[key] for key in ("experts", "sampler", "merge", "retrieval_loss", "sts_loss", "seed")} == {
        "experts": "bagging", "sampler": "batch_shuffle", "merge": "self_positioning", "retrieval_loss": "infonce",
        "sts_loss": "cosent", "seed": 42,
    }  # fmt: skip
    assert config["options"]["merge"]["steps"] == 3


@pytest.mark.slow
def test_curves_tables_and_pictures(logged: Path) -> None:
    runs, merged = _parts(logged), _merged(logged)
    _, training = runs["bag_0"]
    assert {"train/loss/facts", "dev/loss/phrases", "train/learning_rate", "throughput/tokens_per_second",
            "throughput/padding_share", "conflict/cosine/facts-phrases/all", "geometry/uniformity/facts"} <= training.keys  # fmt: skip
    folder, merge = runs[merged]
    assert [row["merge/coefficient/bag_0"] for row in merge.history if "merge/coefficient/bag_0" in row][1:], "a curve"
    pictures = {
        "geometry": "html-file",
        "paths": "images/separated",
        "plane": "images/separated",
        "quality": "images/separated",
    }
    for name, kind in pictures.items():
        assert {row[key] for row in merge.history for key in row if key == f"picture/{name}._type"} == {kind}
    assert "picture/conflict._type" in training.keys
    results = merge.table("results", folder)
    assert results["columns"] == ["model", "split", "test", "task", "metric", "in_domain", "score"]
    assert {row[0] for row in results["data"]} == {"base", "bag_0", "bag_1", merged}
    geometry = merge.table("geometry", folder)
    assert {row[1] for row in geometry["data"]} == {"bag_0", "bag_1", "merged"}
    costs = json.loads((logged / "results.json").read_text())["costs"]
    for name in ("bag_0", "bag_1"):
        plan = runs[name][1].table("plan", runs[name][0])
        rows = [dict(zip(plan["columns"], row, strict=True)) for row in plan["data"]]
        assert {row["dataset"] for row in rows} == {"facts", "phrases"}
        assert sum(row["rows_trained_on"] for row in rows) == pytest.approx(costs[name])


@pytest.mark.slow
def test_metadata_lead_from_the_base_to_the_merged_model(logged: Path) -> None:
    runs = _parts(logged)
    models = {
        artifact.name: json.loads(artifact.metadata)
        for _, run in runs.values()
        for artifact in run.artifacts
        if artifact.type == "model"
    }
    (merged,) = (found for found in models.values() if "merge" in found)
    record = json.loads((logged / "merged" / _merged(logged) / "merge.json").read_text())
    assert [source["sha256"] for source in merged["sources"]] == [source["sha256"] for source in record["sources"]]
    assert merged["sha256"] == record["sha256"]
    assert merged["merge"]["strategy"] == "self_positioning"
    assert all(isinstance(source["coefficient"], float) for source in merged["sources"])
    for source in merged["sources"]:
        expert = models[source["artifact"]]
        assert expert["sha256"] == source["sha256"]
        assert expert["start"] == merged["base"], "the base of both"
        assert {row["dataset"] for row in expert["trained_on"]} == {"facts", "phrases"}
    assert merged["base"]["sha256"] == record["base"]["sha256"]
    assert merged["base"]["artifact"].startswith("base-")


@pytest.mark.slow
def test_a_killed_training_goes_on_under_its_id(
    tiny_model: Path, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline that is a second folder with the same id and group."""
    monkeypatch.setenv("WANDB_SILENT", "true")
    given = run_overrides(
        tiny_model, toy, tmp_path / "run", "callback=default", "experts=joint", "merge=none", "evaluation=none",
        "doctor=geometry", "checkpoint_minutes=0",
    )  # fmt: skip
    given = [each for each in given if not each.startswith(("callback.gradient", "experts.bag", "merge.", "doctor."))]
    step = EmbeddingModule.training_step

    def fails(self: EmbeddingModule, batch: Any) -> Any:
        if self.trainer.global_step == 2:
            raise OSError("the machine is taken away")
        return step(self, batch)

    monkeypatch.setattr(EmbeddingModule, "training_step", fails)
    with pytest.raises(OSError, match="taken away"):
        train.train(_cfg("train", given))
    monkeypatch.setattr(EmbeddingModule, "training_step", step)
    train.train(_cfg("train", given))
    first, second = (run for run in read_runs(tmp_path / "run").values() if run.name == "joint")
    assert (first.id, first.group, first.job_type) == (second.id, second.group, second.job_type)
    steps = [[row["trainer/global_step"] for row in run.history if "train/loss" in row] for run in (first, second)]
    assert steps == [[0, 1], [2, 3]]
