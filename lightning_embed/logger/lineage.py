"""Models as a logger keeps them: what each is, and the models that it was made of."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from omegaconf import DictConfig

from lightning_embed.config import run_yaml
from lightning_embed.logger.base import KeepsModels, Loggers
from lightning_embed.merge import Source
from lightning_embed.storage.checksum import digest, digests
from lightning_embed.types import BASE


@dataclass(frozen=True)
class Model:
    """A model directory, by what it is called in its run."""

    name: str
    folder: Path

    @property
    def artifact(self) -> str:
        """Its name among the artifacts of all runs: the same wherever it is asked.

        A base is called by its weights, because many runs start from it; another model by the run that wrote it and the
        name that it has there, and a stranger's by its name here.
        """
        if self.name == BASE:
            return f"{BASE}-{digest(self.sha256)}"
        folder = self.folder.resolve()
        for out in folder.parents[1:3]:  # <out>/models/<name>, <out>/merged/<name>/model
            if (run := run_yaml.read(out)) is not None:
                return _legal(f"{run['config']['name']}-{run['hash']}-{folder.relative_to(out).parts[1]}")
        return _legal(self.name)

    @property
    def sha256(self) -> dict[str, str]:
        """Of its weights, by file."""
        return digests(self.folder.glob("*.safetensors"))

    def told(self) -> dict[str, Any]:
        """What the metadata of another model say of it."""
        return {"name": self.name, "artifact": self.artifact, "path": str(self.folder), "sha256": self.sha256}


def _legal(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)[-128:]


def log_expert(loggers: Loggers, cfg: DictConfig, model: Model, start: Model, facts: Mapping[str, Any]) -> None:
    """Keep a trained model, and what it was trained from and on.

    Args:
        loggers: of its training.
        cfg: of the run.
        model: what was trained.
        start: what its training started from.
        facts: more to tell of it.
    """
    if keepers := [logger for logger in loggers if isinstance(logger, KeepsModels)]:
        metadata = {**_run(cfg), "sha256": model.sha256, "start": start.told(), **facts}
        for logger in keepers:
            logger.log_model_directory(model.artifact, model.folder, metadata, {start.artifact: start.folder})


def log_merged(
    loggers: Loggers,
    cfg: DictConfig,
    scores: Mapping[str, float],
    model: Model,
    sources: Sequence[Source],
    base: Path | None,
    record: Mapping[str, Any],
) -> None:
    """Keep the merged model, and its sources with how much of each it has."""
    if not (keepers := [logger for logger in loggers if isinstance(logger, KeepsModels)]):
        return
    given = [Model(source.name, source.path) for source in sources]
    shares = coefficients(record["plan"], len(given))
    origin = [Model(BASE, base)] if base is not None else []
    metadata = {
        **_run(cfg),
        "sha256": model.sha256,
        "merge": {"strategy": record["strategy"], **record["options"]},
        "sources": [{**source.told(), "coefficient": share} for source, share in zip(given, shares, strict=True)],
        "base": origin[0].told() if origin else None,
        "scores": dict(scores),
    }
    for logger in keepers:
        parents = {parent.artifact: parent.folder for parent in (*origin, *given)}
        logger.log_model_directory(model.artifact, model.folder, metadata, parents)


def coefficients(plan: Mapping[str, Any], count: int) -> list[float | None]:
    """How much of each source: the mean over parameters of what a plan says; None: it does not say."""
    found = plan.get("coefficients", {"*": plan.get("weights")})
    rows = [row for row in found.values() if isinstance(row, list) and len(row) == count]
    return [fmean(column) for column in zip(*rows, strict=True)] if rows else [None] * count


def _run(cfg: DictConfig) -> dict[str, Any]:
    run = run_yaml.read(Path(cfg.out)) or {}
    return {"run": f"{cfg.name}-{run.get('hash')}", "group": cfg.group, "seed": cfg.seed}
