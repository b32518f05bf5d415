"""Models in a logger: name, metadata, and the models that each was made from."""

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
class LoggedModel:
    """A model directory.

    Args:
        name: its name in the run that logs it.
        folder: the directory.
    """

    name: str
    folder: Path

    @property
    def artifact(self) -> str:
        """Its name among the artifacts of all runs, the same in each of them.

        A base has the digest of its weights in its name, because many runs start from it. A model of a run has the name
        of the run and its own name there. Any other model has its name here.
        """
        if self.name == BASE:
            return f"{BASE}-{digest(self.sha256)}"
        folder = self.folder.resolve()
        for out in folder.parents[1:3]:  # <out>/models/<name>, <out>/merged/<name>/model
            if (run := run_yaml.read(out)) is not None and {"config", "hash"} <= run.keys():
                return _legal(f"{run['config'].get('name')}-{run['hash']}-{folder.relative_to(out).parts[1]}")
        return _legal(self.name)

    @property
    def sha256(self) -> dict[str, str]:
        """Weights file -> its digest."""
        return digests(self.folder.glob("*.safetensors"))

    def metadata(self) -> dict[str, Any]:
        """Its entry in the metadata of the models that are made from it."""
        return {"name": self.name, "artifact": self.artifact, "path": str(self.folder), "sha256": self.sha256}


def _legal(name: str) -> str:
    """The name in the letters that W&B allows; names of other scripts stay apart by their digest."""
    shown = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII)
    return (shown if name.isascii() else f"{shown}-{digest(name)}")[-128:]


def log_expert(
    loggers: Loggers, cfg: DictConfig, model: LoggedModel, start: LoggedModel, facts: Mapping[str, Any]
) -> None:
    """Log a trained model with its start and the facts of its training.

    Args:
        loggers: of its training.
        cfg: of the run.
        model: the trained model.
        start: the model from which the training started.
        facts: more metadata, such as its data and options.
    """
    if keepers := [logger for logger in loggers if isinstance(logger, KeepsModels)]:
        metadata = {**_run(cfg), "sha256": model.sha256, "start": start.metadata(), **facts}
        for logger in keepers:
            logger.log_model_directory(model.artifact, model.folder, metadata, {start.artifact: start.folder})


def log_merged(
    loggers: Loggers,
    cfg: DictConfig,
    scores: Mapping[str, float],
    model: LoggedModel,
    sources: Sequence[Source],
    base: Path | None,
    record: Mapping[str, Any],
) -> None:
    """Log a merged model with its sources and their coefficients.

    Args:
        loggers: of merge and evaluation.
        cfg: of the run.
        scores: of the merged model.
        model: the merged model.
        sources: the models that were merged.
        base: the model from which they started.
        record: its merge.json.
    """
    if not (keepers := [logger for logger in loggers if isinstance(logger, KeepsModels)]):
        return
    given = [LoggedModel(source.name, source.path) for source in sources]
    shares = coefficients(record["plan"], len(given))
    origin = [LoggedModel(BASE, base)] if base is not None else []
    metadata = {
        **_run(cfg),
        "sha256": model.sha256,
        "merge": {"strategy": record["strategy"], **record["options"]},
        "sources": [{**source.metadata(), "coefficient": share} for source, share in zip(given, shares, strict=True)],
        "base": origin[0].metadata() if origin else None,
        "scores": dict(scores),
    }
    for logger in keepers:
        parents = {parent.artifact: parent.folder for parent in (*origin, *given)}
        logger.log_model_directory(model.artifact, model.folder, metadata, parents)


def coefficients(plan: Mapping[str, Any], count: int) -> list[float | None]:
    """The coefficient of each source: the mean over the parameters of a plan; None: the plan has no coefficients."""
    found = plan.get("coefficients", {"*": plan.get("weights")})
    rows = [row for row in found.values() if isinstance(row, list) and len(row) == count]
    return [fmean(column) for column in zip(*rows, strict=True)] if rows else [None] * count


def _run(cfg: DictConfig) -> dict[str, Any]:
    run = run_yaml.read(Path(cfg.out)) or {}
    return {"run": f"{cfg.name}-{run.get('hash')}", "group": cfg.group, "seed": cfg.seed}
