"""The end of a run, and all of merge.py: merge, evaluate, report.

What takes seconds to import (Lightning, transformers, mteb) is imported when there is something to measure.
"""

import glob
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.status import Status

from lightning_embed import comparing, config, examination, hub, logbook, provenance, registry
from lightning_embed.card import Training, write_cards
from lightning_embed.cost import Costs
from lightning_embed.errors import ConfigError
from lightning_embed.evaluating import evaluation_hash, has_tests
from lightning_embed.examination import MakeProbe
from lightning_embed.merge import MergeStrategy, Probe, Source
from lightning_embed.merge.adapter import is_adapter
from lightning_embed.merge.current import is_current
from lightning_embed.merge.directory import RECORD_FILE, settle
from lightning_embed.merge.engine import MODEL_FOLDER, merge_models
from lightning_embed.merge.recipe import Recipe
from lightning_embed.merge.record import MergeRecord
from lightning_embed.report import Run, ensemble_name
from lightning_embed.types import BASE, Results

console = Console()

_SHOWN = 4  # of a strategy's numbers, on the terminal

Scores = Callable[..., Results]
"""Measures the model in a directory, or the ensemble of those in several."""


@dataclass(frozen=True)
class _Curves:
    """A Reporter: a strategy's curves in every logger, and where it is as a live line of the terminal."""

    loggers: Sequence[Any]
    line: Status

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log `metrics` of `step` as merge/<name>."""
        shown = ", ".join(f"{name} {value:.4g}" for name, value in islice(metrics.items(), _SHOWN))
        self.line.update(f"step {step}: {shown}")
        for logger in self.loggers:
            logger.log_metrics({f"merge/{name}": value for name, value in metrics.items()}, step=step)


def merge(cfg: DictConfig) -> float | None:
    """Merge model directories and measure them. Returns the `optimized_metric`, in points.

    Raises:
        LightningEmbedError: whatever a user can mend.
    """
    if cfg.compare:
        comparing.compare(console, cfg)
        return None
    out = Path(cfg.out)
    recipe = None if cfg.recipe is None else Recipe.read(Path(cfg.recipe))
    if recipe is None:
        strategy, sources, base = strategy_of(cfg), _sources(cfg), None if cfg.base is None else Path(cfg.base)
    else:
        strategy, sources, base = config.built("merge", recipe.options), recipe.sources, recipe.base
    if strategy is not None:
        may_look = recipe is not None or bool(cfg.data.datasets)
        strategy.check([source.size for source in sources], base is not None, has_probe=may_look)
    examination.check(cfg, sources, base is not None, has_probe=bool(cfg.data.datasets))
    if strategy is None:
        hub.check_one(cfg.push_to_hub, [])
    scores, make_probe = _measuring(cfg)
    provenance.write(cfg, out)
    return finish(cfg, out, strategy, sources, base, scores, make_probe, recipe)


def strategy_of(cfg: DictConfig) -> MergeStrategy | None:
    """The merge strategy; None: merge=none."""
    return None if cfg.merge.name == "none" else registry.build("merge", config.plain(cfg.merge))


def _sources(cfg: DictConfig) -> list[Source]:
    """The model directories that `sources` names, glob patterns expanded."""
    paths = [Path(path) for pattern in cfg.sources for path in (sorted(glob.glob(pattern)) or [pattern])]
    sizes = list(cfg.sizes) if cfg.sizes is not None else [None] * len(paths)
    if len(sizes) != len(paths):
        raise ConfigError(f"sizes has {len(sizes)} numbers for {len(paths)} sources: give one each, or null.")
    for path in (*paths, *([Path(cfg.base)] if cfg.base is not None else [])):
        if not path.is_dir():
            raise ConfigError(f"{path} is no directory: sources and base are model directories on this machine.")
    resolved = [path.resolve() for path in paths]
    for path in resolved:
        if resolved.count(path) > 1:
            raise ConfigError(
                f"sources: {path} is there twice. Leave one out; to give it more weight, use merge.weights."
            )
    names = _distinct(resolved)
    return [Source(path, name, size) for path, name, size in zip(paths, names, sizes, strict=True)]


def _distinct(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, with as many parts before it as it takes to tell them apart."""
    for depth in range(1, 10):
        names = ["-".join(path.relative_to(path.anchor).parts[-depth:]) for path in paths]
        if len(set(names)) == len(names) and BASE not in names:
            break
    return names


def _measuring(cfg: DictConfig) -> tuple[Scores | None, MakeProbe | None]:
    """What measures models on `data` or a benchmark, and what looks at them with the rows of `data`, if there are any."""
    if not has_tests(cfg):
        return None, None
    from lightning_embed import build
    from lightning_embed.probe import ProbeMaker

    data = build.datasets(cfg)
    return build.scores(cfg, build.evaluator(cfg), data), ProbeMaker(cfg, data)


