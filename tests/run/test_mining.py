"""Mining in a run: once, in rounds, with a teacher's scores; what is not what mining wrote is mined again."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from lightning_embed.data import DatasetOptions, load_datasets
from lightning_embed.data.mining_options import MiningOptions
from lightning_embed.errors import ConfigError
from lightning_embed.run import mining, train
from lightning_embed.runtime import signals
from lightning_embed.training.module import EmbeddingModule
from lightning_embed.types import Task
from tests.run.test_train import _cfg, _overrides
from tests.toy import write_toy

BREAKS: dict[str, Callable[[Path], object]] = {
    "a line less": lambda file: file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1])),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-9]), "empty": lambda file: file.write_text(""),
    "missing": Path.unlink, "without its seal": lambda file: file.with_name("pairs.jsonl.sha256").unlink(),
}  # fmt: skip


@pytest.mark.parametrize("kind", BREAKS)
def test_mined_again(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Path] = []

    def mine(rows: Any, model: Path, options: Any, target: Path, **how: Any) -> Path:
        calls.append(target)
        target.write_text(
            "".join(json.dumps({k: v for k, v in row.items() if v is not None}) + "\n" for row in rows.table)
        )
        return target

    monkeypatch.setattr(mining, "mine", mine)
    monkeypatch.setattr(mining, "build_options", lambda cls, cfg: MiningOptions(["pairs"]))
    monkeypatch.setattr(mining, "prompts_of", lambda data, base: SimpleNamespace(query="", document=""))
    monkeypatch.setattr(mining, "CACHE", tmp_path / "cache")
    folder = write_toy(tmp_path / "toy")
    data = load_datasets(
        {"pairs": DatasetOptions(Task.retrieval, path=str(folder / "pairs"))}, cache=tmp_path / "cache"
    )
    cfg = OmegaConf.create({"mining": {}, "seed": 0})
    base: Any = SimpleNamespace(export=lambda target: None)
    mined = getattr(mining.mined, "__wrapped__", mining.mined)
    whole = mined(cfg, data, base, tmp_path)["pairs"].train.table.to_list()
    file = tmp_path / "mined" / "pairs.jsonl"
    assert mined(cfg, data, base, tmp_path)["pairs"].train.table.to_list() == whole
    assert calls == [file]
    capsys.readouterr()
    BREAKS[kind](file)
    assert mined(cfg, data, base, tmp_path)["pairs"].train.table.to_list() == whole
    assert calls == [file, file]
    said = " ".join(capsys.readouterr().out.split())
    assert ("is not what mining wrote. Mining again." in said) == (kind != "missing")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"))


QUIET = ("experts=joint", "merge=none", "evaluation=none", "mining.datasets=[facts]", "mining.num_negatives=3")


def _rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.filterwarnings("ignore")
def test_a_cross_encoder_mines_scores_and_teaches(
    tiny_model: Path, tiny_cross_encoder: Path, toy: Path, tmp_path: Path
) -> None:
    """In one command, from rows without scores; a training without the distillation ends elsewhere."""
    teacher = (f"mining.cross_encoder={tiny_cross_encoder}", "mining.scores=cross_encoder")
    for name, loss in {"distill": ("loss@retrieval_loss=distill", "retrieval_loss.weight=50"), "plain": ()}.items():
        given = (*QUIET, *teacher, *loss, "data.datasets.facts.num_negatives=5")
        train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path / name, *given)))
    distilled, plain = (tmp_path / name / "mined" / "facts.jsonl" for name in ("distill", "plain"))
    assert distilled.read_bytes() == plain.read_bytes(), "mining is a function of data, models and seed"
    for row in _rows(distilled):
        assert len(row["positive_scores"]) == len(row["positives"])
        assert len(row["negative_scores"]) == len(row["negatives"]) > 2
    weights = [load_file(tmp_path / name / "models/joint/model.safetensors") for name in ("distill", "plain")]
    assert any(not torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    card = (tmp_path / "distill/models/joint/README.md").read_text()
    assert f"- cross-encoder: {tiny_cross_encoder.name}" in card


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_round_is_mined_by_the_model_of_the_one_before(
    tiny_model: Path, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is stopped in its first round goes on there, and ends with the bytes of the undisturbed one."""
    rounds = (*QUIET, "mining.rounds=2", "optimizer.lr=0.01")
    first, last = "mined/round_1/facts.jsonl", "mined/facts.jsonl"
    train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path / "whole", *rounds)))
    train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path / "one", *QUIET, "optimizer.lr=0.01")))
    assert (tmp_path / "whole" / first).read_bytes() == (tmp_path / "one" / last).read_bytes()
    assert (tmp_path / "whole" / last).read_bytes() != (tmp_path / "whole" / first).read_bytes()
    weights = {
        place: load_file(tmp_path / place / "model.safetensors")
        for place in ("whole/mined/round_1/models/round_1", "one/models/joint", "whole/models/joint")
    }
    same = {
        place: [torch.equal(t, weights["one/models/joint"][n]) for n, t in of.items()] for place, of in weights.items()
    }
    assert all(same["whole/mined/round_1/models/round_1"]), "a round trains what a joint expert is"
    assert not all(same["whole/models/joint"])

    cfg, step = _cfg("train", _overrides(tiny_model, toy, tmp_path / "stopped", *rounds)), EmbeddingModule.training_step

    def signalled(self: EmbeddingModule, batches: Any) -> Any:
        if self.trainer.global_step == 2:
            monkeypatch.setattr(signals, "_received", signal.SIGTERM)
        return step(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingModule, "training_step", signalled)
        with pytest.raises(signals.Stopped, match="stopped by SIGTERM in round_1 at step 3 of 6"):
            train.train(cfg)
    monkeypatch.setattr(signals, "_received", None)
    train.train(cfg)
    assert (tmp_path / "stopped" / last).read_bytes() == (tmp_path / "whole" / last).read_bytes()
    again = load_file(tmp_path / "stopped/models/joint/model.safetensors")
    assert all(torch.equal(tensor, weights["whole/models/joint"][name]) for name, tensor in again.items())


def test_models_of_the_wrong_kind_are_refused_before_anything_is_written(
    tiny_model: Path, tiny_cross_encoder: Path, toy: Path, tmp_path: Path
) -> None:
    swapped = (f"mining.model={tiny_cross_encoder}", f"mining.cross_encoder={tiny_model}", "mining.max_score=0.9")
    cfg = _cfg("train", _overrides(tiny_model, toy, tmp_path / "run", *QUIET, *swapped))
    with pytest.raises(
        ConfigError, match=r"(?s)^mining\.model=.* found a cross-encoder\..*\nmining\.cross_encoder=.* found"
    ):
        train.train(cfg)
    assert not (tmp_path / "run").exists()
