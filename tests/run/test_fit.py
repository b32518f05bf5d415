"""Training an expert: its start, the sources that it leaves, the ways in which its steps can run."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file, save_file

from lightning_embed.errors import ConfigError, TrainingError
from lightning_embed.run import train
from lightning_embed.runtime import signals
from lightning_embed.training.module import EmbeddingModule
from lightning_embed.types import Batch, Task
from tests.run.test_train import _cfg, _overrides
from tests.toy import write_toy

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns of itself in a whole run


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"))


def _weights(model: Path) -> torch.Tensor:
    return torch.cat([value.flatten() for _, value in sorted(load_file(model / "model.safetensors").items())])


@pytest.mark.slow
def test_sources_of_a_trajectory(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    """Three snapshots (the last is the expert), an average, two seeds; the merge gets all, in order."""
    plan = ("experts=joint", "experts.snapshots=3", "experts.seeds=2", "experts.ema=0.5", "evaluation=none")
    train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path, *plan)))
    names = [f"joint{s}{part}" for s in ("", "-seed_1") for part in ("-snapshot_1", "-snapshot_2", "-ema", "")]
    weights = {name: _weights(tmp_path / "models" / name) for name in ("base", *names)}
    assert len({value.numpy().tobytes() for value in weights.values()}) == 9, "all nine models differ"
    (merged,) = (tmp_path / "merged").iterdir()
    torch.testing.assert_close(_weights(merged / "model"), torch.stack([weights[n] for n in names]).mean(0))
    distance = [(weights[n] - weights["base"]).norm() for n in ("joint-snapshot_1", "joint-snapshot_2", "joint")]
    assert distance == sorted(distance)


@pytest.mark.slow
def test_the_average_is_the_average(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    """e <- d e + (1 - d) w after every step, from the first step's weights on; the expert is not touched by it."""
    steps = ("experts=joint", "experts.snapshots=6", "experts.ema=0.9", "merge=none", "evaluation=none")
    train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path / "with", *steps)))
    models = tmp_path / "with" / "models"
    trajectory = [_weights(models / f"joint-snapshot_{n}") for n in range(1, 6)] + [_weights(models / "joint")]
    average = trajectory[0]
    for weights in trajectory[1:]:
        average = 0.9 * average + 0.1 * weights
    torch.testing.assert_close(_weights(models / "joint-ema"), average, rtol=1e-5, atol=1e-7)
    alone = ("experts=joint", "merge=none", "evaluation=none")
    train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path / "without", *alone)))
    assert torch.equal(trajectory[-1], _weights(tmp_path / "without" / "models" / "joint"))


def test_a_signal_stops_a_training_after_its_step(
    tiny_model: Path, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint is saved, nothing is exported, and the same command ends with the undisturbed weights."""
    plan = ("experts=joint", "merge=none", "evaluation=none")
    train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path / "whole", *plan)))
    cfg, step = _cfg("train", _overrides(tiny_model, toy, tmp_path / "stopped", *plan)), EmbeddingModule.training_step

    def signalled(self: EmbeddingModule, batches: tuple[Batch, ...]) -> dict[str, torch.Tensor]:
        if self.trainer.global_step == 2:
            monkeypatch.setattr(signals, "_received", signal.SIGTERM)
        return step(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingModule, "training_step", signalled)
        with pytest.raises(signals.Stopped, match="stopped by SIGTERM in joint at step 3 of 6"):
            train.train(cfg)
    assert torch.load(tmp_path / "stopped/checkpoints/joint/last.ckpt", weights_only=False)["global_step"] == 3
    assert not (tmp_path / "stopped/models/joint").exists()
    monkeypatch.setattr(signals, "_received", None)
    train.train(cfg)
    assert torch.equal(*(_weights(tmp_path / run / "models/joint") for run in ("whole", "stopped")))


@pytest.mark.slow
def test_an_expert_starts_where_the_one_before_ended(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    quiet = ("merge=none", "evaluation=none")
    with pytest.raises(
        ConfigError, match=r"2_sts starts from 1_retrieval, and .* does not exist: .*experts.only=1_retrieval"
    ):
        train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path, "experts=iterative", "experts.only=2_sts", *quiet)))  # fmt: skip
    train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path, "experts=iterative", *quiet)))
    chained = _weights(tmp_path / "models" / "2_sts")
    again = (f"encoder.path={tmp_path}/models/1_retrieval", "experts=per_task", "experts.only=sts", *quiet)
    train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path / "again", *again)))
    assert torch.equal(_weights(tmp_path / "again" / "models" / "sts"), chained)


def test_an_expert_that_starts_from_a_model_of_elsewhere(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    """Its first weights are those of the existing model, not of the base."""
    plan = ("experts=update", "experts.new=[facts]", "experts.start=existing", "experts.history_share=0", "merge=none")
    existing = shutil.copytree(tiny_model, tmp_path / "existing")
    weights = load_file(existing / "model.safetensors")
    save_file({name: weight * 2 for name, weight in weights.items()}, existing / "model.safetensors", {"format": "pt"})
    still = ("optimizer.lr=1e-30", "trainer.max_steps=1", "evaluation=none", f"experts.existing={existing}")
    train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path / "run", *plan, *still)))
    torch.testing.assert_close(_weights(tmp_path / "run/models/update"), 2 * _weights(tiny_model))


def test_a_requeued_job_resumes_from_its_own_checkpoint(
    tiny_model: Path, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Slurm, Lightning resumes from what its own requeue left in a root: of another expert, or of elsewhere."""
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    (tmp_path / "hpc_ckpt_1.ckpt").write_bytes(b"of a different expert")
    more = ("merge=none", "evaluation=none", "experts=joint", "trainer.max_steps=1")
    train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path, *more)))
    assert (tmp_path / "models/joint/model.safetensors").exists()


