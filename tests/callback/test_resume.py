"""Checkpoints: whole, plain, of this training, or refused with the file and the remedy in one sentence."""

import os
import pickle
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from lightning_embed.callback import ExponentialAverage
from lightning_embed.callback.resume import AtomicCheckpointIO, Owner, ResumeCheckpoint, read, resumable
from lightning_embed.errors import CheckpointError

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.001, "momentum": 0.9}, "Adam": {"amsgrad": True}, "AdamW": {"fused": True}, "Adagrad": {},
    "RMSprop": {"momentum": 0.1}, "Adadelta": {}, "Adamax": {}, "NAdam": {}, "RAdam": {}, "Rprop": {}, "ASGD": {},
    "Adafactor": {},
}  # fmt: skip


class Toy(LightningModule):
    def __init__(self, width: int = 4, optimizer: str = "AdamW", bias: bool = True) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 2, bias)
        self.optimizer = optimizer

    @property
    def encoder(self) -> LightningModule:
        """What is averaged."""
        return self

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = self.layer(batch).square().sum()
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = getattr(torch.optim, self.optimizer)(self.parameters(), **OPTIMIZERS[self.optimizer])
        return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))]


def _fit(folder: Path, module: Toy, mark: str = "mine", *extra: Any, steps: int = 3, **options: Any) -> Trainer:
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        plugins=[AtomicCheckpointIO()],
        callbacks=[*extra, Owner(mark), ResumeCheckpoint(folder, 0.0)],
    )
    batches = DataLoader([torch.arange(4.0)] * 10)  # type: ignore[arg-type]
    trainer.fit(module, batches, **options)
    return trainer


pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("whole")
    _fit(folder, Toy())
    return (folder / "last.ckpt").read_bytes()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_is_saved_is_plain_and_goes_on_bit_for_bit(optimizer: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    undisturbed = Toy(optimizer=optimizer)
    start = {name: tensor.clone() for name, tensor in undisturbed.state_dict().items()}
    _fit(tmp_path / "whole", undisturbed, "mine", ExponentialAverage(0.5, tmp_path), steps=6)
    halves = Toy(optimizer=optimizer)
    halves.load_state_dict(start)
    _fit(tmp_path / "halves", halves, "mine", ExponentialAverage(0.5, tmp_path), steps=3)
    rest, file = Toy(optimizer=optimizer), tmp_path / "halves" / "last.ckpt"
    path = resumable(file, rest, "mine")
    assert path == str(file)
    _fit(tmp_path / "halves", rest, "mine", ExponentialAverage(0.5, tmp_path), steps=6, ckpt_path=path)
    for name, tensor in undisturbed.state_dict().items():
        assert torch.equal(tensor, rest.state_dict()[name]), name


class Command:
    """Runs a command where it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.witness}",)


def _planted(whole: bytes, folder: Path, pack: Callable[[Any, Path], None]) -> None:
    (folder / "last.ckpt").write_bytes(whole)
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    pack({**checkpoint, "callbacks": {"x": Command(folder / "ran")}}, folder / "last.ckpt")


def _pickled(value: Any, file: Path) -> None:
    file.write_bytes(pickle.dumps(value))


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "one byte": lambda whole: whole[:1],
    "cut in the head": lambda whole: whole[:100],
    "cut in the middle": lambda whole: whole[: len(whole) // 2],
    "cut by a byte": lambda whole: whole[:-1],
    "zeros, as after a power cut": lambda whole: bytes(len(whole)),
    "text": lambda whole: b"not a checkpoint",
    "an html page": lambda whole: b"<!doctype html>" * 100,
    "a pickled number": lambda whole: pickle.dumps(3),
    "a pickled list": lambda whole: pickle.dumps([1, 2]),
    "a zip of nothing": lambda whole: b"PK\x05\x06" + bytes(18),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_named_with_its_remedy(kind: str, whole: bytes, tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    file.write_bytes(BROKEN[kind](whole))
    with pytest.raises(
        CheckpointError, match=r"last\.ckpt .*\. Delete it: the training starts again from its"
    ) as refused:
        resumable(file, Toy(), "mine")
    assert "\n" not in str(refused.value)


FOREIGN: dict[str, Any] = {
    "a tensor": torch.ones(3), "a list": [1], "an empty dict": {}, "weights alone": {"layer.weight": torch.ones(2, 4)},
    "no loops": {"state_dict": {}, "callbacks": {}}, "a number": 7, "a text": "last",
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_is_named(kind: str, tmp_path: Path) -> None:
    torch.save(FOREIGN[kind], tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"last\.ckpt is not a checkpoint of a training.* Delete it"):
        resumable(tmp_path / "last.ckpt", Toy(), "mine")


@pytest.mark.parametrize(
    ("module", "mark", "reason"),
    [
        (Toy(), "another", "is the checkpoint of another run, expert or version"),
        (Toy(width=5), "mine", r"belongs to another model: expected \[2, 5\] for layer.weight, found \[2, 4\]"),
        (Toy(bias=False), "mine", r"belongs to another model: expected nothing for layer.bias, found \[2\]"),
    ],
)  # fmt: skip
def test_a_checkpoint_of_another_training(module: Any, mark: str, reason: str, whole: bytes, tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(whole)
    with pytest.raises(CheckpointError, match=rf"last\.ckpt {reason}.* Delete it"):
        resumable(tmp_path / "last.ckpt", module, mark)


def test_a_folder_and_a_file_that_may_not_be_read(whole: bytes, tmp_path: Path) -> None:
    assert resumable(tmp_path / "none.ckpt", Toy(), "mine") is None
    (tmp_path / "last.ckpt").mkdir()
    with pytest.raises(
        CheckpointError, match=r"last\.ckpt is not a whole checkpoint: expected state\.ckpt in it\. Delete"
    ):
        resumable(tmp_path / "last.ckpt", Toy(), "mine")


def test_a_changed_byte_of_a_tensor_is_found(whole: bytes, tmp_path: Path) -> None:
    weights = Toy().state_dict()
    torch.save({**{key: {} for key in _keys()}, "state_dict": weights}, tmp_path / "a.ckpt")
    content = bytearray((tmp_path / "a.ckpt").read_bytes())
    content[content.index(weights["layer.weight"].numpy().tobytes())] ^= 1
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.ckpt has changed since it was written, in a/data/"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")


def _keys() -> Iterator[str]:
    yield from ("state_dict", "loops", "optimizer_states", "lr_schedulers", "callbacks", "global_step")


@pytest.mark.parametrize("pack", [torch.save, _pickled], ids=["torch", "pickle"])
def test_a_planted_command_does_not_run(pack: Callable[[Any, Path], None], whole: bytes, tmp_path: Path) -> None:
    _planted(whole, tmp_path, pack)
    for opened in (lambda file: resumable(file, Toy(), "mine"), AtomicCheckpointIO().load_checkpoint):
        with pytest.raises(
            CheckpointError,
            match=r"last\.ckpt (has more than tensors, numbers and texts, .*posix\.system|is not a whole checkpoint)",
        ):
            opened(tmp_path / "last.ckpt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("state", [Command(Path("ran")), subprocess.PIPE.__class__, nn.Linear(1, 1), Path("a")])
def test_what_could_not_be_read_again_is_not_saved(state: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected tensors, numbers and texts in the state of every callback"):
        AtomicCheckpointIO().save_checkpoint({"callbacks": {"x": state}}, tmp_path / "last.ckpt")
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_replaces_the_one_before_and_has_the_mode_of_the_umask(whole: bytes, tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        for step in (1, 2):
            AtomicCheckpointIO().save_checkpoint({**{key: {} for key in _keys()}, "global_step": step}, tmp_path / "a")
    finally:
        os.umask(old)
    assert read(tmp_path / "a")["global_step"] == 2
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
