"""A checkpoint holds words and options, of which the module is built again; nothing in it can run code."""

import json
import pickle
import shutil
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch.core.module import LightningModule

from lightning_embed import EmbeddingModule, load, registry
from lightning_embed.errors import CheckpointError, ConfigError
from lightning_embed.loss import Loss
from lightning_embed.loss.cosent import CoSENT
from lightning_embed.loss.distill import Distill, DistillKind
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.loss.matryoshka import Matryoshka
from lightning_embed.training import hyperparameters
from lightning_embed.training.lr_schedule import constant, cosine, linear, wsd
from lightning_embed.training.muon import Muon
from lightning_embed.types import LossInput, LossOutput, StepMode, Task
from tests.training.lightning import ADAMW, LOSSES, equal, made, trainer, weights

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's, of a trainer without many workers


@dataclass(frozen=True)
class Unregistered(Loss):
    """A loss of the caller's own."""

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.sts})
    delta: float = 0.1
    cross_device: bool = True

    def __call__(self, batch: LossInput) -> LossOutput:
        return LossOutput(self.delta * batch.embeddings.final.sum(), {})


class OwnSGD(torch.optim.SGD):
    """An optimiser of the caller's own."""


def _steps(optimizer: torch.optim.Optimizer, num_steps: int) -> Any:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / num_steps)


def _only_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _only_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_only_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def _every_loss() -> dict[str, Loss]:
    built = {name: registry.build("loss", {"name": name}) for name in registry.names("loss") if name != "matryoshka"}
    inner = Matryoshka(InfoNCE(temperature=0.1, margin=0.2), dims=[16, 8])
    own = {"own": Unregistered(0.3), "margins": Distill(kind=DistillKind.margin_mse), "nested": Distill(inner)}
    return built | own | {"matryoshka": Matryoshka({"name": "cosent"}, dims=[8])}


@pytest.mark.parametrize("name", _every_loss())
def test_every_loss_is_built_again_of_its_words(name: str) -> None:
    loss = _every_loss()[name]
    words = hyperparameters.loss_words({Task.sts: loss})
    assert _only_plain(words)
    (again,) = hyperparameters.built_losses(json.loads(json.dumps(words))).values()
    assert again == loss
    assert all(type(getattr(again, key)) is type(value) for key, value in vars(loss).items() if isinstance(value, Enum))


@pytest.mark.parametrize(
    "optimizer",
    [
        torch.optim.AdamW,
        partial(torch.optim.AdamW, lr=2e-5, betas=(0.9, 0.98), fused=True),
        partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        partial(torch.optim.Adagrad, lr=0.1, weight_decay=0.0),
        partial(OwnSGD, lr=0.5),
        partial(Muon, lr=0.1, betas=[0.9, 0.98]),
    ],
)
def test_an_optimiser_is_built_again(optimizer: Any) -> None:
    words = hyperparameters.function_words(optimizer)
    assert _only_plain(words)
    again = hyperparameters.built_optimizer(words)([torch.nn.Parameter(torch.ones(1))])
    expected = optimizer([torch.nn.Parameter(torch.ones(1))])
    assert type(again) is type(expected)
    assert {k: _list(v) for k, v in again.defaults.items()} == {k: _list(v) for k, v in expected.defaults.items()}


def test_the_loss_of_a_dataset_keeps_its_name() -> None:
    losses = {Task.retrieval: InfoNCE(), "faq": InfoNCE(temperature=0.3)}
    assert hyperparameters.built_losses(json.loads(json.dumps(hyperparameters.loss_words(losses)))) == losses


def _list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(
    "scheduler", [linear, constant, cosine, partial(linear, warmup_share=0.3), partial(wsd, shape="sqrt"), None]
)
def test_a_schedule_is_built_again(scheduler: Any) -> None:
    again = hyperparameters.built_scheduler(hyperparameters.function_words(scheduler))
    if scheduler is None:
        assert again is None
        return
    rates = []
    for make in (scheduler, again):
        made_of = make(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0), 20)
        rates.append([made_of.lr_lambdas[0](step) for step in range(20)])
    assert rates[0] == rates[1]