@pytest.mark.slow
def test_clusters_by_loss_train_what_they_measure(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    plan = ("experts=per_cluster", "experts.by=loss", "merge=none", "evaluation=none", "trainer.max_steps=3")
    train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path, *plan)))
    assert {path.name for path in (tmp_path / "measure" / "models").iterdir()} == {"joint", "facts", "phrases"}
    assert {path.name for path in (tmp_path / "models").iterdir()} == {"base", "cluster_1", "cluster_2"}


def test_more_snapshots_than_steps(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"experts.snapshots=7: the training of joint has only 6 steps"):
        train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path, "experts=joint", "experts.snapshots=7")))


QUIET = ("experts=joint", "merge=none", "evaluation=none")


@pytest.mark.slow
def test_a_cached_step_ends_where_the_plain_one_does(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    """With dropout, a loss of the middle layer, and chunks of a few texts."""
    more = (*QUIET, "loss@sts_loss=codiemb", "encoder.max_tokens=48", "encoder.dtype=float32")
    for step in ("plain", "cached", "partial"):
        given = (*more, f"step={step}", "step_memory=0.0001")
        train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path / step, *given)))
    plain = _weights(tmp_path / "plain" / "models" / "joint")
    assert not torch.equal(plain, _weights(tmp_path / "plain" / "models" / "base"))
    for step in ("cached", "partial"):
        torch.testing.assert_close(_weights(tmp_path / step / "models" / "joint"), plain, rtol=1e-3, atol=1e-5)


def test_mined_negatives_are_trained_on(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    mining = ("mining=hard", "mining.datasets=[facts]", "mining.num_negatives=3", "mining.relative_margin=null")
    given = (*QUIET, *mining, "data.datasets.facts.num_negatives=9", "+callback.seen._target_=tests.run.test_fit.Seen")
    train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path, *given)))
    rows = [json.loads(line) for line in (tmp_path / "mined" / "facts.jsonl").read_text().splitlines()]
    assert len(rows) == 48
    assert all(len(row["negatives"]) > 2 for row in rows), "two were given"
    assert max(Seen.negatives) > 2


def test_mining_serves_a_loss_that_needs_negatives(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.jsonl"
    rows = [json.loads(line) for line in (toy / "pairs" / "train.jsonl").read_text().splitlines()]
    bare.write_text("".join(json.dumps({**row, "negatives": []}) + "\n" for row in rows))
    own = (f"data.datasets.facts.path={bare}", "retrieval_loss.in_batch=false", "data.datasets.facts.dev_share=0")
    mining = ("mining=hard", "mining.datasets=[facts]", "mining.relative_margin=null")
    train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path / "run", *QUIET, *own, *mining)))
    assert (tmp_path / "run" / "models" / "joint").exists()


