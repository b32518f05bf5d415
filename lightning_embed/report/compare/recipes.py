"""Recipes of a sweep: its models, grouped so that those of one recipe differ in their seed alone."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from lightning_embed.report.scores import results_file
from lightning_embed.report.scores.model_kinds import Kind, kind_of, labels, read_records
from lightning_embed.storage.unique_names import distinct
from lightning_embed.types import Choice, Results


@dataclass(frozen=True)
class Recipe:
    """A row of the comparison: one way to make a model, at one or several seeds.

    Args:
        name: distinguishes it from the other recipes of the sweep.
        kind: base, source, merge or ensemble.
        rows: training rows, the mean over seeds; None: not known.
        seeds: seed -> scores.
    """

    name: str
    kind: Kind
    rows: float | None
    seeds: Mapping[int, Results]


def collect(folders: Mapping[Path, set[Choice]]) -> list[Recipe]:
    """The recipes of a sweep, from the models that `measured_alike` selects.

    Args:
        folders: of its jobs, each with the choices that all jobs of the folder share.
    """
    measured = measured_alike(folders)
    records = {folder: read_records(folder) for folder in measured}
    strategies = [record for found in records.values() for record in found.values()]
    called = {folder: labels(found, strategies) for folder, found in records.items()}
    common = set.intersection(*folders.values()) if folders else set()
    own = {folder: sorted(each for each in folders[folder] - common if each.key != "seed") for folder in measured}
    seeds = {folder: _seed(folders[folder]) for folder in measured}

    costs = {folder: results_file.read(folder)["costs"] for folder in measured}
    found: dict[tuple[str, Kind], dict[int, tuple[Results, float | None]]] = {}
    for folder, model, name in _named(measured, called, own, seeds):
        whole = results_file.read_each(folder, model) or measured[folder][model]
        place = found.setdefault((name, kind_of(model, records[folder])), {})
        place[seeds[folder]] = whole, costs[folder].get(model)
    return [_recipe(name, kind, by_seed) for (name, kind), by_seed in found.items()]


def _named(
    measured: Mapping[Path, Mapping[str, Results]],
    called: Mapping[Path, Mapping[str, str]],
    own: Mapping[Path, Sequence[Choice]],
    seeds: Mapping[Path, int],
) -> list[tuple[Path, str, str]]:
    """(folder, model, name) of every model: the shortest distinct names, at worst with the folder's own name."""
    models = [(folder, model) for folder, found in measured.items() for model in found]
    shared = {model for _, model in models if _is_shared(model, measured, seeds)}
    chosen: list[tuple[Path, str, str]] = []
    folders = zip(measured, distinct([folder.resolve() for folder in measured]), strict=True)
    steps: Sequence[Mapping[Path, Sequence[str]]] = (
        {folder: list(map(_short, choices)) for folder, choices in own.items()},
        {folder: [choice.text for choice in choices] for folder, choices in own.items()},
        {folder: [name] for folder, name in folders},
    )
    for words in steps:
        chosen = []
        for folder, model in models:
            before = [] if model in shared else words[folder]
            chosen.append((folder, model, " ".join([*before, called[folder].get(model, model)])))
        often = Counter((name, seeds[folder]) for folder, model, name in chosen if model not in shared)
        if max(often.values(), default=1) == 1:
            break
    return chosen


def _is_shared(model: str, measured: Mapping[Path, Mapping[str, Results]], seeds: Mapping[Path, int]) -> bool:
    """Whether all folders of a seed have this model with the same scores, as they have the base."""
    scores: dict[int, list[Results | None]] = {}
    for folder, models in measured.items():
        scores.setdefault(seeds[folder], []).append(models.get(model))
    return all(None not in found and all(each == found[0] for each in found) for found in scores.values())


def _short(choice: Choice) -> str:
    """A choice in few letters: experiment=grid/joint, optimizer.lr=1e-5 become joint, lr=1e-5."""
    if "." not in choice.key and choice.value[:1].isalpha():
        return choice.value.rpartition("/")[2]
    return f"{choice.key.rpartition('.')[2]}={choice.value}"


def _recipe(name: str, kind: Kind, by_seed: Mapping[int, tuple[Results, float | None]]) -> Recipe:
    ordered = {seed: by_seed[seed] for seed in sorted(by_seed)}
    known = [rows for _, rows in ordered.values() if rows is not None]
    rows = fmean(known) if len(known) == len(ordered) else None
    return Recipe(name, kind, rows, {seed: scores for seed, (scores, _) in ordered.items()})


def _seed(choices: Iterable[Choice]) -> int:
    """The chosen seed of a job; 0: none, so all jobs have the same one."""
    given = (choice.value for choice in choices if choice.key == "seed")
    return next((int(value) for value in given if value.isdigit()), 0)


def measured_alike(folders: Iterable[Path]) -> dict[Path, dict[str, Results]]:
    """Folder -> model -> scores by the evaluation of the latest models of most folders; other scores are left out."""
    contents: dict[Path, Any] = {folder: results_file.read(folder) for folder in folders}
    last = {
        folder: content["evaluations"][next(reversed(content["models"]))]
        for folder, content in contents.items()
        if content["models"]
    }
    if not last:
        return {}
    (most, _), *_ = Counter(last.values()).most_common(1)
    return {
        folder: {
            name: each
            for name, each in contents[folder]["models"].items()
            if contents[folder]["evaluations"][name] == most
        }
        for folder in last
        if most in contents[folder]["evaluations"].values()
    }
