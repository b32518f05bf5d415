"""The story of a run: fit each expert; then merge, evaluate and report (`ending`)."""

import gc
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from lightning_embed import registry
from lightning_embed.card import write_cards
from lightning_embed.config import run_yaml
from lightning_embed.config.values import plain
from lightning_embed.data import EmbeddingDataset
from lightning_embed.encoder import Encoder
from lightning_embed.errors import ConfigError, nearest
from lightning_embed.evaluation import Evaluator, Nothing
from lightning_embed.experts import Expert, ExpertPlan, TrainSet
from lightning_embed.merge import Source
from lightning_embed.merge.checkpoint.lora import is_adapter
from lightning_embed.merge.checkpoint.reader import ModelDirectory
from lightning_embed.report import Run
from lightning_embed.run import build, doctor, fit, inspect_data, merge, prepare
from lightning_embed.run.cost import costs
from lightning_embed.run.finalize import Ending
from lightning_embed.run.merge_probe import ProbeMaker
from lightning_embed.run.training_facts import trainings
from lightning_embed.runtime import distributed
from lightning_embed.storage import hub
from lightning_embed.types import BASE, JOINT

console = Console()
# What Lightning says about itself, and about deprecations of its own, is not for the user of a run.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", module=r"lightning\.")


def train(cfg: DictConfig) -> float | None:
    """Train the experts of a run, merge them, measure all. Returns the `optimized_metric`, in points.

    Raises:
        LightningEmbedError: whatever a user can mend; all of it before the first batch, except for failing disks.
    """
    out = Path(cfg.out)
    plan: ExpertPlan = registry.build("experts", plain(cfg.experts))
    data = _trained_on(plan.datasets, build.datasets(cfg))
    base = build.encoder(cfg, data.values())
    train_sets = {
        name: TrainSet(rows.options.counts_as, len(rows), rows.options.batch_size)
        for name, dataset in data.items()
        if (rows := dataset.train) is not None
    }
    strategy, evaluator = merge.strategy_of(cfg), build.evaluator(cfg)
    losses = build.losses(cfg, {data[name].options.task for name in train_sets})
    prepare.check_rows(losses, data, cfg.mining.datasets, base.dim)
    _check_metric(cfg, evaluator, data)
    if not cfg.inspect:
        run_yaml.claim(cfg, out)
    experts = plan.chosen(train_sets, cfg.seed, prepare.measure(console, cfg, data, base, out))
    sources = _sources_of(plan, experts, train_sets, out / "models")
    if strategy is None:
        hub.check_one(cfg.push_to_hub, [source.name for source in sources])
    elif plan.only is None:
        strategy.validate_inputs([source.size for source in sources], has_base=True, has_probe=True)
    if plan.only is None:
        doctor.check(cfg, sources, has_base=True, has_probe=True)
        if doctor.needs_probe(cfg) or (strategy is not None and strategy.needs_probe):
            ProbeMaker(cfg, data).batches(base)  # refuses what cannot be drawn
    trained = [expert for expert in experts if expert.path is None]
    modules = [build.datamodule(cfg, data, base, expert) for expert in trained]
    for expert, module in zip(trained, modules, strict=True):
        fit.check(cfg, plan, expert, module)
    joint = build.datamodule(cfg, data, base, Expert(JOINT, dict.fromkeys(train_sets)))
    if cfg.inspect:
        inspect_data.show(console, cfg, base, data, trained, modules, joint)
        return None
    _start(cfg, out, base)
    inspect_data.show_experts(console, cfg, trained, modules, joint)
    data = prepare.mined(console, cfg, data, base, out)
    for expert in trained:
        fit.fit(console, cfg, data, plan, expert, out)
        gc.collect()  # a Trainer and its module hold each other: weights and moments of every expert would stay in memory
    rank = distributed.rank()
    distributed.leave()
    if rank != 0:
        return None
    pairs = list(zip(trained, modules, strict=True))
    made = {name: told for e, module in pairs for name, told in trainings(cfg, plan, e, module, out).items()}
    if plan.only is not None:
        write_cards(cfg, Run(out), sources, out / "models" / BASE, trainings=made)
        console.print(
            f"{plan.only} is in {out / 'models'}. When all are, the command without experts.only merges them."
        )
        return None
    scores, make_probe = build.scores(cfg, evaluator, data), ProbeMaker(cfg, data)
    spent = {e.name: fit.num_rows(cfg, e, module, out) for e, module in pairs}
    return Ending(
        cfg, strategy, sources, out / "models" / BASE, scores, make_probe,
        costs=costs(plan, experts, spent), trainings=made,
    ).run()  # fmt: skip


def _trained_on(names: Sequence[str], data: Mapping[str, EmbeddingDataset]) -> dict[str, EmbeddingDataset]:
    """The datasets; those not in `names` without train rows, so that they are measured alone, and out of domain."""
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


def _sources_of(
    plan: ExpertPlan, experts: Sequence[Expert], datasets: Mapping[str, TrainSet], models: Path
) -> list[Source]:
    """What goes into the merge, in the order of the plan; a model that exists already must open."""
    sources = [
        Source(models / name if expert.path is None else Path(expert.path), name, expert.num_rows(datasets) or None)
        for expert in experts
        for name in plan.sources(expert)
    ]
    for source in sources:
        if source.path.parent != models and not is_adapter(source.path):
            ModelDirectory.open(source)
    return sources


def _check_metric(cfg: DictConfig, evaluator: Evaluator, data: Mapping[str, EmbeddingDataset]) -> None:
    """Refuse an `optimized_metric` that nothing will measure."""
    tasks = {str(s.task) for d in data.values() for s in d.eval_sets if s.split == "dev"}
    wanted = cfg.optimized_metric.removeprefix("dev/")
    if not isinstance(evaluator, Nothing) and wanted not in ("mean", *tasks):
        raise ConfigError(f"optimized_metric=dev/{wanted}: no dataset has such a dev set. {nearest(wanted, tasks)}")


def _start(cfg: DictConfig, out: Path, base: Encoder) -> None:
    """Rank zero writes what does not change any more: run.yaml, and the base through the same save as every expert."""
    if distributed.launched_rank() == 0:
        run_yaml.write(cfg, out)
        base.export(out / "models" / BASE)