class Seen(Callback):
    """Counts the negatives of each retrieval batch."""

    negatives: ClassVar[list[int]] = []

    def on_train_batch_start(
        self, trainer: object, pl_module: object, batch: tuple[Batch, ...], batch_idx: int
    ) -> None:
        self.negatives += [part.negatives.shape[1] for part in batch if part.task is Task.retrieval]


@pytest.mark.slow
def test_lora_is_folded(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    given = (*QUIET, "encoder.lora_rank=2", "experts.ema=0.5", "experts.snapshots=2", "checkpoint_minutes=0")
    train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path, *given)))
    models = {path.name: load_file(path / "model.safetensors") for path in (tmp_path / "models").iterdir()}
    assert set(models) == {"base", "joint", "joint-snapshot_1", "joint-ema"}
    for name, weights in models.items():
        assert weights.keys() == models["base"].keys()
        changed = {key for key in weights if not torch.equal(weights[key], models["base"][key])}
        assert all(key.endswith("weight") and "embeddings" not in key for key in changed)
        assert bool(changed) == (name != "base")


ADAPTERS = {
    "DoRA, bfloat16": ("encoder.weights=bfloat16", "encoder.peft={_target_: peft.LoraConfig, r: 2, use_dora: true, target_modules: all-linear, modules_to_save: [key]}"),
    "LoHa, nf4": ("encoder.weights=nf4", "encoder.peft={_target_: peft.LoHaConfig, r: 2, target_modules: [query]}"),
    "LoRA, int8": ("encoder.weights=int8", "encoder.lora_rank=2"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("given", ADAPTERS.values(), ids=list(ADAPTERS))
def test_adapters_stop_and_go_on(
    tiny_model: Path, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...]
) -> None:
    """A training of adapters that is resumed ends with the undisturbed weights, in float32, under the base's names."""
    step = EmbeddingModule.training_step

    def signalled(self: EmbeddingModule, batches: tuple[Batch, ...]) -> dict[str, torch.Tensor]:
        if self.trainer.global_step == 2:
            monkeypatch.setattr(signals, "_received", signal.SIGTERM)
        return step(self, batches)

    train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path / "whole", *QUIET, *given)))
    cfg = _cfg("train", _overrides(tiny_model, toy, tmp_path / "stopped", *QUIET, *given))
    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingModule, "training_step", signalled)
        with pytest.raises(signals.Stopped, match="stopped by SIGTERM"):
            train.train(cfg)
    monkeypatch.setattr(signals, "_received", None)
    assert (tmp_path / "stopped" / "checkpoints" / "joint" / "last.ckpt").exists()
    train.train(cfg)
    base, whole, stopped = (
        load_file(tmp_path / model / "model.safetensors")
        for model in ("whole/models/base", "whole/models/joint", "stopped/models/joint")
    )
    assert {name: tensor.shape for name, tensor in whole.items()} == {n: t.shape for n, t in base.items()}
    assert {tensor.dtype for tensor in whole.values()} == {torch.float32}
    assert all(torch.equal(tensor, stopped[name]) for name, tensor in whole.items())
    assert any(not torch.equal(tensor, base[name]) for name, tensor in whole.items())
    card = (tmp_path / "whole" / "models" / "joint" / "README.md").read_text()
    assert "folded into the weights" in card
    assert "saved as float32" in card


def test_a_wrapped_loss_on_the_command_line(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    wrapped = (
        "loss@retrieval_loss=matryoshka", "retrieval_loss.dims=[32,16]", "loss@sts_loss=matryoshka", "sts_loss.dims=[32,8]",
        "loss@sts_loss.loss=codiemb", "sts_loss.loss.pro_weight=0",
    )  # fmt: skip
    train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path, *QUIET, *wrapped)))
    assert (tmp_path / "models" / "joint").exists()


class Stops(Callback):
    """Ends a training without a word, as a callback of a user may."""

    def on_train_batch_end(self, trainer: Any, *given: object) -> None:
        trainer.should_stop = trainer.global_step >= 2


EARLY = {
    "a callback": ("+callback.stops._target_=tests.run.test_fit.Stops",),
    "fast_dev_run": ("+trainer.fast_dev_run=true",),
    "limit_train_batches": ("+trainer.limit_train_batches=2", "trainer.max_steps=-1", "trainer.max_epochs=1"),
    "max_time": ("+trainer.max_time='00:00:00:00'",),
    "EarlyStopping": (
        "+callback.s._target_=lightning.pytorch.callbacks.EarlyStopping",
        "+callback.s.monitor=dev/loss/facts",
        "+callback.s.stopping_threshold=100.0",
    ),
}