def finish(
    cfg: DictConfig,
    out: Path,
    strategy: MergeStrategy | None,
    sources: Sequence[Source],
    base: Path | None,
    scores: Scores | None,
    make_probe: MakeProbe | None,
    recipe: Recipe | None = None,
    costs: Costs | None = None,
    trainings: Mapping[str, Training] | None = None,
) -> float | None:
    """Merge what was exported, score base, sources and the merged model, report.

    Args:
        cfg: of the run.
        out: its folder.
        strategy: how to merge; None: examine and measure only.
        sources: what was exported.
        base: what they started from.
        scores: measures a model; None: nothing is measured.
        make_probe: makes what a strategy looks at data with; None: there is no data.
        recipe: a merge to be repeated: of these sources by this strategy.
        costs: of the sources, where they are known.
        trainings: of the sources that this run trained, for their cards.
    """
    looks = strategy is not None and strategy.needs_probe and recipe is None
    opened = {s.name: _opened(out, s, base) if looks or scores is not None else s.path for s in sources}
    models = ({BASE: base} if base is not None else {}) | opened
    run = Run(out, evaluation=evaluation_hash(cfg))
    merged = None if strategy is None else _merge_name(cfg, strategy, sources, base, make_probe, recipe)
    needed = looks or scores is not None or set(cfg.logger) > {"csv"}  # csv alone has nothing to say of a merge
    with _loggers(cfg, merged or "evaluation", needed) as loggers:
        if strategy is None or merged is None:
            target = examination.alone(console, out, sources, base)
        else:
            target = out / "merged" / merged
            models[merged] = target / MODEL_FOLDER
            if recipe is not None:
                console.print(f"repeating {recipe.file}")
                recipe.repeat(strategy, target)
            else:
                look = partial(make_probe, opened[sources[0].name]) if looks and make_probe is not None else None
                _merge(cfg, target, strategy, sources, base, look, loggers)
        if target is not None:
            examination.show(console, cfg, out, target, sources, base, make_probe)
        if scores is not None:
            for name, path in models.items():
                if name in opened and not cfg.measure_sources:
                    continue
                console.print(f"evaluating {name}")
                run.add(name, scores(path), _cost(name, target, costs))
            if cfg.ensemble and len(sources) > 1:
                name = ensemble_name(len(sources))
                console.print(f"evaluating {name}")
                run.add(name, scores(*opened.values()), None if costs is None else costs.all)
        run.print(console, [*models, ensemble_name(len(sources))])
        report = run.write_html(config.plain(cfg, as_words=True))
        write_cards(cfg, run, sources, base, None if merged is None else models[merged], trainings)
        logbook.log_merge(loggers, cfg, run, merged or sources[-1].name, sources, base, target)
    console.print(f"models, merge and report: {report.parent}")
    if cfg.push_to_hub is not None:
        name, message = merged or sources[-1].name, f"of run {config.run_hash(cfg)}, by lightning_embed"
        console.print(f"pushed: {hub.push(models[name], cfg.push_to_hub, cfg.push_private, f'{name} {message}')}")
    return run.metric(merged or sources[-1].name, cfg.optimized_metric)


def _cost(name: str, target: Path | None, costs: Costs | None) -> float | None:
    """In rows: of the base, of a source, or of the merge in `target`."""
    if name == BASE:
        return 0.0
    if costs is None:
        return None
    if target is None or name in costs.sources:
        return costs.sources[name]
    return costs.all + MergeRecord.read(target / RECORD_FILE).probe_rows


def _opened(out: Path, source: Source, base: Path | None) -> Path:
    """A source as what computes embeddings can open it: an adapter is folded to `<out>/folded/<name>/` first."""
    if not is_adapter(source.path):
        return source.path
    target = out / "folded" / source.name
    if not is_current(target, [source], base):
        merge_models(registry.build("merge", {"name": "soup"}), [source], base, target, out_dtype="auto")
    return target / MODEL_FOLDER


@contextmanager
def _loggers(cfg: DictConfig, name: str, needed: bool) -> Iterator[Sequence[Any]]:
    if not needed:
        yield []
        return
    from lightning_embed import build

    with build.loggers(cfg, name, "merge") as loggers:
        yield loggers


def _merge_name(
    cfg: DictConfig,
    strategy: MergeStrategy,
    sources: Sequence[Source],
    base: Path | None,
    make_probe: MakeProbe | None,
    recipe: Recipe | None,
) -> str:
    """The strategy, and a hash of all that the merge depends on."""
    if recipe is not None:
        return f"{strategy.word}-{config.digest(recipe.record.sha256)}"
    given = [(source.name, str(source.path), source.size) for source in sources]
    parts = [config.plain(cfg.merge), given, str(base), cfg.seed, cfg.out_dtype]
    if make_probe is not None:
        parts += [make_probe.looks_at] * strategy.needs_probe + [make_probe.chooses_by] * strategy.needs_scores
    return f"{strategy.word}-{config.digest(parts)}"


def _merge(
    cfg: DictConfig,
    target: Path,
    strategy: MergeStrategy,
    sources: Sequence[Source],
    base: Path | None,
    look: Callable[[], Probe] | None,
    loggers: Sequence[Any],
) -> None:
    """Merge; what is there, of the same models and by the same code, is left as it is."""
    settle(target)
    if is_current(target, sources, base, Path(inspect.getfile(type(strategy)))):
        return
    console.print(f"merging {', '.join(source.name for source in sources)} by {strategy.word}")
    probe = None if look is None else look()
    looks_at = None if probe is None else config.plain(cfg.probe)
    given = {"out_dtype": cfg.out_dtype, "seed": cfg.seed, "probe": probe, "looks_at": looks_at}
    with console.status("merging") as line:
        record = merge_models(strategy, sources, base, target, **given, reporter=_Curves(loggers, line))
    for remark in record.remarks():
        console.print(remark, markup=False, highlight=False)