@pytest.mark.parametrize(
    "function",
    [
        _steps,
        lambda parameters: torch.optim.SGD(parameters),
        partial(torch.optim.AdamW, lr=torch.tensor(0.1)),
        partial(torch.optim.lr_scheduler.StepLR, 7),
        partial(_steps, num_steps=3),
    ],
)
def test_any_other_function_is_a_name_that_no_checkpoint_calls(function: Any) -> None:
    words = hyperparameters.function_words(function)
    assert _only_plain(words)
    for build in (hyperparameters.built_optimizer, hyperparameters.built_scheduler):
        again = build(words)
        assert hyperparameters.function_words(again) == words
        with pytest.raises(ConfigError, match=r"it cannot build. To train on, give it"):
            again([])


@pytest.mark.parametrize(
    "name", ["os.system", "subprocess.Popen", "builtins.eval", "Optimizer.__init__", "", "no.such"]
)
def test_a_name_in_a_checkpoint_is_never_imported_or_called(name: str) -> None:
    words = {"name": name, "command": "touch planted"}
    assert isinstance(hyperparameters.built_optimizer(words), hyperparameters.Unknown)
    assert isinstance(hyperparameters.built_scheduler(words), hyperparameters.Unknown)
    with pytest.raises(ConfigError, match="is not imported"):
        hyperparameters.built_losses({"sts": words})


@pytest.mark.parametrize(
    ("planted", "answer"),
    [
        ({"trust_remote_code": True}, "which no checkpoint may"),
        ({"peft": {"_target_": "os.system", "command": "touch planted"}}, "expected a configuration of peft"),
        ({"peft": {"_target_": "peft.LoraConfig", "r": {"_target_": "os.getcwd"}}}, "'os.getcwd'"),
        ({"peft": {"_target_": "peft.LoraConfig", "x": [{"_target_": "os.getcwd"}]}}, "'os.getcwd'"),
        ({"peft": {"_target_": "peft.utils.other.Config"}}, "'peft.utils.other.Config'"),
    ],
)
def test_options_that_run_code_are_refused(planted: dict[str, Any], answer: str, tiny_model: Path) -> None:
    words = {**hyperparameters.encoder_words(load(tiny_model)), **planted}
    with pytest.raises(ConfigError, match=answer):
        hyperparameters.built_encoder(words)


class _Bomb:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("weights_only", [None, False, True])
def test_a_planted_pickle_does_not_run(weights_only: bool | None, checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, "planted": _Bomb(tmp_path / "planted")}, tmp_path / "bad.ckpt")
    with pytest.raises(
        CheckpointError, match=r"bad.ckpt has more than tensors, numbers and texts, which could run code"
    ):
        EmbeddingModule.load_from_checkpoint(tmp_path / "bad.ckpt", weights_only=weights_only)
    with (tmp_path / "bad.ckpt").open("rb") as file, pytest.raises(pickle.UnpicklingError):
        EmbeddingModule.load_from_checkpoint(file, weights_only=weights_only)
    assert not (tmp_path / "planted").exists()


def test_load_from_checkpoint_needs_no_argument(checkpoint: Path, tiny_model: Path) -> None:
    module = EmbeddingModule.load_from_checkpoint(checkpoint)
    assert equal(weights(module), torch.load(checkpoint, weights_only=True)["state_dict"])
    assert module.losses == LOSSES
    assert module.make_optimizer.keywords == ADAMW.keywords
    assert module.make_scheduler.keywords == {"warmup_share": 0.2}
    assert _only_plain(dict(module.hparams))
    assert not equal(weights(module), weights(EmbeddingModule(load(tiny_model), LOSSES, ADAMW)))


def test_arguments_replace_the_words_of_the_checkpoint(checkpoint: Path, tiny_model: Path) -> None:
    encoder = load(tiny_model)
    changed = {"lr": 0.5, "max_grad_norm": None, "seed": 3, "step": "cached", "losses": {Task.sts: CoSENT()}}
    module = EmbeddingModule.load_from_checkpoint(checkpoint, encoder=encoder, **changed)
    assert module.encoder is encoder
    assert (module.lr, module.max_grad_norm, module.seed, module.step) == (0.5, None, 3, StepMode.cached)
    assert module.losses == {Task.sts: CoSENT()}


