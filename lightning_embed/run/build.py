"""Objects from config nodes, one function per group of conf/."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy
from omegaconf import DictConfig, OmegaConf

from lightning_embed import registry
from lightning_embed.callback import AtomicCheckpointIO, ResumeCheckpoint
from lightning_embed.config.components import check_signature, instantiated, refusals_of
from lightning_embed.config.identity import resolved_hash, training_seed
from lightning_embed.config.queries import is_first, num_ranks
from lightning_embed.config.trainer_options import FSDP
from lightning_embed.config.values import LOSS_OF_TASK, build_options, plain
from lightning_embed.config.words import own_loss
from lightning_embed.data import EmbeddingDataModule, EmbeddingDataset, load_datasets
from lightning_embed.data.options import DataOptions, DatasetOptions
from lightning_embed.data.teacher import TeacherVectors
from lightning_embed.encoder import Encoder, load
from lightning_embed.encoder.adapters import require_peft
from lightning_embed.encoder.options import Dtype, EncoderOptions
from lightning_embed.encoder.parameter_groups import ParameterGroups
from lightning_embed.evaluation import Evaluator, Nothing, ScoreCache
from lightning_embed.experts import Expert
from lightning_embed.loss import Loss
from lightning_embed.loss.choice import check_losses
from lightning_embed.run import service
from lightning_embed.run.terminal import console
from lightning_embed.sampler import Sampler
from lightning_embed.storage import hub
from lightning_embed.storage.cache_dir import CACHE
from lightning_embed.training.module import EmbeddingModule
from lightning_embed.training.sharded import Sharded
from lightning_embed.types import Results


def encoder(cfg: DictConfig, datasets: Iterable[EmbeddingDataset], start: Path | None = None) -> Encoder:
    """The base model, or the model in `start`, with the prompts of the datasets, which are saved with an expert."""
    options: EncoderOptions = build_options(EncoderOptions, cfg.encoder)
    if start is not None:
        options = replace(options, path=str(start), revision=None, num_layers=None, layers=[])  # it is cut already
    elif not Path(options.path).is_dir():  # the commit in the hash of the run, even if the branch has moved since
        options = replace(options, revision=hub.commit(options.path, options.revision, "model") or options.revision)
    return Encoder(replace(options, prompts=options.prompts | _prompts(datasets)))


@dataclass(frozen=True)
class Loader:
    """Opens a model directory for an evaluation. Its `repr` identifies the settings on which scores depend.

    Args:
        prompts: prompts of the datasets, added to the model's own.
        device: device of the model; scores do not depend on it.
        dtype: dtype of the computation.
        trust_remote_code: run the code of a model's directory.
    """

    prompts: Mapping[str, str]
    device: str = field(repr=False)
    dtype: str = "float32"
    trust_remote_code: bool = field(default=False, repr=False)

    def __call__(self, path: Path) -> Encoder:
        """Open `path`."""
        model = load(path, trust_remote_code=self.trust_remote_code)
        model.options = replace(model.options, dtype=Dtype(self.dtype))
        if self.device == "cuda":  # outside of the backbone: as exact as inside
            torch.set_float32_matmul_precision("highest" if self.dtype == "float32" else "high")
        model.prompts |= self.prompts
        return service.shared(model.to(self.device), self, path)


def loader(cfg: DictConfig, datasets: Iterable[EmbeddingDataset]) -> Loader:
    """The loader of a run's models, for their evaluation."""
    trusted = OmegaConf.select(cfg, "encoder.trust_remote_code", default=False)
    return Loader(_prompts(datasets), device(cfg), cfg.evaluation.get("dtype", "float32"), trusted)


def _prompts(datasets: Iterable[EmbeddingDataset]) -> dict[str, str]:
    """The datasets' own prompts, under the names that an encoder uses."""
    return {
        f"{data.name}-{role}": text
        for data in datasets
        for role, text in (("query", data.options.query_prompt), ("document", data.options.document_prompt))
        if text is not None
    }


def device(cfg: DictConfig) -> str:
    """The device of models outside a Trainer: cuda, if it is available and allowed by trainer.accelerator, or cpu."""
    accelerator = OmegaConf.select(cfg, "trainer.accelerator", default="auto")
    return "cuda" if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available() else "cpu"


def datasets(cfg: DictConfig) -> dict[str, EmbeddingDataset]:
    """All datasets, read and checked; what a user should know of them is printed."""
    options: DataOptions = build_options(DataOptions, cfg.data)
    examine = bool(OmegaConf.select(cfg, "inspect"))
    found = load_datasets(options.datasets, decontaminate=options.decontaminate, examine=examine, seed=cfg.seed)
    for note in [note for dataset in found.values() for note in dataset.notes]:
        if is_first(cfg):
            console.print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)
    return found


def losses(cfg: DictConfig, datasets: Mapping[str, DatasetOptions]) -> dict[str, Loss]:
    """The loss of each task of datasets that are trained, and the own loss of each that has one, by its name."""
    own = {name: options for name, options in datasets.items() if options.loss is not None}
    tasks = {options.task for name, options in datasets.items() if name not in own}
    built: dict[str, Loss] = {task: registry.build("loss", plain(cfg[LOSS_OF_TASK[task]])) for task in tasks}
    built |= {name: registry.build("loss", own_loss(name, options.loss)) for name, options in own.items()}
    check_losses(built, {name: options.task for name, options in own.items()})
    return built


