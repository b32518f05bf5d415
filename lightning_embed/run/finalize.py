"""The end of a run: merge, examine, evaluate, report, publish.

Modules that take seconds to import (Lightning, transformers, mteb) are imported only for an evaluation.
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
from rich.status import Status

from lightning_embed import registry
from lightning_embed.card import Training, write_cards
from lightning_embed.config.identity import evaluation_hash, merge_hash
from lightning_embed.config.values import plain, shown_config
from lightning_embed.encoder.export import export
from lightning_embed.encoder.opening import OPENER
from lightning_embed.logger import run_log
from lightning_embed.merge import MergeStrategy, Source, Vocabulary
from lightning_embed.merge.checkpoint.directory import MODEL_FOLDER, RECORD_FILE, settle
from lightning_embed.merge.checkpoint.lora import is_adapter
from lightning_embed.merge.checkpoint.quantised import is_quantised
from lightning_embed.merge.engine import MergeSpec, OutputFormat, merge_models
from lightning_embed.merge.preparation import Preparation
from lightning_embed.merge.record.freshness import damaged_file, is_current
from lightning_embed.merge.record.record import MergeRecord
from lightning_embed.merge.replay import Replay
from lightning_embed.report import Run, ensemble_name
from lightning_embed.run import doctor
from lightning_embed.run.cost import Costs
from lightning_embed.run.doctor import MakeProbe
from lightning_embed.run.terminal import console
from lightning_embed.storage import hub, mirroring
from lightning_embed.storage.checksum import digest
from lightning_embed.types import BASE, Results

_SHOWN = 4  # metrics of a strategy on the status line

Scores = Callable[..., Results]
"""Scores the model in a directory, or the ensemble of the models in several."""


def _is_converted(model: Path) -> bool:
    return is_adapter(model) or is_quantised(model)


def strategy_of(cfg: DictConfig) -> MergeStrategy | None:
    """The merge strategy of a config; None: merge=none."""
    return None if cfg.merge.name == "none" else registry.build("merge", plain(cfg.merge))


@dataclass(frozen=True)
class _Curves:
    """A `Reporter` that logs the metrics of a strategy and shows the last ones on a status line of the terminal."""

    loggers: Sequence[Any]
    line: Status

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the `metrics` of `step` as merge/<name>."""
        shown = ", ".join(f"{name} {value:.4g}" for name, value in islice(metrics.items(), _SHOWN))
        self.line.update(f"step {step}: {shown}")
        for logger in self.loggers:
            logger.log_metrics({f"merge/{name}": value for name, value in metrics.items()}, step=step)