@pytest.mark.parametrize("how", EARLY)
def test_a_training_that_ended_early_is_not_exported(tiny_model: Path, toy: Path, tmp_path: Path, how: str) -> None:
    """The command line refuses most of these before (config/trainer_options.py); this is the last door."""
    with pytest.raises(TrainingError, match=r"^joint ended after \d+ of \d+ steps, so it is not exported"):
        train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path, *QUIET, *EARLY[how])))
    assert {path.name for path in (tmp_path / "models").iterdir()} == {"base"}


DIVERGES = {
    "lr=1e30, not clipped": ("optimizer.lr=1e30", "max_grad_norm=null"),
    "lr=1e30, one step": ("optimizer.lr=1e30", "max_grad_norm=null", "trainer.max_steps=1"),
    "lr=1e6, clipped": ("optimizer.lr=1e6",),
    "cached": ("optimizer.lr=1e30", "step=cached"),
    "partial, mixed": ("optimizer.lr=1e30", "step=partial", "sampler=mixed"),
    "accumulate": ("optimizer.lr=1e30", "sampler.accumulate=2"),
    "average and snapshots": ("optimizer.lr=1e30", "experts.ema=0.5", "experts.snapshots=6", "checkpoint_minutes=0"),
    "measured": ("optimizer.lr=1e30", "callback=evaluate", "callback.while_training.every_n_steps=1"),
    "weight decay": ("optimizer.weight_decay=1e30", "optimizer.lr=1e8"),
    "bfloat16": ("optimizer.lr=1e30", "encoder.dtype=bfloat16"),
    "LoRA": ("optimizer.lr=1e30", "encoder.lora_rank=2"),
    "SGD": (
        "optimizer._target_=torch.optim.SGD",
        "~optimizer.betas",
        "~optimizer.eps",
        "optimizer.lr=1e30",
        "max_grad_norm=null",
    ),
}


FAST = ("lr=1e30, not clipped", "lr=1e30, one step", "average and snapshots")


@pytest.mark.parametrize("how", [pytest.param(how, marks=[pytest.mark.slow] * (how not in FAST)) for how in DIVERGES])
def test_a_training_that_diverges_is_not_exported(tiny_model: Path, toy: Path, tmp_path: Path, how: str) -> None:
    for _ in range(2 if how == "average and snapshots" else 1):  # the same command gives the same answer
        with pytest.raises(TrainingError, match=r"The training diverged:? a(t|fter) step \d.*No model is exported"):
            train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path, *QUIET, *DIVERGES[how])))
    assert "joint" not in {path.name for path in (tmp_path / "models").iterdir()}
    for model in (tmp_path / "models").iterdir():
        assert _weights(model).isfinite().all()


@pytest.mark.parametrize(
    "which", ["joint", *(pytest.param(each, marks=pytest.mark.slow) for each in ("joint-ema", "joint-snapshot_1"))]
)
def test_a_model_of_an_earlier_version_that_diverged_is_refused(
    tiny_model: Path, toy: Path, tmp_path: Path, which: str
) -> None:
    command = _overrides(tiny_model, toy, tmp_path, *QUIET, "experts.ema=0.5", "experts.snapshots=2")
    train.train(_cfg("train", command))
    train.train(_cfg("train", command))
    file = tmp_path / "models" / which / "model.safetensors"
    weights = load_file(file)
    weights["embeddings.LayerNorm.bias"][3] = float("nan")
    save_file(weights, file, {"format": "pt"})
    for record in tmp_path.glob("checkpoints/*/model.json"):  # which earlier versions did not write
        record.unlink()
    with pytest.raises(
        TrainingError, match=rf"models/{which} has NaN or infinity in embeddings.LayerNorm.bias.*Delete"
    ):
        train.train(_cfg("train", command))


def test_an_interval_longer_than_an_epoch(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    given = ("trainer.check_val_every_n_epoch=1", "trainer.val_check_interval=300")
    with pytest.raises(ConfigError, match=r"trainer.val_check_interval=300: an epoch of joint has only \d+ steps"):
        train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path, *QUIET, *given)))
