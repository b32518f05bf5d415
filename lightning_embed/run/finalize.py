"""The end of a run, when all models are there: merge, examine, measure, report, push.

What takes seconds to import (Lightning, transformers, mteb) is imported when there is something to measure.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.status import Status

from lightning_embed import registry
from lightning_embed.card import Training, write_cards
from lightning_embed.config.identity import digest, evaluation_hash, run_hash
from lightning_embed.config.values import plain, told
from lightning_embed.logger import run_log
from lightning_embed.merge import MergeStrategy, Source
from lightning_embed.merge.checkpoint.directory import RECORD_FILE, settle
from lightning_embed.merge.checkpoint.lora import is_adapter
from lightning_embed.merge.engine import MODEL_FOLDER, MergeSpec, OutputFormat, merge_models
from lightning_embed.merge.preparation import Preparation
from lightning_embed.merge.record.freshness import is_current
from lightning_embed.merge.record.record import MergeRecord
from lightning_embed.merge.replay import Replay
from lightning_embed.report import Run, ensemble_name
from lightning_embed.run import doctor
from lightning_embed.run.cost import Costs
from lightning_embed.run.doctor import MakeProbe
from lightning_embed.storage import hub
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


@dataclass(frozen=True)
class Ending:
    """What a run does with its models: merge them, score base, sources and the merged model, report.

    Args:
        cfg: of the run.
        strategy: how to merge; None: examine and measure only.
        sources: what was exported.
        base: what they started from.
        scores: measures a model; None: nothing is measured.
        make_probe: makes what a strategy looks at data with; None: there is no data.
        recipe: a merge to be repeated: of these sources by this strategy.
        costs: of the sources, where they are known.
        trainings: of the sources that this run trained, for their cards.
    """

    cfg: DictConfig
    strategy: MergeStrategy | None
    sources: Sequence[Source]
    base: Path | None
    scores: Scores | None
    make_probe: MakeProbe | None
    recipe: Replay | None = None
    costs: Costs | None = None
    trainings: Mapping[str, Training] | None = None

    def run(self) -> float | None:
        """Do it. Returns the `optimized_metric`, in points."""
        cfg, run = self.cfg, Run(self._out, evaluation=evaluation_hash(self.cfg))
        with self._loggers() as loggers:
            target = self._target(loggers)
            models = self._models(target)
            if target is not None:
                doctor.show(console, cfg, self._out, target, self.sources, self.base, self.make_probe)
            if self.scores is not None:
                self._measure(run, self.scores, models, target)
            run.print(console, [*models, self._ensemble])
            report = run.write_html(told(cfg))
            merged = None if self.strategy is None else models[self.name]
            write_cards(cfg, run, self.sources, self.base, merged, self.trainings)
            run_log.log_merge(loggers, cfg, run, self.name, self.sources, self.base, target)
        console.print(f"models, merge and report: {report.parent}")
        if cfg.push_to_hub is not None:
            message = f"{self.name} of run {run_hash(cfg)}, by lightning_embed"
            console.print(f"pushed: {hub.push(models[self.name], cfg.push_to_hub, cfg.push_private, message)}")
        return run.metric(self.name, cfg.optimized_metric)

    @property
    def _out(self) -> Path:
        return Path(self.cfg.out)

    @property
    def _ensemble(self) -> str:
        return ensemble_name(len(self.sources))

    @property
    def _looks(self) -> bool:
        """Whether the merge needs data."""
        return self.strategy is not None and self.strategy.needs_probe and self.recipe is None

    @cached_property
    def name(self) -> str:
        """Of the model that the run is for: a strategy, with a hash of all that the merge depends on; or the last source."""
        cfg, strategy, make_probe = self.cfg, self.strategy, self.make_probe
        if strategy is None:
            return self.sources[-1].name
        if self.recipe is not None:
            return f"{strategy.word}-{digest(self.recipe.record.sha256)}"
        given = [(source.name, str(source.path), source.size) for source in self.sources]
        parts = [plain(cfg.merge), given, str(self.base), cfg.seed, cfg.out_dtype]
        if make_probe is not None:
            parts += [make_probe.looks_at] * strategy.needs_probe + [make_probe.chooses_by] * strategy.needs_scores
        return f"{strategy.word}-{digest(parts)}"

    @contextmanager
    def _loggers(self) -> Iterator[Sequence[Any]]:
        if not (self._looks or self.scores is not None or set(self.cfg.logger) > {"csv"}):
            yield []  # csv alone has nothing to say of a merge
            return
        from lightning_embed.logger.open import open_loggers

        with open_loggers(self.cfg, "evaluation" if self.strategy is None else self.name, "merge") as loggers:
            yield loggers

    @cached_property
    def _opened(self) -> dict[str, Path]:
        """The sources as what computes embeddings can open them: an adapter is folded to `<out>/folded/<name>/` first."""
        computes = self._looks or self.scores is not None
        return {
            source.name: self._folded(source) if computes and is_adapter(source.path) else source.path
            for source in self.sources
        }

    def _folded(self, source: Source) -> Path:
        target = self._out / "folded" / source.name
        if not is_current(target, [source], self.base):
            soup = registry.build("merge", {"name": "soup"})
            merge_models(MergeSpec(soup, [source], self.base), target, output=OutputFormat("auto"))
        return target / MODEL_FOLDER

    def _models(self, target: Path | None) -> dict[str, Path]:
        """All models of the run, in the order of its table."""
        models = ({BASE: self.base} if self.base is not None else {}) | self._opened
        return models if self.strategy is None or target is None else models | {self.name: target / MODEL_FOLDER}

    def _target(self, loggers: Sequence[Any]) -> Path | None:
        """The folder of the merge, which is made if it is not there; without one, that of what the doctor found."""
        if self.strategy is None:
            return doctor.alone(console, self._out, self.sources, self.base)
        target = self._out / "merged" / self.name
        if self.recipe is not None:
            console.print(f"repeating {self.recipe.file}")
            self.recipe.repeat(self.strategy, target)
        else:
            self._merge(self.strategy, target, loggers)
        return target

    def _merge(self, strategy: MergeStrategy, target: Path, loggers: Sequence[Any]) -> None:
        """Merge; what is there, of the same models and by the same code, is left as it is."""
        settle(target)
        if is_current(target, self.sources, self.base, Path(inspect.getfile(type(strategy)))):
            return
        console.print(f"merging {', '.join(source.name for source in self.sources)} by {strategy.word}")
        probe, looks_at = None, {}
        if self._looks and self.make_probe is not None:
            probe, looks_at = self.make_probe(self._opened[self.sources[0].name]), plain(self.cfg.probe)
        with console.status("merging") as line:
            record = merge_models(
                MergeSpec(strategy, self.sources, self.base, self.cfg.seed),
                target,
                output=OutputFormat(self.cfg.out_dtype),
                preparation=Preparation(probe, looks_at, _Curves(loggers, line)),
            )
        for remark in record.remarks():
            console.print(remark, markup=False, highlight=False)

    def _measure(self, run: Run, scores: Scores, models: Mapping[str, Path], target: Path | None) -> None:
        """Score the models, and the ensemble of the sources where it is asked for."""
        for name, path in models.items():
            if name not in self._opened or self.cfg.measure_sources:
                console.print(f"evaluating {name}")
                run.add(name, scores(path), self._cost(name, target))
        if self.cfg.ensemble and len(self.sources) > 1:
            console.print(f"evaluating {self._ensemble}")
            run.add(self._ensemble, scores(*self._opened.values()), None if self.costs is None else self.costs.all)

    def _cost(self, name: str, target: Path | None) -> float | None:
        """In rows: of the base, of a source, or of the merge in `target`."""
        if name == BASE:
            return 0.0
        if self.costs is None:
            return None
        if target is None or name in self.costs.sources:
            return self.costs.sources[name]
        return self.costs.all + MergeRecord.read(target / RECORD_FILE).probe_rows