@dataclass(frozen=True)
class Finalize:
    """The end of a run, when all its models exist: merge, examine, evaluate, report, publish.

    Args:
        cfg: config of the run.
        strategy: merge strategy; None: examine and evaluate only.
        sources: models to merge.
        base: model that the sources started from.
        scores: scores a model; None: no evaluation.
        make_probe: makes the probe of a strategy or an examination; None: the run has no data.
        replay: earlier merge to repeat, of these sources by this strategy.
        costs: costs of the sources; None: unknown.
        trainings: trainings of the sources that this run trained, for their cards.
    """

    cfg: DictConfig
    strategy: MergeStrategy | None
    sources: Sequence[Source]
    base: Path | None
    scores: Scores | None
    make_probe: MakeProbe | None
    replay: Replay | None = None
    costs: Costs | None = None
    trainings: Mapping[str, Training] | None = None

    def run(self) -> float | None:
        """Run all steps. Returns the `optimized_metric`, in points."""
        results = Run(self._out, evaluation=evaluation_hash(self.cfg))
        with self._loggers() as loggers:
            target = self._merge(loggers)
            mirroring.published()
            models = self._models(target)
            self._examine(target)
            self._evaluate(results, models, target)
            self._report(results, models, target, loggers)
        self._publish(models)
        return results.metric(self.name, self.cfg.optimized_metric)

    def _merge(self, loggers: Sequence[Any]) -> Path | None:
        """Merge the sources, unless the folder holds a merge of the same models by the same code.

        Returns:
            The folder of the merge; without a strategy, that of an examination, or None for a single source.
        """
        if self.strategy is None:
            return doctor.examined_alone(self._out, self.sources, self.base, self._vocabulary)
        target = self._out / "merged" / self.name
        if self.replay is not None:
            console.print(f"repeating {self.replay.file}")
            self.replay.repeat(self.strategy, target, OPENER)
        else:
            settle(target)
            if not self._is_kept(target, self.sources, Path(inspect.getfile(type(self.strategy)))):
                self._merge_anew(self.strategy, target, loggers)
        return target

    def _examine(self, target: Path | None) -> None:
        """Print and draw the geometry of the sources, and the loss between them if the doctor measures it."""
        if target is not None:
            doctor.show(self.cfg, self._out, target, self.sources, self.base, self.make_probe)

    def _evaluate(self, results: Run, models: Mapping[str, Path], target: Path | None) -> None:
        """Score the models and, with ensemble=true, the ensemble of the sources."""
        if self.scores is None:
            return
        for name, path in models.items():
            if name not in self._opened or self.cfg.measure_sources:
                console.print(f"evaluating {name}")
                results.add(name, self.scores(path), self._cost(name, target))
        if self.cfg.ensemble and len(self.sources) > 1:
            console.print(f"evaluating {self._ensemble}")
            cost = None if self.costs is None else self.costs.all
            results.add(self._ensemble, self.scores(*self._opened.values()), cost)

    def _report(self, results: Run, models: Mapping[str, Path], target: Path | None, loggers: Sequence[Any]) -> None:
        """Print the table; write report.html, the model cards and the logged results."""
        results.print(console, [*models, self._ensemble])
        seen = [[name, *row] for name, training in (self.trainings or {}).items() for row in training.rows_seen()]
        report = results.write_html(shown_config(self.cfg), seen)
        merged = None if self.strategy is None else models[self.name]
        write_cards(self.cfg, results, self.sources, self.base, merged, self.trainings)
        run_log.log_merge(loggers, self.cfg, results, self.name, self.sources, self.base, target)
        written = {"models": (self._out / "models").exists(), "merge": merged is not None}
        named = ", ".join(name for name, is_there in written.items() if is_there)
        console.print(f"{named}{' and ' * bool(named)}report: {report.parent}")

    def _publish(self, models: Mapping[str, Path]) -> None:
        """Write the model in further formats; push it to the hub."""
        cfg = self.cfg
        for word in cfg.export:
            cosine = export(models[self.name], word)
            console.print(f"exported to {models[self.name] / word}: cosines with torch from {cosine:.5f}")
        if cfg.push_to_hub is not None:
            message = f"{self.name} of run {self._out.name}, by lightning_embed"
            console.print(f"pushed: {hub.push(models[self.name], cfg.push_to_hub, cfg.push_private, message)}")

    @property
    def _out(self) -> Path:
        return Path(self.cfg.out)

    @property
    def _ensemble(self) -> str:
        return ensemble_name(len(self.sources))

    @property
    def _needs_probe(self) -> bool:
        """Whether the merge needs a probe."""
        return self.strategy is not None and self.strategy.needs_probe and self.replay is None

    @cached_property
    def name(self) -> str:
        """Name of the run's result: the strategy and a hash of the merge's inputs; without a merge, the last source."""
        strategy, make_probe = self.strategy, self.make_probe
        if strategy is None:
            return self.sources[-1].name
        if self.replay is not None:
            return f"{strategy.word}-{digest(self.replay.record.sha256)}"
        data = []
        if make_probe is not None and strategy.needs_probe:
            data.append(make_probe.rows_hash)
        if make_probe is not None and strategy.needs_scores:
            data.append(make_probe.scores_hash)
        return f"{strategy.word}-{merge_hash(self.cfg, self.sources, self.base, data)}"

    @property
    def uses_loggers(self) -> bool:
        """Whether anything is logged: csv alone would log nothing of a merge that is not measured."""
        return self._needs_probe or self.scores is not None or set(self.cfg.logger) > {"csv"}

    @contextmanager
    def _loggers(self) -> Iterator[Sequence[Any]]:
        if not self.uses_loggers:
            yield []
            return
        from lightning_embed.logger.open import open_loggers

        with open_loggers(self.cfg, "evaluation" if self.strategy is None else self.name, "merge") as loggers:
            yield loggers

    @cached_property
    def _opened(self) -> dict[str, Path]:
        """The sources as directories that an encoder can load: adapters are folded into `<out>/folded/<name>/`."""
        computes = self._needs_probe or self.scores is not None
        return {
            source.name: self._folded(source) if computes and _is_converted(source.path) else source.path
            for source in self.sources
        }

    def _folded(self, source: Source) -> Path:
        """An adapter in its base, with its own vocabulary."""
        return self._alone(source, "folded", self._vocabulary and Vocabulary.first)

    def _alone(self, source: Source, folder: str, vocabulary: Vocabulary | None) -> Path:
        """A source as a model directory with this vocabulary, in `<out>/<folder>/<name>/`."""
        target = self._out / folder / source.name
        if not self._is_kept(target, [source]):
            allow = None if self.strategy is None else self.strategy.allow
            soup = registry.build("merge", {"name": "soup", "allow": allow})
            spec = MergeSpec(soup, [source], self.base, vocabulary=vocabulary)
            merge_models(spec, target, output=OutputFormat("auto"), opener=OPENER)
        return target / MODEL_FOLDER

    @property
    def _vocabulary(self) -> Vocabulary | None:
        """The model whose vocabulary the merged one has."""
        return self.cfg.vocabulary if self.replay is None else self.replay.vocabulary

    def _probe_model(self) -> Path:
        """The model in which a probe computes with the parameters of others: the first source, with their vocabulary."""
        first = self.sources[0]
        if self._vocabulary is not Vocabulary.base:
            return self._opened[first.name]
        return self._alone(first, "probe", Vocabulary.base)

    def _is_kept(self, target: Path, sources: Sequence[Source], code: Path | None = None) -> bool:
        """Whether a merge of these models by this code is there, as it was written."""
        if not is_current(target, sources, self.base, code, OPENER):
            return False
        if (file := damaged_file(target)) is None:
            return True
        console.print(f"{file} is not the file that was merged. Merging again.", markup=False, highlight=False)
        return False

    def _models(self, target: Path | None) -> dict[str, Path]:
        """All models of the run, in the order of its table."""
        models = ({BASE: self.base} if self.base is not None else {}) | self._opened
        return models if self.strategy is None or target is None else models | {self.name: target / MODEL_FOLDER}

    def _merge_anew(self, strategy: MergeStrategy, target: Path, loggers: Sequence[Any]) -> None:
        console.print(f"merging {', '.join(source.name for source in self.sources)} by {strategy.word}")
        probe, probe_options = None, {}
        if self._needs_probe and self.make_probe is not None:
            probe, probe_options = self.make_probe(self._probe_model()), plain(self.cfg.probe)
        with console.status("merging") as line:
            record = merge_models(
                MergeSpec(strategy, self.sources, self.base, self.cfg.seed, self._vocabulary),
                target,
                output=OutputFormat(self.cfg.out_dtype),
                preparation=Preparation(probe, probe_options, _Curves(loggers, line)),
                opener=OPENER,
            )
        for remark in record.remarks():
            console.print(remark, markup=False, highlight=False)

    def _cost(self, name: str, target: Path | None) -> float | None:
        """Cost in rows of the base, of a source, or of the merge in `target`."""
        if name == BASE:
            return 0.0
        if self.costs is None:
            return None
        if target is None or name in self.costs.sources:
            return self.costs.sources[name]
        return self.costs.all + MergeRecord.read(target / RECORD_FILE).probe_rows
