"""Examination of a run's sources, with or without a merge: their geometry and, with a probe, the loss landscape."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from omegaconf import DictConfig
from rich.progress import track

from lightning_embed.config.identity import models_hash
from lightning_embed.config.values import build_options, plain
from lightning_embed.encoder.opening import OPENER
from lightning_embed.errors import ConfigError, nearest
from lightning_embed.merge import Probe, Source, Vocabulary
from lightning_embed.merge.checkpoint.directory import RECORD_FILE
from lightning_embed.merge.diagnosis.geometry import GroupGeometry
from lightning_embed.merge.diagnosis.landscape import survey
from lightning_embed.merge.diagnosis.options import DoctorOptions
from lightning_embed.merge.engine import open_models
from lightning_embed.merge.examine import examine
from lightning_embed.merge.record.freshness import is_current
from lightning_embed.merge.record.record import NO_MERGE, read_record
from lightning_embed.report import LANDSCAPES, draw_geometry, draw_landscape, print_doctor
from lightning_embed.report.figures.landscape import StoredLandscape
from lightning_embed.run.terminal import console
from lightning_embed.storage.atomic import write_whole
from lightning_embed.storage.checksum import digest
from lightning_embed.storage.json_file import cached_json
from lightning_embed.storage.names import visible_in
from lightning_embed.storage.publish import discard


@runtime_checkable
class MakeProbe(Protocol):
    """Makes a probe for models with the architecture of the one in a directory."""

    @property
    def rows_hash(self) -> str:
        """Hash of the losses and the rows of the probe."""

    @property
    def scores_hash(self) -> str:
        """Hash of the dev sets and their evaluation."""

    def __call__(self, model: Path) -> Probe:
        """The probe."""


def validate_doctor(cfg: DictConfig, sources: Sequence[Source], has_base: bool, has_probe: bool) -> None:
    """Refuse an examination that will not be possible; called before training.

    Raises:
        ConfigError: no data, no base or no second source for the landscape, or a plane of unknown sources.
    """
    options, names = _options(cfg), [source.name for source in sources]
    if options.needs_probe and not (has_base and has_probe and len(sources) > 1):
        count = "1 source" if len(sources) == 1 else f"{len(sources)} sources"
        given = f"{count}, {'a' if has_base else 'no'} base and {'' if has_probe else 'no '}data"
        raise ConfigError(
            "doctor.points and doctor.grid measure the loss around a base and two sources at least; "
            f"got {given}. Give them, or doctor=geometry."
        )
    for name in options.plane or ():
        if name not in names:
            raise ConfigError(f"doctor.plane: no source {name!r}. {nearest(name, names)}")


def needs_probe(cfg: DictConfig) -> bool:
    """Whether the examination needs a probe."""
    return _options(cfg).needs_probe


def examined_alone(
    out: Path, sources: Sequence[Source], base: Path | None, vocabulary: Vocabulary | None
) -> Path | None:
    """Examine sources that are not merged. Returns the folder of the record; None for fewer than two sources."""
    if len(sources) < 2:
        return None
    hashed = models_hash(sources, base)
    target = out / "merged" / f"{NO_MERGE}-{hashed}{'' if vocabulary is None else f'-{vocabulary}'}"
    if not is_current(target, sources, base, opener=OPENER):
        console.print(f"examining {', '.join(source.name for source in sources)}")
        record = examine(sources, base, target, OPENER, vocabulary)
        for note in (f"{model.name}: {note}" for model in record.models for note in model.notes):
            console.print(note, markup=False, highlight=False)
    return target


def show(
    cfg: DictConfig,
    out: Path,
    target: Path,
    sources: Sequence[Source],
    base: Path | None,
    make_probe: MakeProbe | None,
) -> None:
    """Print the record of a merge or an examination, and draw its figures next to its merge.json."""
    record = visible_in(read_record(target / RECORD_FILE))
    print_doctor(record, console)
    draw_geometry(target, record)
    if _options(cfg).needs_probe and base is not None and make_probe is not None:
        landscape = _landscape(cfg, out, record, sources, base, make_probe)
        for finding in landscape["findings"]:
            console.print(finding, markup=False, highlight=False)
        draw_landscape(target, record, landscape)


def _landscape(
    cfg: DictConfig,
    out: Path,
    record: Mapping[str, Any],
    sources: Sequence[Source],
    base: Path,
    make_probe: MakeProbe,
) -> Any:
    """The losses between the sources, measured once per folder, for all of its merges."""
    request = [plain(cfg.doctor), make_probe.rows_hash]
    contents = [(model["name"], model["sha256"]) for model in (*record["sources"], record["base"])]
    file = out / LANDSCAPES / f"{digest([request, contents, cfg.seed])}.json"
    known = cached_json(file, StoredLandscape)
    if known is None:
        discard(file)
        # The probe has the tokenizer of the base.
        models = open_models(sources, base, OPENER, None if cfg.vocabulary is None else Vocabulary.base)
        geometry = GroupGeometry(**{field.name: record["geometry"][field.name] for field in fields(GroupGeometry)})
        landscape = survey(
            models[:-1],
            models[-1],
            make_probe(base),
            geometry,
            _options(cfg),
            lambda points: track(points, f"measuring the loss at {len(points)} points", console=console),
        )
        content = {"sources": record["sources"], "base": record["base"], **landscape.as_json()}
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        write_whole(file, text)
        known = json.loads(text)
    return visible_in(known)


def _options(cfg: DictConfig) -> DoctorOptions:
    options: DoctorOptions = build_options(DoctorOptions, cfg.doctor)
    return options
