"""A merge of existing models: `prepare`, then `execute`, which ends with `finalize` like a training run.

Modules that take seconds to import (Lightning, transformers, mteb) are imported only for an evaluation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from lightning_embed.config import run_yaml, schema
from lightning_embed.config.components import check_signature
from lightning_embed.config.content import model_folder, source_paths
from lightning_embed.config.identity import Identity, freeze
from lightning_embed.config.queries import has_tests
from lightning_embed.errors import ConfigError
from lightning_embed.merge import Source
from lightning_embed.merge.replay import Replay
from lightning_embed.run import compare, doctor
from lightning_embed.run.doctor import MakeProbe
from lightning_embed.run.finalize import Finalize, Scores, strategy_of
from lightning_embed.run.terminal import console
from lightning_embed.runtime import launched
from lightning_embed.storage import hub, mirroring
from lightning_embed.storage.cache_dir import CACHE
from lightning_embed.storage.names import label
from lightning_embed.storage.publish import settle_below
from lightning_embed.storage.unique_names import distinct
from lightning_embed.types import BASE


def merge(cfg: DictConfig) -> float | None:
    """Merge model directories and evaluate them, or compare finished runs. Returns the `optimized_metric`, in points.

    Raises:
        LightningEmbedError: an error that the user can fix.
    """
    if launched.by_torchrun() > 1:
        return _by_all_ranks(cfg)
    return _alone(cfg)


def _alone(cfg: DictConfig) -> float | None:
    if cfg.compare:
        compare.compare(cfg)
        return None
    with mirroring.of_run(cfg.mirror):
        return execute(prepare(cfg))


def _by_all_ranks(cfg: DictConfig) -> float | None:
    """The work of rank zero; the others embed their share of the texts. None on all but the first."""
    from lightning_embed.run import ranks, service
    from lightning_embed.runtime import distributed

    with ranks.together(ranks.of_torchrun()):
        ranks.form_group()
        if distributed.rank() != 0:
            service.serve()
            return None
        with service.lead():
            return _alone(cfg)


@dataclass(frozen=True)
class PreparedMerge:
    """A merge that is ready to start."""

    identity: Identity
    finalize: Finalize


def prepare(cfg: DictConfig) -> PreparedMerge:
    """Check a merge and build its parts; nothing is written, except what a copy of the run has.

    Raises:
        LightningEmbedError: an error that the user can fix.
    """
    identity = freeze(cfg)
    mirroring.fetch(Path(cfg.out))
    replay = None if cfg.recipe is None else Replay.read(Path(cfg.recipe))
    if replay is None:
        strategy, sources, base = strategy_of(cfg), _sources(cfg), _base(cfg)
    else:
        strategy, sources, base = schema.built("merge", replay.options), replay.sources, replay.base
    has_data = bool(cfg.data.datasets)
    if strategy is not None:
        sizes = [source.size for source in sources]
        strategy.validate_inputs(sizes, base is not None, has_probe=has_data or replay is not None)
    doctor.validate_doctor(cfg, sources, base is not None, has_probe=has_data)
    if strategy is None:
        hub.require_one_model(cfg.push_to_hub, [])
    run_yaml.refuse_other_options(Path(cfg.out), identity)
    scores, make_probe = _measuring(cfg)
    finalize = Finalize(cfg, strategy, sources, base, scores, make_probe, replay)
    for name, node in cfg.logger.items() if finalize.uses_loggers else ():  # a logger imports Lightning, three seconds
        check_signature(f"logger.{name}", node)
    return PreparedMerge(identity, finalize)


def execute(prepared: PreparedMerge) -> float | None:
    """Merge, evaluate and report. Returns the `optimized_metric`, in points."""
    cfg, out = prepared.finalize.cfg, Path(prepared.finalize.cfg.out)
    if changed := run_yaml.changed_content(out, prepared.identity):  # a merge is named by the content of its models
        console.print(f"Changed since the last merge in {out}: {', '.join(changed)}.", markup=False, highlight=False)
    for folder in (out, CACHE):
        settle_below(folder)
    run_yaml.write(cfg, out, prepared.identity)
    return prepared.finalize.run()


def _sources(cfg: DictConfig) -> list[Source]:
    """The model directories in `sources`, with glob patterns expanded."""
    paths = source_paths(cfg.sources)
    sizes = list(cfg.sizes) if cfg.sizes is not None else [None] * len(paths)
    if len(sizes) != len(paths):
        raise ConfigError(f"sizes has {len(sizes)} numbers for {len(paths)} sources: give one each, or null.")
    base = _base(cfg)
    for path in (*paths, *([base] if base is not None else [])):
        if not path.is_dir():
            raise ConfigError(f"{path} is not a directory: sources and base are local model directories.")
    folders = [model_folder(path) for path in paths]
    resolved = [folder.resolve() for folder in folders]
    for path in resolved:
        if resolved.count(path) > 1:
            raise ConfigError(f"sources: {path} occurs twice. Remove one; to give it more weight, use merge.weights.")
    _refuse_out_inside(Path(cfg.out), [*folders, *([base] if base is not None else [])])
    names = list(map(label, distinct([path.resolve() for path in paths], taken=[BASE])))
    return [Source(folder, name, size) for folder, name, size in zip(folders, names, sizes, strict=True)]


def _base(cfg: DictConfig) -> Path | None:
    return None if cfg.base is None else model_folder(Path(cfg.base).expanduser())


def _refuse_out_inside(out: Path, models: Sequence[Path]) -> None:
    """Refuse to write into a model that is to be merged, which would change it."""
    for model in models:
        if out.resolve().is_relative_to(model.resolve()):
            raise ConfigError(f"out={out} is inside {model}, which is to be merged. Choose a different out.")


def _measuring(cfg: DictConfig) -> tuple[Scores | None, MakeProbe | None]:
    """The scores on `data` or a benchmark, and the maker of probes from the rows of `data`; None without data."""
    if not has_tests(cfg):
        return None, None
    from lightning_embed.run import build
    from lightning_embed.run.merge_probe import ProbeMaker

    data = build.datasets(cfg)
    return build.scores(cfg, build.evaluator(cfg), data), ProbeMaker(cfg, data)
