"""A training that diverges stops at its first bad step, with one sentence, before anything is saved or measured."""

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback

from lightning_embed import DatasetOptions, EmbeddingDataModule, EmbeddingModule, load_datasets
from lightning_embed.callback import AtomicCheckpointIO, EmbeddingGeometry, ResumeCheckpoint, Snapshots, WhileTraining
from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.encoder.options import Dtype
from lightning_embed.errors import TrainingError
from lightning_embed.evaluation import Local
from lightning_embed.loss.cosent import CoSENT
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.sampler import Sampler
from lightning_embed.sampler.mixed import Mixed
from lightning_embed.sampler.round_robin import RoundRobin
from lightning_embed.training import divergence
from lightning_embed.training.divergence import READ_EVERY, DivergenceGuard, Measured
from lightning_embed.types import Batch, LossOutput, StepMode, Task
from tests.callback.toy import TASKS
from tests.toy import write_toy

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns of few workers and of itself
BAD = [math.nan, math.inf, -math.inf]


def measured(step: int, *losses: float, norm: float | None = 1.0, device: str = "cpu") -> Measured:
    values = {f"d{number}": torch.tensor(loss, device=device) for number, loss in enumerate(losses)}
    return Measured(step, values, None if norm is None else torch.tensor(norm, device=device), 1e-3)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("where", ["loss", "second loss", "norm"])
