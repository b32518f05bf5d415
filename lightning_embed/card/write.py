"""Cards of a run's models, written to their folders.

The base's card is written first, then those of the experts, then that of the merge: each reads facts back from the
cards of the models before it, and so does a merge of the models of another run.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from omegaconf import DictConfig

from lightning_embed.card.body import Facts, body
from lightning_embed.card.markdown import escaped
from lightning_embed.card.origin import FILE, KEY, Origin
from lightning_embed.card.results import eval_results
from lightning_embed.card.training import Training
from lightning_embed.card.usage import Usage
from lightning_embed.config import choices, run_yaml
from lightning_embed.config.identity import TRAINED_BY
from lightning_embed.merge import Source
from lightning_embed.merge.checkpoint.directory import RECORD_FILE
from lightning_embed.merge.record.record import NO_MERGE, MergeRecord
from lightning_embed.report import Run, is_ensemble
from lightning_embed.storage.atomic import write_whole
from lightning_embed.storage.names import visible_in
from lightning_embed.types import BASE, Results

_TAGS = ["sentence-transformers", "feature-extraction", "sentence-similarity", KEY]
_HOW = {"experts.only", "experts.jobs", "experts.retries"}  # where experts are trained
# places of a run; they do not change its models
_HERE = {"out", "push_to_hub", "push_private", "export", "mirror", "hydra", "logger"}
# a path out of the working directory
_PLACE = re.compile(r"(?<=[=,:\[{'\"\s])(?:/(?!/)|~|(?:\.\./)+)[^,\[\]{}'\"]*")


def write_cards(
    cfg: DictConfig,
    run: Run,
    sources: Sequence[Source],
    base: Path | None,
    merged: Path | None = None,
    trainings: Mapping[str, Training] | None = None,
) -> None:
    """Write the cards of the models that this run made. Models of others keep their cards.

    Args:
        cfg: of the run.
        run: its scores.
        sources: the experts, and models that existed already.
        base: the model from which they started.
        merged: model directory of the merge; None: nothing was merged.
        trainings: of the experts that this run trained, by name.
    """
    trainings = trainings or {}
    start = _start(cfg, base)
    if base is not None and "encoder" in cfg:
        _write_base(base, start)
    for source in sources:
        if source.name in trainings:
            past = _with_past(source, trainings[source.name])
            results = _compared(run, [BASE, source.name])
            _write(source.path, _facts(cfg, source.path, source.name, [start], past, None, results))
    if merged is None:
        return
    known = {source.name: Origin.of(str(source.path)) for source in sources}
    origins = [start, *known.values()] if base is not None or cfg.base_model else [*known.values()]
    past = {}
    for source in sources:
        if (training := known[source.name].training) is not None:
            past = {**_with_past(source, training), **past}
    own, record = merged.parent.name, MergeRecord.read(merged.parent / RECORD_FILE)
    results = _compared(run, [BASE, *known, *filter(is_ensemble, run.models), own])
    _write(merged, _facts(cfg, merged, own, origins, past, record, results))


def _with_past(source: Source, training: Training) -> dict[str, Training]:
    """The trainings of a source in order: those of the experts that it started from, from their cards, then its own."""
    found, start = {source.name: training}, training.start
    while start not in {BASE, *found} and (earlier := Origin.of(str(source.path.parent / start)).training) is not None:
        found, start = {start: earlier, **found}, earlier.start
    return found


def _start(cfg: DictConfig, base: Path | None) -> Origin:
    """The origin of the model from which all models of the run started, as far as it is known."""
    origin = Origin()
    if "encoder" in cfg:
        origin = Origin.of(cfg.encoder.path, cfg.encoder.revision)
    elif base is not None:
        origin = Origin.of(str(base))
    return replace(origin, names=[cfg.base_model]) if cfg.base_model else origin


def _facts(
    cfg: DictConfig,
    folder: Path,
    own: str,
    origins: Sequence[Origin],
    trainings: Mapping[str, Training],
    record: MergeRecord | None,
    results: Mapping[str, Results],
) -> Facts:
    licenses = {origin.license for origin in origins}
    path = cfg.push_to_hub if cfg.push_to_hub and (record is not None or cfg.merge.name == NO_MERGE) else "."
    return Facts(
        title=path.rpartition("/")[2] if path != "." else f"{cfg.name}: {own}",
        own=own,
        usage=Usage.of(folder, path),
        origins=origins,
        license=cfg.license or (licenses.pop() if len(licenses) == 1 else None),
        trainings=trainings,
        record=record,
        trained_here="encoder" in cfg,
        results=results,
        commands=_commands(cfg, own if record is not None else None),
        versions=run_yaml.versions() | (trainings[own].versions if record is None else record.versions),
    )


def _compared(run: Run, names: Sequence[str]) -> dict[str, Results]:
    """Scores of the models that a card compares, with those of single queries where they were stored."""
    measured = run.models
    return {name: run.each(name) or measured[name] for name in names if name in measured}


def _commands(cfg: DictConfig, merged: str | None) -> list[str]:
    """The commands that make the model again, without the paths of this machine, which are private."""
    command = "train" if "encoder" in cfg else "merge"
    given = [each for each in choices.shown() if each.owner not in _HERE and each.key not in _HOW]
    if merged is None:  # the experts do not depend on the rest
        given = [each for each in given if each.owner in {*TRAINED_BY, "let", "name", "experiment", "callback"}]
    line = shlex.join(["python", f"{command}.py", *(_public(each.text) for each in given)])
    if merged is None:
        return [line]
    out = Path(cfg.out)
    recipe = (Path("...", out.name) if out.is_absolute() else out) / "merged" / merged / RECORD_FILE
    return [line, f"python merge.py recipe={recipe}  # the merge alone"]


def _public(override: str) -> str:
    """The override with only the last part of each path; a prompt is not a path, however it begins."""
    if ".prompt" in override or "_prompt" in override:
        return override
    return _PLACE.sub(lambda found: f".../{Path(found[0]).name}", override)


def _write(folder: Path, facts: Facts) -> None:
    relation = None
    if facts.names:
        relation = "finetune" if facts.record is None else "merge"
    scores = eval_results(facts.results, facts.own)
    datasets = sorted({name for each in facts.trainings.values() for name in each.datasets})
    own = facts.trainings.get(facts.own) if facts.record is None else None
    _save(
        folder,
        body(facts),
        language=facts.languages,
        license=facts.license,
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=_TAGS if facts.record is None else [*_TAGS, "merge"],
        base_model=facts.names,
        base_model_relation=relation,
        datasets=datasets,
        model_name=facts.own if scores else None,
        eval_results=scores,
        **{KEY: {"training": asdict(own)} if own is not None else {}},
    )


def _write_base(folder: Path, origin: Origin) -> None:
    name = escaped(" and ".join(origin.names)) or "a model whose name is not known"
    text = f"# Base\n\nA copy of {name}, in the format of the models that started from it. Nothing was trained here.\n"
    known = {"license": origin.license, "language": origin.languages, "base_model": origin.names}
    _save(folder, text, library_name="sentence-transformers", tags=_TAGS, **known, **{KEY: {}})


def _save(folder: Path, text: str, **metadata: object) -> None:
    from huggingface_hub import ModelCardData

    data = ModelCardData(**{key: value for key, value in visible_in(metadata).items() if value not in (None, [])})
    write_whole(folder / FILE, f"---\n{data.to_yaml()}\n---\n\n{text}")
