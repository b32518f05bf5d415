"""`optimizer=muon`: torch's Muon on matrices and AdamW on all else, as one optimiser."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_embed import EmbeddingModule, load
from lightning_embed.callback import AtomicCheckpointIO
from lightning_embed.encoder.parameter_groups import ParameterGroups
from lightning_embed.training import hyperparameters
from lightning_embed.training.lr_schedule import wsd
from lightning_embed.training.muon import Muon
from tests.training.lightning import LOSSES, equal, made, trainer, weights

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's, of a trainer without many workers
MUON = partial(Muon, lr=1e-2, adamw_lr=1e-3, weight_decay=0.1)


def _parameters() -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape)) for shape in ((4, 3), (3,), (3, 5))]


def _step(optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


def test_both_steps_are_those_of_torch() -> None:
    ours, theirs = _parameters(), _parameters()
    muon = Muon(ours, lr=0.1, adamw_lr=0.01, weight_decay=0.1)
    matrices, others = [theirs[0], theirs[2]], [theirs[1]]
    references = (
        torch.optim.Muon(matrices, lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=0.01, weight_decay=0.1),
    )
    for seed in range(5):
        _step(muon, ours, seed)
        for reference, of in zip(references, (matrices, others), strict=True):
            generator = torch.Generator().manual_seed(seed)
            gradients = {id(p): torch.randn(p.shape, generator=generator) for p in theirs}
            for parameter in of:
                parameter.grad = gradients[id(parameter)]
            reference.step()
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_a_step_is_nearly_orthogonal() -> None:
    """Singular values of the step, in float64: near one whatever those of the gradient, times rate and scale."""
    weight = torch.nn.Parameter(torch.zeros(6, 4))
    optimizer = Muon([weight], lr=0.5, adjust_lr_fn="original")
    weight.grad = torch.diag(torch.tensor([1.0, 0.5, 0.2, 0.1])).repeat(2, 1)[:6]
    optimizer.step()
    values = torch.linalg.svdvals(weight.detach().double()) / (0.5 * (6 / 4) ** 0.5)
    assert float(values.min()) > 0.5
    assert float(values.max()) < 1.5


def test_what_is_saved_goes_on_bit_for_bit() -> None:
    undisturbed, halves, rest = _parameters(), _parameters(), _parameters()
    one, two, three = (Muon(of, lr=0.1) for of in (undisturbed, halves, rest))
    for seed in range(6):
        _step(one, undisturbed, seed)
    for seed in range(3):
        _step(two, halves, seed)
    for mine, saved in zip(rest, halves, strict=True):
        mine.data = saved.data.clone()
    three.load_state_dict(two.state_dict())
    for seed in range(3, 6):
        _step(three, rest, seed)
    assert all(torch.equal(one, other) for one, other in zip(undisturbed, rest, strict=True))


def _trained(model: Path, data: Path, folder: Path, **options: Any) -> tuple[EmbeddingModule, Path]:
    kept = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=3, save_top_k=-1)
    module, rows = made(model, data)
    module = EmbeddingModule(
        module.encoder, LOSSES, MUON, partial(wsd, warmup_share=0.2, decay_share=0.5, shape="sqrt"),
        parameter_groups=ParameterGroups(no_decay=True, layer_decay=0.8),
    )  # fmt: skip
    given = {
        "enable_checkpointing": True,
        "callbacks": [kept],
        "limit_val_batches": 0,
        "plugins": [AtomicCheckpointIO()],
    }
    trainer(folder, **given).fit(module, rows, **options)
    return module, folder / "step=3.ckpt"


def test_a_training_resumes_bit_for_bit(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    """With groups, and the schedule of warm-up, stable, decay; a matrix of a layer trains by Muon, a table by AdamW."""
    module, checkpoint = _trained(tiny_model, rows, tmp_path / "one")
    again, _ = _trained(tiny_model, rows, tmp_path / "two", ckpt_path=checkpoint)
    assert equal(weights(module), weights(again))
    optimizer = module.optimizers().optimizer  # type: ignore[union-attr]
    names = {id(p): name for name, p in module.named_parameters()}
    by_kind = {kind: {names[id(p)] for g in optimizer.param_groups if g["is_matrix"] is kind for p in g["params"]}
               for kind in (True, False)}  # fmt: skip
    assert "encoder.backbone.encoder.layer.0.output.dense.weight" in by_kind[True]
    assert "encoder.backbone.embeddings.word_embeddings.weight" in by_kind[False]
    assert all(module.get_parameter(name).ndim == 2 for name in by_kind[True])
    start = dict(load(tiny_model).named_parameters())
    assert not any(torch.equal(p, start[n.removeprefix("encoder.")]) for n, p in module.named_parameters()
                   if p.requires_grad and "key.bias" not in n)  # fmt: skip  # a key's bias has no gradient
    loaded = EmbeddingModule.load_from_checkpoint(checkpoint)
    assert loaded.parameter_groups == module.parameter_groups
    assert hyperparameters.function_words(loaded.make_optimizer) == hyperparameters.function_words(MUON)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"lr": -1.0}, "Learning rate"), ({"momentum": -1.0}, "momentum"), ({"adjust_lr_fn": "x"}, "not supported")],
)
def test_bad_values(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Muon(_parameters(), **options)