def test_the_guard_names_the_step(bad: float, where: str) -> None:
    guard = DivergenceGuard()
    guard.note(measured(1, 0.5, 1e30))
    numbers = {"loss": ([bad, 1.0], 1.0), "second loss": ([1.0, bad], 1.0), "norm": ([1.0, 2.0], bad)}[where]
    with pytest.raises(TrainingError) as error:
        guard.note(measured(2, *numbers[0], norm=numbers[1]))
    for part in (
        "at step 2 (d0, d1; learning rate 0.001)",
        f"{bad:.4g}",
        "optimizer.lr",
        "max_grad_norm",
        "temperature",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("bad", BAD)
def test_the_first_bad_step_is_named_however_late_it_is_read(bad: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(divergence, "_waits", lambda measured: True)
    guard = DivergenceGuard()
    for step in range(1, READ_EVERY):
        guard.note(measured(step, 1.0 if step < 7 else bad, norm=1.0 if step < 9 else math.nan))
    with pytest.raises(TrainingError, match=r"at step 7 \(d0;.*gradient norm 1\."):
        guard.note(measured(READ_EVERY, 1.0))


def test_a_device_is_not_read_between_two_reads() -> None:
    """Reading a meta tensor is an error."""
    guard = DivergenceGuard()
    for step in range(1, READ_EVERY):
        guard.note(measured(step, 1.0, 2.0, device="meta"))
        guard.note(measured(step, 1.0, norm=None, device="meta"))
    with pytest.raises(NotImplementedError):
        guard.note(measured(READ_EVERY, 1.0, device="meta"))


@pytest.mark.parametrize("bad", BAD)
def test_a_dev_loss(bad: float) -> None:
    guard = DivergenceGuard()
    guard.note(measured(30, 1.0, norm=None))
    guard.note(measured(30, bad, norm=None))
    with pytest.raises(TrainingError, match=r"The dev loss of d0 is -?(nan|inf) after step 30"):
        guard.check()
    guard.check()


def test_numbers_of_several_dtypes() -> None:
    """A norm above the largest float16 is finite."""
    guard = DivergenceGuard()
    guard.note(Measured(1, {"d": torch.tensor(1.0, dtype=torch.float16)}, torch.tensor(1e6)))


Spoil = Callable[[EmbeddingModule], object]


def weight(module: EmbeddingModule) -> None:
    module.encoder.backbone.encoder.layer[1].output.dense.weight.data[0, 0] = math.nan


def loss_value(module: EmbeddingModule) -> None:
    """The loss is not finite, its gradient is."""
    inner = module.compute_loss

    def spoiled(*given: Any) -> LossOutput:
        output = inner(*given)
        return replace(output, value=output.value + math.nan)

    module.compute_loss = spoiled  # type: ignore[method-assign]


def gradient(module: EmbeddingModule) -> None:
    """The gradient is not finite, the loss is."""
    module.encoder.backbone.embeddings.word_embeddings.weight.register_hook(lambda grad: grad * math.inf)


def too_far(module: EmbeddingModule) -> None:
    """Loss and gradient of the step are finite; the weights after it are not."""
    for group in module.optimizers().param_groups:
        group["lr"] = 1e38
        group["weight_decay"] = 1e38


def so_large(module: EmbeddingModule) -> None:
    """The weights after the step are finite; their embeddings are not."""
    for group in module.optimizers().param_groups:
        group["lr"] = 1e37


class At(Callback):
    """Spoils the module before a step; notes the datasets of the steps."""

    def __init__(self, step: int, spoil: Spoil) -> None:
        self.step, self.spoil, self.names = step, spoil, []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: tuple[Batch, ...], batch_idx: int) -> None:
        self.names.append(", ".join(part.dataset for part in batch))
        if trainer.global_step + 1 == self.step:
            self.spoil(pl_module)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"))


Fit = Callable[..., EmbeddingModule]


@pytest.fixture
def fit(tiny_model: Path, toy: Path, tmp_path: Path) -> Fit:
    """Four steps, validation after the second and the last."""
    options = {
        name: DatasetOptions(task, str(toy / name), batch_size=8, num_negatives=2) for name, task in TASKS.items()
    }
    data = load_datasets(options, cache=toy / "cache")

    def run(
        *callbacks: Callback,
        step: StepMode = StepMode.plain,
        sampler: Sampler | None = None,
        ckpt: Path | None = None,
        **more: Any,
    ) -> EmbeddingModule:
        encoder = Encoder(EncoderOptions(str(tiny_model), dtype=Dtype.float32, max_tokens=64))
        losses = {Task.retrieval: InfoNCE(temperature=0.1), Task.sts: CoSENT()}
        module = EmbeddingModule(encoder, losses, partial(torch.optim.SGD, lr=0.1), step=step, step_memory=60_000)
        Trainer(
            accelerator="cpu", devices=1, max_steps=4, max_epochs=-1, logger=False, callbacks=list(callbacks),
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
            num_sanity_val_steps=0, val_check_interval=2, check_val_every_n_epoch=None, plugins=[AtomicCheckpointIO()], **more,
        ).fit(module, EmbeddingDataModule(data, encoder, sampler or RoundRobin()), ckpt_path=ckpt)  # fmt: skip
        return module

    return run


@pytest.mark.parametrize("step", list(StepMode))
@pytest.mark.parametrize(
    "sampler",
    [
        RoundRobin(),
        pytest.param(RoundRobin(accumulate=2), marks=pytest.mark.slow),
        pytest.param(Mixed(), marks=pytest.mark.slow),
    ],
    ids=["single", "accumulate", "mixed"],
)
@pytest.mark.parametrize("spoil", [weight, loss_value, gradient])
def test_every_kind_of_step(fit: Fit, step: StepMode, sampler: Sampler, spoil: Spoil) -> None:
    at = At(3, spoil)
    with pytest.raises(TrainingError) as error:
        fit(at, step=step, sampler=sampler)
    assert f"at step 3 ({', '.join(dict.fromkeys(at.names[-1].split(', ')))}; learning rate 0.1)" in str(error.value)
    assert len(at.names) == 3


@pytest.mark.parametrize("spoil", [too_far, so_large])
@pytest.mark.parametrize("at", [2, 3, 4])
def test_weights_that_overflow(fit: Fit, spoil: Spoil, at: int) -> None:
    """Found by the validation after step 2, by the loss of step 4, at the end of the training."""
    where = {2: "after step 2", 3: "at step 4", 4: "after step 4"}[at]
    with pytest.raises(TrainingError, match=f"The training diverged:? {where}"):
        fit(At(at, spoil))


@pytest.mark.parametrize("at", [1, 2, 3, 4])
@pytest.mark.parametrize("spoil", [weight, too_far, so_large])
def test_no_checkpoint_and_no_snapshot_ever_holds_them(fit: Fit, tmp_path: Path, at: int, spoil: Spoil) -> None:
    snapshots = Snapshots({step: tmp_path / str(step) for step in range(1, 5)})
    with pytest.raises(TrainingError):
        fit(At(at, spoil), snapshots, ResumeCheckpoint(tmp_path, 0.0))
    saved = {path.name for path in tmp_path.iterdir()} - {"last.ckpt"}
    assert saved == {str(step) for step in range(1, at)}, "the last good step is kept"
    if at > 1:
        checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=False)
        assert checkpoint["global_step"] == at - 1
        assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())


