"""`prepare`: the checks and the parts of a training run, before anything is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig

from lightning_embed import registry
from lightning_embed.callback import WhileTraining
from lightning_embed.config import run_yaml
from lightning_embed.config.expert_options import config_of
from lightning_embed.config.identity import Identity, freeze, run_identity
from lightning_embed.config.queries import num_ranks
from lightning_embed.config.values import build_options, plain
from lightning_embed.data import EmbeddingDataset
from lightning_embed.data.mining_models import check_models
from lightning_embed.data.mining_options import MiningOptions
from lightning_embed.data.teacher import TeacherVectors
from lightning_embed.encoder import Encoder
from lightning_embed.encoder.conversion import CONVERTER
from lightning_embed.errors import ConfigError, DataError, nearest
from lightning_embed.evaluation import Evaluator, Nothing
from lightning_embed.experts import Expert, ExpertPlan
from lightning_embed.merge import MergeStrategy, Source
from lightning_embed.merge.checkpoint.lora import is_adapter
from lightning_embed.merge.checkpoint.open_model import open_directory
from lightning_embed.run import build, doctor, teacher
from lightning_embed.run.check_rows import check_rows
from lightning_embed.run.check_signal import check_signal
from lightning_embed.run.dataset_affinity import DatasetAffinity, affinity
from lightning_embed.run.finalize import strategy_of
from lightning_embed.run.merge_probe import ProbeMaker
from lightning_embed.run.plan import PlannedTraining
from lightning_embed.runtime import peers
from lightning_embed.storage import hub, mirroring
from lightning_embed.types import TrainSet


@dataclass(frozen=True)
class Prepared:
    """A training run that is ready to start.

    Args:
        cfg: config of the run, with its folder and group resolved.
        identity: identity of the run.
        data: datasets of the run; those that no expert trains on have no train rows.
        base: model that experts start from.
        plan: plan of the experts.
        experts: experts in the order of training, including those that exist already.
        trainings: trainings of the experts that do not exist yet.
        affinity: measurements of the datasets, for the plan.
        sources: sources of the merge.
        strategy: merge strategy; None: merge=none.
        evaluator: evaluator of all models.
        teacher: embeddings of the teacher, once it was asked; None: no loss needs one.
    """

    cfg: DictConfig
    identity: Identity
    data: Mapping[str, EmbeddingDataset]
    base: Encoder
    plan: ExpertPlan
    experts: Sequence[Expert]
    trainings: Sequence[PlannedTraining]
    affinity: DatasetAffinity
    sources: Sequence[Source]
    strategy: MergeStrategy | None
    evaluator: Evaluator
    teacher: TeacherVectors | None = None

    @property
    def out(self) -> Path:
        """The folder of the run."""
        return Path(self.cfg.out)

    @property
    def train_sets(self) -> dict[str, TrainSet]:
        """The datasets with train rows."""
        return train_sets(self.data)


def prepare(cfg: DictConfig) -> Prepared:
    """Check a run and build its parts.

    Nothing is written, except by plans that train models to group datasets, and what the copy of a run has.

    Raises:
        LightningEmbedError: an error that the user can fix.
    """
    build.check_components(cfg)
    check_models(build_options(MiningOptions, cfg.mining))
    identity = freeze(cfg)
    out = Path(cfg.out)
    plan: ExpertPlan = registry.build("experts", plain(cfg.experts))
    strategy, evaluator = strategy_of(cfg), build.evaluator(cfg)
    data = _trained_on(plan.datasets, build.datasets(cfg))
    base = build.encoder(cfg, data.values())
    trained_on = train_sets(data)
    if not plan.stages:  # each has losses of its own
        _check_losses(cfg, data, base)
    _check_metric(cfg, evaluator, data)
    if not cfg.inspect:
        mirroring.fetch(out)
        peers.agree("mirror", "fetched")  # the other ranks wait for it
        run_yaml.refuse_other_run(out, identity)
    measured = affinity(cfg, data, base, out)
    experts = plan.chosen(trained_on, cfg.seed, measured)
    sources = _sources_of(plan, experts, trained_on, out / "models")
    _check_merge(cfg, plan, strategy, sources)
    _check_probe(cfg, plan, strategy, data, base)
    trainings = [
        PlannedTraining(e, build.datamodule(own, data, base, e), own)
        for e in experts
        if e.path is None
        for own in [config_of(cfg, e)]
    ]
    teacher.refuse_unused([training.cfg for training in trainings] or [cfg], data)
    for training in trainings:
        if plan.stages or training.expert.options:
            build.check_components(training.cfg)
            _check_losses(training.cfg, {name: data[name] for name in training.expert.rows}, base)
        _check_training(plan, training)
    if changed := run_identity(cfg).changed_since(identity.content):
        raise DataError(f"Changed while the run was prepared: {', '.join(changed)}. Start it again.")
    return Prepared(cfg, identity, data, base, plan, experts, trainings, measured, sources, strategy, evaluator)


def _trained_on(names: Sequence[str], data: Mapping[str, EmbeddingDataset]) -> dict[str, EmbeddingDataset]:
    """The datasets; those not in `names` lose their train rows, and are only evaluated, out of domain."""
    known = {name: dataset for name, dataset in data.items() if dataset.train is not None}
    for name in names:
        if name not in known:
            raise ConfigError(f"experts.datasets: no dataset {name!r} with train rows. {nearest(name, known)}")
    return {
        name: dataset
        if not names or name in names
        else replace(dataset, train=None, eval_sets=[replace(e, in_domain=False) for e in dataset.eval_sets])
        for name, dataset in data.items()
    }


def train_sets(data: Mapping[str, EmbeddingDataset]) -> dict[str, TrainSet]:
    """The datasets with train rows, as a plan of experts sees them."""
    return {name: rows.train_set for name, dataset in data.items() if (rows := dataset.train) is not None}


def _sources_of(
    plan: ExpertPlan, experts: Sequence[Expert], datasets: Mapping[str, TrainSet], models: Path
) -> list[Source]:
    """The sources of the merge, in the order of the plan; models that exist already are checked."""
    sources = [
        Source(models / name if expert.path is None else Path(expert.path), name, expert.num_rows(datasets) or None)
        for expert in experts
        for name in plan.sources(expert)
    ]
    for source in sources:
        if source.path.parent != models and not is_adapter(source.path):
            open_directory(source, CONVERTER)
    return sources


def _check_metric(cfg: DictConfig, evaluator: Evaluator, data: Mapping[str, EmbeddingDataset]) -> None:
    """Refuse an `optimized_metric` that the run does not evaluate."""
    tasks = {str(s.task) for d in data.values() for s in d.eval_sets if s.split == "dev"}
    wanted = cfg.optimized_metric.removeprefix("dev/")
    if not isinstance(evaluator, Nothing) and wanted not in ("mean", *tasks):
        raise ConfigError(f"optimized_metric=dev/{wanted}: no dataset has such a dev set. {nearest(wanted, tasks)}")


def _check_merge(cfg: DictConfig, plan: ExpertPlan, strategy: MergeStrategy | None, sources: Sequence[Source]) -> None:
    """Refuse a merge, an examination or a push that is impossible with the sources of the plan."""
    if strategy is None:
        hub.require_one_model(cfg.push_to_hub, [source.name for source in sources])
    elif plan.only is None:
        strategy.validate_inputs([source.size for source in sources], has_base=True, has_probe=True)
    if plan.only is None:
        doctor.validate_doctor(cfg, sources, has_base=True, has_probe=True)


def _check_probe(
    cfg: DictConfig,
    plan: ExpertPlan,
    strategy: MergeStrategy | None,
    data: Mapping[str, EmbeddingDataset],
    base: Encoder,
) -> None:
    """Refuse a probe whose batches cannot be drawn."""
    if plan.only is None and (doctor.needs_probe(cfg) or (strategy is not None and strategy.needs_probe)):
        ProbeMaker(cfg, data).batches(base)


def _check_losses(cfg: DictConfig, data: Mapping[str, EmbeddingDataset], base: Encoder) -> None:
    """Refuse losses that do not fit the train rows, and rows that teach nothing."""
    trained, mined = train_sets(data), [name for name in cfg.mining.datasets if name in data]
    losses = build.losses(cfg, {name: data[name].options for name in trained})
    taught = teacher.dim_of(cfg, losses, base.dim)
    check_rows(losses, data, mined, base.dim, scored=cfg.mining.scores is not None, teacher_dim=taught)
    check_signal(cfg, {name: data[name] for name in trained if name not in mined}, base)


def _check_training(plan: ExpertPlan, training: PlannedTraining) -> None:
    """Refuse a training that is too short for its snapshots or its validation, or that callbacks cannot choose from."""
    cfg, snapshots = training.cfg, plan.num_snapshots(training.expert)
    for name, rows in training.batches.train_rows.items():
        label, ranks = f"{training.expert.name}, {name}", num_ranks(cfg) or 1
        training.batches.schedule.fitted(label, rows.train_set, ranks)
    interval, epoch = cfg.trainer.val_check_interval, len(training.batches.steps())
    if cfg.trainer.check_val_every_n_epoch is not None and type(interval) is int and interval > epoch:
        raise ConfigError(
            f"trainer.val_check_interval={interval}: an epoch of {training.expert.name} has only {epoch} steps. Give fewer, "
            "or trainer.check_val_every_n_epoch=null, which counts the steps of the whole training."
        )
    steps = training.batches.num_steps(*training.limits)
    if (span := round(steps * plan.snapshot_share)) < snapshots:
        name, where = training.expert.name, f" in experts.snapshot_share={plan.snapshot_share}" if span < steps else ""
        raise ConfigError(f"experts.snapshots={snapshots}: the training of {name} has only {span} steps{where}.")
    for callback in build.callbacks(cfg):
        if isinstance(callback, WhileTraining):
            if callback.patience is not None and snapshots > 1:
                raise ConfigError(
                    f"{training.expert.name}: patience={callback.patience} may stop it before all of its {snapshots} "
                    "snapshots, which are taken at equal intervals: use one of them."
                )
            callback.parts(training.batches.dev_sets)