def test_prompts_and_lengths_are_those_at_the_save(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    module, data = made(tiny_model, rows)
    module.encoder.prompts |= {"query": "the big "}
    module.encoder.tokenizer.max_length = 9
    own = trainer(tmp_path, max_steps=1, limit_val_batches=0)
    own.fit(module, data)
    own.save_checkpoint(tmp_path / "last.ckpt")
    again = EmbeddingModule.load_from_checkpoint(tmp_path / "last.ckpt")
    assert again.encoder.prompts.texts["query"] == "the big "
    texts = ["the red cat eats the old bird in the house near the river"]
    assert torch.equal(again.encoder.encode(texts, "query"), module.encoder.encode(texts, "query"))


def test_a_base_that_has_moved_is_one_sentence(checkpoint: Path, tiny_model: Path, tmp_path: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["encoder"]["path"] = str(tmp_path / "gone")
    torch.save(content, tmp_path / "moved.ckpt")
    with pytest.raises(CheckpointError, match=r"load_from_checkpoint\(path, encoder=load\(<directory>\)\)"):
        EmbeddingModule.load_from_checkpoint(tmp_path / "moved.ckpt")
    moved = Path(shutil.copytree(tiny_model, tmp_path / "here"))
    assert EmbeddingModule.load_from_checkpoint(tmp_path / "moved.ckpt", encoder=load(moved)).seed == 0


class Sub(EmbeddingModule):
    """With an argument of its own, kept as Lightning's page says."""

    def __init__(self, encoder: Any, losses: Any, optimizer: Any, scheduler: Any = None, margin: float = 0.5) -> None:
        super().__init__(encoder, losses, optimizer, scheduler)
        self.save_hyperparameters()
        self.margin = margin


class Open(EmbeddingModule):
    """With open arguments."""

    def __init__(self, *args: Any, margin: float = 0.5, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.save_hyperparameters("margin")
        self.margin = margin


class Closed(EmbeddingModule):
    """Builds its parts itself."""

    def __init__(self, path: str, margin: float = 0.5) -> None:
        super().__init__(load(path), LOSSES, ADAMW)
        self.save_hyperparameters()
        self.margin = margin


@pytest.mark.parametrize("cls", [Sub, Open, Closed])
def test_a_subclass_is_built_again(cls: type[Any], tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    _, data = made(tiny_model, rows)
    module = cls(*([str(tiny_model)] if cls is Closed else [load(tiny_model), LOSSES, ADAMW]), margin=0.25)
    own = trainer(tmp_path, max_steps=1, limit_val_batches=0)
    own.fit(module, data)
    own.save_checkpoint(tmp_path / "last.ckpt")
    torch.load(tmp_path / "last.ckpt", weights_only=True)
    again = cls.load_from_checkpoint(tmp_path / "last.ckpt")
    assert (type(again), again.margin) == (cls, 0.25)
    assert equal(weights(again), weights(module))


def test_it_is_a_method_of_the_class_as_in_lightning(checkpoint: Path) -> None:
    module = EmbeddingModule.load_from_checkpoint(checkpoint)
    assert isinstance(module, LightningModule)
    with pytest.raises(TypeError, match="cannot be called on an instance"):
        module.load_from_checkpoint(checkpoint)


def test_an_option_of_another_version_is_named(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="gives EncoderOptions the option 'glue', which this version does not have"):
        hyperparameters.built_encoder({**hyperparameters.encoder_words(load(tiny_model)), "glue": 1})
    with pytest.raises(ConfigError, match="gives CoSENT the option 'glue'"):
        hyperparameters.built_losses({"sts": {"name": "cosent", "glue": 1}})


def test_adapters_are_built_again(tiny_model: Path, tmp_path: Path) -> None:
    base = load(tiny_model).options
    for options in (
        replace(base, lora_rank=2),
        replace(base, peft={"_target_": "peft.LoHaConfig", "r": 2, "target_modules": "all-linear"}),
    ):
        words = hyperparameters.encoder_words(type(load(tiny_model))(options))
        assert _only_plain(words)
        again = hyperparameters.built_encoder(words)
        assert again.options.is_adapted
