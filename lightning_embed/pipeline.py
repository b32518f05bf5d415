"""The story of a run: fit each expert, merge, evaluate, report."""

import glob
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig
from rich.console import Console

from lightning_embed import build, config, dist, fitting, inspection, preparing, provenance, registry
from lightning_embed.data import EmbeddingDataset
from lightning_embed.data.dataset import CACHE
from lightning_embed.encoder import Encoder
from lightning_embed.errors import ConfigError, nearest
from lightning_embed.evaluation import Evaluator, Nothing, ScoreCache
from lightning_embed.experts import BASE, JOINT, Expert, ExpertPlan, TrainSet
from lightning_embed.merge import MergeStrategy, Source
from lightning_embed.merge.checkpoint import ModelDirectory
from lightning_embed.merge.engine import merge_models
from lightning_embed.report import Run
from lightning_embed.types import Results

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
    data = build.datasets(cfg)
    base = build.encoder(cfg, data.values())
    train_sets = {
        n: TrainSet(d.options.task, len(d.train), d.options.batch_size) for n, d in data.items() if d.train is not None
    }
    plan: ExpertPlan = registry.build("experts", config.plain(cfg.experts))
    strategy, evaluator = build.strategy(cfg), build.evaluator(cfg)
    losses = build.losses(cfg, {s.task for s in train_sets.values()})
    preparing.check_rows(losses, data, cfg.mining.datasets, base.dim)
    _check_metric(cfg, evaluator, data)
    if not cfg.inspect:
        provenance.claim(cfg, out)
    experts = plan.chosen(train_sets, cfg.seed, preparing.measure(console, cfg, data, base, out))
    sources = _sources_of(plan, experts, train_sets, out / "models")
    if strategy is not None and plan.only is None:
        strategy.check([source.size for source in sources], has_base=True, has_probe=False)
    trained = [expert for expert in experts if expert.path is None]
    modules = [build.datamodule(cfg, data, base, expert) for expert in trained]
    for expert, module in zip(trained, modules, strict=True):
        fitting.check(cfg, plan, expert, module)
    joint = build.datamodule(cfg, data, base, Expert(JOINT, dict.fromkeys(train_sets)))
    if cfg.inspect:
        inspection.show(console, cfg, base, data, trained, modules, joint)
        return None
    _start(cfg, out, base)
    inspection.show_experts(console, cfg, trained, modules, joint)
    data = preparing.mined(console, cfg, data, base, out)
    for expert in trained:
        fitting.fit(console, cfg, data, plan, expert, out)
    if plan.only is not None or dist.rank() != 0:
        dist.leave()
        return None
    dist.leave()
    return _merge_and_measure(cfg, out, strategy, sources, out / "models" / BASE, evaluator, data)


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
        if source.path.parent != models:
            ModelDirectory.open(source)
    return sources


def merge(cfg: DictConfig) -> float | None:
    """Merge model directories and measure them. Returns the `optimized_metric`, in points."""
    out, strategy, evaluator = Path(cfg.out), build.strategy(cfg), build.evaluator(cfg)
    sources = _sources(cfg)
    if strategy is not None:
        strategy.check([source.size for source in sources], has_base=cfg.base is not None, has_probe=False)
    data = build.datasets(cfg)
    provenance.write(cfg, out)
    base = None if cfg.base is None else Path(cfg.base)
    return _merge_and_measure(cfg, out, strategy, sources, base, evaluator, data)


def _sources(cfg: DictConfig) -> list[Source]:
    """The model directories that `sources` names, glob patterns expanded."""
    paths = [Path(path) for pattern in cfg.sources for path in (sorted(glob.glob(pattern)) or [pattern])]
    sizes = list(cfg.sizes) if cfg.sizes is not None else [None] * len(paths)
    if len(sizes) != len(paths):
        raise ConfigError(f"sizes has {len(sizes)} numbers for {len(paths)} sources: give one each, or null.")
    for path in (*paths, *([Path(cfg.base)] if cfg.base is not None else [])):
        if not path.is_dir():
            raise ConfigError(f"{path} is no directory: sources and base are model directories on this machine.")
    names = _distinct([path.resolve() for path in paths])
    return [Source(path, name, size) for path, name, size in zip(paths, names, sizes, strict=True)]