def evaluator(cfg: DictConfig) -> Evaluator:
    """The evaluator of the models, validated."""
    built: Evaluator = instantiated("evaluation", cfg.evaluation)
    built.validate()
    return built


def sampler(cfg: DictConfig) -> Sampler:
    """The order of the datasets."""
    built: Sampler = registry.build("sampler", plain(cfg.sampler))
    return built


def scores(
    cfg: DictConfig, evaluator: Evaluator, data: Mapping[str, EmbeddingDataset]
) -> Callable[..., Results] | None:
    """The scores of models, or of an ensemble of several, on the tests of the run; None: evaluation=none."""
    if isinstance(evaluator, Nothing):
        return None
    eval_sets = [eval_set for dataset in data.values() for eval_set in dataset.eval_sets]
    embeddings = CACHE / "embeddings" if cfg.remember_embeddings else None
    return ScoreCache(evaluator, eval_sets, CACHE / "scores", loader(cfg, data.values()), embeddings)


def datamodule(
    cfg: DictConfig,
    data: Mapping[str, EmbeddingDataset],
    model: Encoder,
    expert: Expert,
    teacher: TeacherVectors | None = None,
) -> EmbeddingDataModule:
    """The batches of one expert."""
    data = {name: dataset.with_batch_size(cfg.data.datasets[name].batch_size) for name, dataset in data.items()}
    options: dict[str, Any] = {
        "num_workers": cfg.data.num_workers,
        "pin_memory": cfg.data.pin_memory,
        "ranks": num_ranks(cfg) or 1,
        "teacher": teacher,
    }
    return EmbeddingDataModule(data, model, sampler(cfg), expert.rows, seed=training_seed(cfg, expert), **options)


def module(cfg: DictConfig, model: Encoder, datasets: Mapping[str, DatasetOptions], expert: Expert) -> EmbeddingModule:
    """The LightningModule that trains an encoder on datasets."""
    seed = training_seed(cfg, expert)
    optimizer, scheduler = instantiated("optimizer", cfg.optimizer), instantiated("scheduler", cfg.scheduler)
    memory = round(cfg.step_memory * 2**30)
    built = EmbeddingModule(
        model,
        losses(cfg, datasets),
        optimizer,
        scheduler,
        parameter_groups=build_options(ParameterGroups, cfg.parameter_groups),
        max_grad_norm=cfg.max_grad_norm,
        seed=seed,
        step=cfg.step,
        step_memory=memory,
    )
    built.save_hyperparameters({}, logger=False)  # loggers get the config of the run instead
    return built


def callbacks(cfg: DictConfig) -> list[Callback]:
    """New instances of the configured callbacks."""
    return [instantiated(f"callback.{name}", node) for name, node in cfg.callback.items()]


def trainer(cfg: DictConfig, loggers: list[Logger], checkpoints: Path, extra: Sequence[Callback] = ()) -> Trainer:
    """The Trainer of an expert, with the configured callbacks, those in `extra`, and checkpoints for resuming."""
    chosen = [*callbacks(cfg), *extra]
    if not cfg.trainer.enable_progress_bar:  # Lightning requires that the callback is removed as well
        chosen = [callback for callback in chosen if not isinstance(callback, ProgressBar)]
    chosen.append(ResumeCheckpoint(checkpoints, cfg.checkpoint_minutes))
    options = cfg.trainer.copy()
    if options.get("log_every_n_steps") == "auto":  # a log waits for a GPU
        options.log_every_n_steps = 10 if device(cfg) == "cuda" else 1
    built: Trainer = instantiated(
        "trainer",
        options,
        **_strategy(cfg),
        callbacks=chosen,
        logger=loggers,
        plugins=[AtomicCheckpointIO()],
        default_root_dir=checkpoints,  # of one expert: on Slurm, Lightning resumes from any hpc_ckpt_*.ckpt in it
    )
    return built


def _strategy(cfg: DictConfig) -> dict[str, Any]:
    """The strategy where it is not what Lightning makes of the word."""
    word, ranks = cfg.trainer.strategy, num_ranks(cfg) or torch.cuda.device_count()
    if word == FSDP:
        return {"strategy": Sharded()}
    if word in ("auto", "ddp") and ranks > 1:  # gradients are averaged where they are, and not held twice
        return {"strategy": DDPStrategy(gradient_as_bucket_view=True)}
    return {}


def check_components(cfg: DictConfig) -> None:
    """Refuse invalid options of optimiser, scheduler, callbacks, trainer and loggers; nothing is written.

    Raises:
        ConfigError: with the name of the option.
    """
    if cfg.encoder.peft:
        require_peft("encoder.peft")
        check_signature("encoder.peft", cfg.encoder.peft)
    make_optimizer = instantiated("optimizer", cfg.optimizer)
    with refusals_of("optimizer"):
        optimizer = make_optimizer([torch.nn.Parameter(torch.zeros(shape)) for shape in ((1,), (1, 1))])
    make_scheduler = instantiated("scheduler", cfg.scheduler)
    with refusals_of("scheduler"):
        make_scheduler(optimizer, 10)
    for name, node in cfg.logger.items():  # not built, because some open files or connections
        check_signature(f"logger.{name}", node)
    planned = cfg.copy()
    if cfg.inspect:  # the plan of another machine may be read on this one
        planned.trainer.merge_with({"accelerator": "cpu", "devices": 1, "strategy": "auto", "num_nodes": 1})
    with resolved_hash(""):
        trainer(planned, [], Path(planned.out))
