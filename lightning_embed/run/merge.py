"""What merge.py does: name the models that are there, and end as a training does (`ending`).

What takes seconds to import (Lightning, transformers, mteb) is imported when there is something to measure.
"""

import glob
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from lightning_embed import registry
from lightning_embed.config import run_yaml, schema
from lightning_embed.config.queries import has_tests
from lightning_embed.config.values import plain
from lightning_embed.errors import ConfigError
from lightning_embed.merge import MergeStrategy, Source
from lightning_embed.merge.replay import Replay
from lightning_embed.run import compare, doctor
from lightning_embed.run.doctor import MakeProbe
from lightning_embed.run.finalize import Ending, Scores
from lightning_embed.storage import hub
from lightning_embed.storage.unique_names import distinct
from lightning_embed.types import BASE

console = Console()


def merge(cfg: DictConfig) -> float | None:
    """Merge model directories and measure them. Returns the `optimized_metric`, in points.

    Raises:
        LightningEmbedError: whatever a user can mend.
    """
    if cfg.compare:
        compare.compare(console, cfg)
        return None
    out = Path(cfg.out)
    recipe = None if cfg.recipe is None else Replay.read(Path(cfg.recipe))
    if recipe is None:
        strategy, sources, base = strategy_of(cfg), _sources(cfg), None if cfg.base is None else Path(cfg.base)
    else:
        strategy, sources, base = schema.built("merge", recipe.options), recipe.sources, recipe.base
    if strategy is not None:
        may_look = recipe is not None or bool(cfg.data.datasets)
        strategy.validate_inputs([source.size for source in sources], base is not None, has_probe=may_look)
    doctor.check(cfg, sources, base is not None, has_probe=bool(cfg.data.datasets))
    if strategy is None:
        hub.check_one(cfg.push_to_hub, [])
    scores, make_probe = _measuring(cfg)
    run_yaml.write(cfg, out)
    return Ending(cfg, strategy, sources, base, scores, make_probe, recipe).run()


def strategy_of(cfg: DictConfig) -> MergeStrategy | None:
    """The merge strategy; None: merge=none."""
    return None if cfg.merge.name == "none" else registry.build("merge", plain(cfg.merge))


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
    names = distinct(resolved, taken=[BASE])
    return [Source(path, name, size) for path, name, size in zip(paths, names, sizes, strict=True)]


def _measuring(cfg: DictConfig) -> tuple[Scores | None, MakeProbe | None]:
    """What measures models on `data` or a benchmark, and what looks at them with the rows of `data`, if there are any."""
    if not has_tests(cfg):
        return None, None
    from lightning_embed.run import build
    from lightning_embed.run.merge_probe import ProbeMaker

    data = build.datasets(cfg)
    return build.scores(cfg, build.evaluator(cfg), data), ProbeMaker(cfg, data)