def _distinct(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, with as many parts before it as it takes to tell them apart."""
    for depth in range(1, 10):
        names = ["-".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names) and BASE not in names:
            break
    return names


def _check_metric(cfg: DictConfig, evaluator: Evaluator, data: Mapping[str, EmbeddingDataset]) -> None:
    """Refuse an `optimized_metric` that nothing will measure."""
    tasks = {str(s.task) for d in data.values() for s in d.eval_sets if s.split == "dev"}
    wanted = cfg.optimized_metric.removeprefix("dev/")
    if not isinstance(evaluator, Nothing) and wanted not in ("mean", *tasks):
        raise ConfigError(f"optimized_metric=dev/{wanted}: no dataset has such a dev set. {nearest(wanted, tasks)}")


def _start(cfg: DictConfig, out: Path, base: Encoder) -> None:
    """Rank zero writes what does not change any more: run.yaml, and the base through the same save as every expert."""
    if dist.launched_rank() == 0:
        provenance.write(cfg, out)
        if not (out / "models" / BASE).exists():
            base.export(out / "models" / BASE)


def _merge_and_measure(
    cfg: DictConfig,
    out: Path,
    strategy: MergeStrategy | None,
    sources: Sequence[Source],
    base: Path | None,
    evaluator: Evaluator,
    data: Mapping[str, EmbeddingDataset],
) -> float | None:
    """Steps 6 to 9: merge what was exported, score base, sources and the merged model, report."""
    models = ({BASE: base} if base is not None else {}) | {source.name: source.path for source in sources}
    run = Run(out, evaluation=config.digest([config.plain(cfg.evaluation), config.plain(cfg.data.datasets)]))
    scores = ScoreCache(
        evaluator, [s for d in data.values() for s in d.eval_sets], CACHE / "scores", build.loader(cfg, data.values())
    )
    merged = None if strategy is None else _merge_name(cfg, strategy, sources, base)
    with build.loggers(cfg, merged or "evaluation", "merge") as loggers:
        if strategy is not None and merged is not None:
            models[merged] = _merged(cfg, out / "merged" / merged, strategy, sources, base)
        for name, path in models.items() if not isinstance(evaluator, Nothing) else ():
            console.print(f"evaluating {name}")
            run.add(name, scores(path))
        run.print(console)
        report = run.write_html(config.plain(cfg, as_words=True))
        _log(loggers, run.models)
    console.print(f"models, merge and report: {report.parent}")
    return run.metric(merged or sources[-1].name, cfg.optimized_metric)


def _merge_name(cfg: DictConfig, strategy: MergeStrategy, sources: Sequence[Source], base: Path | None) -> str:
    """The strategy, and a hash of all that the merge depends on."""
    given = [(source.name, str(source.path), source.size) for source in sources]
    recipe = [config.plain(cfg.merge), given, str(base), cfg.seed, cfg.out_dtype]
    return f"{strategy.word}-{config.digest(recipe)}"


def _merged(
    cfg: DictConfig, target: Path, strategy: MergeStrategy, sources: Sequence[Source], base: Path | None
) -> Path:
    """The merged model's directory; a merge that is there, and younger than its sources, is left as it is."""
    record = target / "merge.json"
    inputs = [source.path for source in sources] + ([base] if base is not None else [])
    if not record.exists() or record.stat().st_mtime_ns < max(map(_changed, inputs)):
        console.print(f"merging {', '.join(source.name for source in sources)} by {strategy.word}")
        merge_models(strategy, sources, base, target, out_dtype=cfg.out_dtype, seed=cfg.seed)
    return target / "model"


def _changed(model: Path) -> int:
    """When the weights of a model directory were last written, in nanoseconds."""
    return max((file.stat().st_mtime_ns for file in model.glob("*.safetensors")), default=0)


def _log(loggers: Sequence[Logger], models: Mapping[str, Results]) -> None:
    """Every score as a metric, and all of them as one table where the logger has tables."""
    rows = [
        (model, split, test, score["task"], score["metric"], score["in_domain"], score["score"])
        for model, results in models.items()
        for split, scores in results.items()
        for test, score in scores.items()
    ]
    for logger in loggers:
        logger.log_metrics({f"{row[1]}/{row[2]}/{row[0]}": row[-1] for row in rows}, step=0)
        if hasattr(logger, "log_table"):
            columns = ["model", "split", "test", "task", "metric", "in_domain", "score"]
            logger.log_table("results", columns=columns, data=rows)
