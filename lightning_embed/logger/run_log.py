"""Scores, tables, pictures and models of a run, for its loggers; the numbers of its steps come from the training.

Numbers go to every logger; tables, pictures and models to those that can keep them (`logger.base`).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import DictConfig

from lightning_embed.logger import lineage
from lightning_embed.logger.base import KeepsPictures, KeepsTables, Loggers
from lightning_embed.merge import Source
from lightning_embed.merge.checkpoint.directory import MODEL_FOLDER, RECORD_FILE
from lightning_embed.merge.record.record import read_record
from lightning_embed.report import Run, draw_conflict, read_conflict, save
from lightning_embed.storage.names import visible_in


def log_plan(loggers: Loggers, rows: Sequence[Mapping[str, Any]]) -> None:
    """Log the training data of an expert and its cost: a row per dataset."""
    _log_table(loggers, "plan", rows)


def log_conflict(loggers: Loggers, out: Path, expert: str) -> None:
    """Log the picture of the tasks' gradient cosines, if they were measured."""

    def draw() -> Any | None:
        curves = read_conflict(out / "logs" / expert)
        return draw_conflict(curves, f"Agreement of gradients, {expert}") if curves else None

    _draw(loggers, "conflict", draw)


def log_merge(
    loggers: Loggers,
    cfg: DictConfig,
    run: Run,
    name: str,
    sources: Sequence[Source],
    base: Path | None,
    target: Path | None,
) -> None:
    """Log the scores of all models, the geometry of the sources, and the merged model.

    Args:
        loggers: of merge and evaluation.
        cfg: of the run.
        run: its scores.
        name: of the model whose means are logged: the merged one, or the last source.
        sources: the models that were merged.
        base: the model from which they started.
        target: folder with merge.json; None: nothing was merged or examined.
    """
    for logger in loggers:
        logger.log_metrics(run.numbers(name), step=0)
    _log_table(loggers, "results", run.rows())
    _draw(loggers, "quality", run.quality)
    if target is None:
        return
    record = visible_in(read_record(target / RECORD_FILE))
    _log_geometry(loggers, record)
    for picture in sorted(target.glob("*.svg")):
        png = picture.with_suffix(".png")
        _log_picture(loggers, picture.stem, png if png.exists() else picture)
    if (target / MODEL_FOLDER).exists():
        merged = lineage.LoggedModel(name, target / MODEL_FOLDER)
        lineage.log_merged(loggers, cfg, run.means(name), merged, sources, base, record)


def _log_geometry(loggers: Loggers, record: Mapping[str, Any]) -> None:
    """Log lengths, angles and sign conflicts: of the whole model as numbers, of every layer as a table."""
    if not (found := record["geometry"]):
        return
    names = [source["name"] for source in record["sources"]]
    numbers = {
        "sign_conflict_share": found["sign_conflict_share"],
        "effective_directions": found["effective_directions"],
    }
    numbers |= {f"norm/{name}": norm for name, norm in zip(names, found["delta_norms"], strict=True)}
    if found["merged_norm"] is not None:
        numbers["norm/merged"] = found["merged_norm"]
    for logger in loggers:
        logger.log_metrics({f"geometry/{key}": value for key, value in numbers.items()}, step=0)
    _log_table(
        loggers, "geometry", [row for layer, part in found["groups"].items() for row in _layer(layer, names, part)]
    )


def _layer(layer: str, names: Sequence[str], part: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row per model."""
    models = [*zip(names, part["delta_norms"], part["delta_cosines"], strict=True)]
    if part["merged_norm"] is not None:
        models.append(("merged", part["merged_norm"], part["merged_cosines"]))
    return [
        {
            "layer": layer,
            "model": name,
            "norm": norm,
            "share_of_base": norm / part["base_norm"] if part["base_norm"] else None,
            "lowest_cosine": min(cosines),
            "sign_conflict_share": part["sign_conflict_share"],
        }
        for name, norm, cosines in models
    ]


def _log_table(loggers: Loggers, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
    for logger in loggers if rows else ():
        if isinstance(logger, KeepsTables):
            logger.log_table(key, columns=list(rows[0]), data=[list(row.values()) for row in rows])


def _log_picture(loggers: Loggers, key: str, file: Path) -> None:
    for logger in loggers:
        if isinstance(logger, KeepsPictures):
            logger.log_picture(f"picture/{key}", file)  # a table may have the same name


def _draw(loggers: Loggers, key: str, draw: Callable[[], Any | None]) -> None:
    """Draw and log a figure, if a logger can show it."""
    if not any(isinstance(logger, KeepsPictures) for logger in loggers) or (figure := draw()) is None:
        return
    with TemporaryDirectory() as folder:
        _, png = save(figure, Path(folder) / key)
        _log_picture(loggers, key, png)
