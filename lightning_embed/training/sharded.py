"""`trainer.strategy=fsdp`: weights, gradients and the optimiser's state divided among the ranks (FSDP2)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, Strategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from lightning_embed.encoder import Encoder
from lightning_embed.errors import CheckpointError
from lightning_embed.runtime import distributed, shards
from lightning_embed.storage import sharded_checkpoint
from lightning_embed.storage.publish import published_folder

_REMEDY = "Delete it: the training starts again from its beginning."


class Sharded(DDPStrategy):
    """Trains an `EmbeddingModule` whose encoder is divided among all ranks, each with rows of its own, as under DDP.

    Zhao et al. 2023, arXiv 2304.11277, by torch's `fully_shard`. Every layer of the backbone is a unit that is gathered
    when it runs; embeddings and final norms are one, and the head is one. Processes and their group are those of
    Lightning's DDPStrategy. Gradients are averaged with every chunk, because those of the whole model are what no rank
    has room for. All ranks run the same number of chunks (`Encoder.agree`).

    A checkpoint is a folder (storage/sharded_checkpoint.py); any number of ranks goes on from it.
    """

    def setup(self, trainer: Any) -> None:
        """Divide the encoder, then build the optimiser of its shards."""
        module: Any = self.lightning_module
        assert self.accelerator is not None
        self.accelerator.setup(trainer)
        self.precision_plugin.convert_module(module)
        if not any(map(shards.is_shard, module.encoder.parameters())):
            self._divide(module.encoder)
        module.to(self.root_device)  # buffers
        if trainer.state.fn == TrainerFn.FITTING:
            for number in module.learned.parameters():  # on every rank whole: fully_shard does not see them
                number.register_post_accumulate_grad_hook(_average_gradient)
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()

    def _divide(self, encoder: Encoder) -> None:
        """Layer by layer, so that a device never holds it whole."""
        self._template = _without_weights(encoder) if self.is_global_zero else None
        self._mesh = shards.mesh_of(self.root_device)
        for unit in (*_layers(encoder.backbone), encoder.backbone, encoder.head):
            if any(True for _ in unit.parameters()):
                shards.divide(unit, self._mesh)
        encoder.agree = _largest

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """Tensors are read into shards."""
        return True

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Publish a folder, in which every rank writes its shards, and rank zero all else."""
        rest, divided = sharded_checkpoint.split(checkpoint)
        with published_folder(Path(filepath)) if self.is_global_zero else nullcontext() as own:
            folder: Path = self.broadcast(own)  # type: ignore[assignment]
            sharded_checkpoint.write(folder, divided)
            if self.is_global_zero:
                self.checkpoint_io.save_checkpoint(rest, folder / sharded_checkpoint.STATE, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a folder that `save_checkpoint` wrote.

        Raises:
            CheckpointError: it is not whole, or a file: the checkpoint of a different strategy.
        """
        del weights_only
        path = Path(checkpoint_path)
        if path.is_file():
            raise CheckpointError(
                f"{path} is the checkpoint of a training that was not sharded: expected a folder. Go on without "
                "trainer.strategy=fsdp, or delete it: the training starts again from its beginning."
            )
        return sharded_checkpoint.read(path, self._mesh, _REMEDY)

    def teardown(self) -> None:
        """Leave the shards on their devices, from which `gathered` takes them."""
        assert self.cluster_environment is not None
        assert self.accelerator is not None
        for part in (self.cluster_environment, self.precision_plugin, self.accelerator, self.checkpoint_io):
            part.teardown()

    def gathered(self, encoder: Encoder, weights: Mapping[str, Tensor]) -> Encoder | None:
        """A whole encoder on the CPU of rank zero, filled tensor by tensor; None on other ranks. All ranks call it.

        Args:
            encoder: of the training.
            weights: parameters to take in place of the encoder's, by name.
        """
        places = [] if self._template is None else list(self._template.parameters())
        for number, (name, parameter) in enumerate(encoder.named_parameters()):
            # a copy: what is gathered may be a part of a larger storage, or the shard itself
            tensor = shards.whole(weights.get(name, parameter).detach()).to("cpu", copy=True)
            if places:
                places[number].data = tensor
        return self._template


def export(strategy: Strategy, encoder: Encoder, target: Path, weights: Mapping[str, Tensor]) -> None:
    """Publish the encoder of a training, see `EmbeddingModule.export`."""
    if isinstance(strategy, Sharded):
        if distributed.of_first(float(target.exists())):
            return
        if (whole := strategy.gathered(encoder, weights)) is not None:
            whole.export(target)
            for parameter in whole.parameters():
                parameter.data = torch.empty(0, dtype=parameter.dtype)
    elif distributed.rank() == 0:
        with _replaced(encoder, weights):
            encoder.export(target)


@contextmanager
def _replaced(encoder: Encoder, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Parameters of an encoder replaced by others, without a copy."""
    own = dict(encoder.named_parameters())
    before = {name: own[name].data for name in weights}
    try:
        for name, weight in weights.items():
            own[name].data = weight
        yield
    finally:
        for name, weight in before.items():
            own[name].data = weight


def _without_weights(encoder: Encoder) -> Encoder:
    """A copy whose parameters are empty; of tied ones, one stands for all, as in the encoder."""
    memo: dict[int, Any] = {
        id(p): nn.Parameter(torch.empty(0, dtype=p.dtype), requires_grad=p.requires_grad) for p in encoder.parameters()
    }
    return deepcopy(encoder, memo)


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """The layers of a backbone: the entries of its outermost lists of modules."""
    for child in module.children():
        yield from child if isinstance(child, nn.ModuleList) else _layers(child)


def _average_gradient(parameter: Tensor) -> None:
    """Average what was accumulated; again after each backward pass, as what is averaged already stays as it is."""
    assert parameter.grad is not None
    distributed.average_(parameter.grad)


def _largest(value: int) -> int:
    return distributed.largest([value])[0]