@pytest.mark.parametrize(
    "callback", [WhileTraining(Local(), every_n_steps=3), EmbeddingGeometry(3)], ids=["scores", "geometry"]
)
def test_nothing_is_measured_of_them(fit: Fit, callback: Callback) -> None:
    with pytest.raises(TrainingError, match=r"diverged: after step 3|at step 4"):
        fit(At(3, so_large), callback)


def test_a_checkpoint_of_an_earlier_version_is_refused(fit: Fit, tmp_path: Path) -> None:
    fit(ResumeCheckpoint(tmp_path, 0.0), limit_val_batches=0)
    file = tmp_path / "last.ckpt"
    checkpoint = torch.load(file, weights_only=False)
    next(iter(checkpoint["state_dict"].values()))[0] = math.nan
    torch.save({**checkpoint, "global_step": 2}, file)
    with pytest.raises(TrainingError, match=r"The checkpoint .*last.ckpt has NaN or infinity in .*weight.* Delete it"):
        fit(ckpt=file)


def test_a_dev_loss_stops_the_training(fit: Fit) -> None:
    with pytest.raises(TrainingError, match=r"The dev loss of pairs is nan after step 2"):
        fit(AtValidation())


class AtValidation(Callback):
    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        loss_value(pl_module)


@pytest.fixture(scope="module")
def two_ranks(tiny_model: Path, toy: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """Case -> step and error of each of two gloo processes, of which the second alone found NaN."""
    out = tmp_path_factory.mktemp("two")
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    command = [*launch, "-m", "tests.training.two_diverge", *map(str, (tiny_model, toy, out))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(out / f"errors-{rank}.pt") for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "step"), [("step", 19), ("checkpoint", 3), ("validation", 4), ("scores", 5)]
)  # READ_EVERY - 1: the step that reads is not taken; at the first save, validation or evaluation
def test_two_ranks_stop_together(two_ranks: list[dict[str, str]], case: str, step: int) -> None:
    one, two = (errors[case] for errors in two_ranks)
    assert one == two
    assert one.startswith(f"{step} TrainingError: The training diverged at step 3 (pairs; learning rate 0.1)")
    assert "loss nan and gradient norm" in one


@pytest.mark.slow
def test_two_ranks_stop_when_one_cannot_embed_its_texts(two_ranks: list[dict[str, str]]) -> None:
    one, two = (errors["text"] for errors in two_ranks)
    assert one[:2] == two[:2] == "5 "
    assert "5 CheckpointError: The evaluation stopped, because the texts of a different rank were refused" in one
    assert two.endswith("texts of rank 1")


@pytest.mark.slow
def test_two_ranks_stop_when_the_weights_of_one_are_bad(two_ranks: list[dict[str, str]]) -> None:
    one, two = (errors["weight"] for errors in two_ranks)
    assert one.startswith("4 TrainingError: The training diverged: after step 4 a different rank found NaN")
    assert two.startswith("4 TrainingError: The training diverged: after step 4 embeddings.weight has NaN")
