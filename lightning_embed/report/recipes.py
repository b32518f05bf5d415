"""The models of a sweep, those that differ in their seed alone taken together."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from lightning_embed.report import bootstrap, results
from lightning_embed.report.bootstrap import Interval
from lightning_embed.report.kinds import Kind, kind_of, labels, read_records
from lightning_embed.report.summary import MEAN, Block, block
from lightning_embed.types import Results

JOINT = "joint"  # the name of the model of all datasets
BLOCKS: Mapping[str, tuple[str, bool | None]] = {
    "dev": ("dev", None),
    "test in domain": ("test", True),
    "test out of domain": ("test", False),
}
_SEED = "seed="


@dataclass(frozen=True)
class Recipe:
    """One way to a model, at one or several seeds.

    Args:
        name: what sets it apart in the sweep.
        kind: base, source, merge or ensemble.
        rows: that were trained on; None: not known.
        seeds: the scores at each seed.
    """

    name: str
    kind: Kind
    rows: float | None
    seeds: Mapping[int, Results]


@dataclass(frozen=True)
class Mean:
    """The mean over seeds, in points, and its standard error; None: one seed."""

    points: float
    error: float | None


@dataclass(frozen=True)
class Compared:
    """Recipes side by side.

    Args:
        recipes: best on dev first; those that lack a seed that others have come last.
        means: recipe -> title of a block (dev, test in domain, ...) -> mean of tasks; only of all tests of a block.
        reference: what the others are compared with: the best joint training by dev, else the base; None: neither is there.
        differences: recipe -> title of a block -> its distance from the reference.
        tests: title of a block -> (task, name) of its tests.
        joint_rows: rows of the cheapest joint training; None: there is none.
    """

    recipes: Sequence[Recipe]
    means: Mapping[str, Mapping[str, Mean]]
    reference: str | None
    differences: Mapping[str, Mapping[str, Interval]]
    tests: Mapping[str, Sequence[tuple[str, str]]]
    joint_rows: float | None

    @property
    def titles(self) -> list[str]:
        """The blocks that anything was measured in."""
        return list(self.tests)

    @property
    def num_seeds(self) -> int:
        """The most that a recipe has."""
        return max(len(recipe.seeds) for recipe in self.recipes)

    @property
    def unit(self) -> str:
        """What costs are told in."""
        return "thousands of rows" if self.joint_rows is None else "joint trainings"

    def cost(self, recipe: Recipe) -> float | None:
        """In `unit`; None: not known."""
        return None if recipe.rows is None else recipe.rows / (self.joint_rows or 1000)

    def best(self, title: str) -> float:
        """The highest mean of a block, ensembles left out: they are no models."""
        return max(
            (
                self.means[recipe.name][title].points
                for recipe in self.recipes
                if recipe.kind is not Kind.ensemble and title in self.means[recipe.name]
            ),
            default=float("-inf"),
        )

    @property
    def chosen(self) -> Recipe | None:
        """The best on dev that is one model; None: nothing was measured on dev."""
        known = [r for r in self.recipes if "dev" in self.means[r.name] and r.kind is not Kind.ensemble]
        return known[0] if known else None


def compare(recipes: Sequence[Recipe]) -> Compared:
    """Means, standard errors, and what is outside the noise."""
    blocks = {title: block(_flat(recipes), *key) for title, key in BLOCKS.items()}
    known = {title: found for title, found in blocks.items() if found is not None}
    means = {
        recipe.name: {title: mean for title, found in known.items() if (mean := _mean(found, recipe)) is not None}
        for recipe in recipes
    }
    complete = max((len(recipe.seeds) for recipe in recipes), default=0)

    def by_dev(recipe: Recipe) -> tuple[bool, float]:
        dev = means[recipe.name].get("dev")
        return len(recipe.seeds) == complete, float("-inf") if dev is None else dev.points

    ordered = sorted(recipes, key=by_dev, reverse=True)
    joint = [recipe for recipe in ordered if recipe.kind is Kind.source and recipe.name.split()[-1] == JOINT]
    reference = next((r for r in [*joint, *ordered] if r in joint or r.kind is Kind.base), None)
    return Compared(
        recipes=ordered,
        means=means,
        reference=None if reference is None else reference.name,
        differences={} if reference is None else {r.name: _differences(r, reference) for r in ordered},
        tests={
            title: [(task, name) for task, names in b.tests.items() for name in names] for title, b in known.items()
        },
        joint_rows=min((recipe.rows for recipe in joint if recipe.rows), default=None),
    )


def _flat(recipes: Sequence[Recipe]) -> dict[str, Results]:
    return {_key(recipe, seed): scores for recipe in recipes for seed, scores in recipe.seeds.items()}


def _key(recipe: Recipe, seed: int) -> str:
    return f"{recipe.name}\n{seed}"


def _mean(found: Block, recipe: Recipe) -> Mean | None:
    points = [found.rows[_key(recipe, seed)][MEAN] for seed in recipe.seeds]
    known = [value for value in points if value is not None]
    if len(known) < len(points):
        return None
    return Mean(fmean(known), stdev(known) / len(known) ** 0.5 if len(known) > 1 else None)


def _differences(recipe: Recipe, reference: Recipe) -> dict[str, Interval]:
    if recipe is reference:
        return {}
    found = {title: bootstrap.interval(recipe.seeds, reference.seeds, *key) for title, key in BLOCKS.items()}
    return {title: interval for title, interval in found.items() if interval is not None}


def collect(folders: Mapping[Path, set[str]]) -> list[Recipe]:
    """The recipes of a sweep: of its folders, the models that were measured as most were last.

    Args:
        folders: of its jobs, each with the overrides that all its jobs share.
    """
    measured = _measured_alike(folders)
    records = {folder: read_records(folder) for folder in measured}
    strategies = [record for found in records.values() for record in found.values()]
    called = {folder: labels(found, strategies) for folder, found in records.items()}
    common = set.intersection(*folders.values()) if folders else set()
    own = {folder: sorted(o for o in folders[folder] - common if not o.startswith(_SEED)) for folder in measured}
    seeds = {folder: _seed(folders[folder]) for folder in measured}

    found: dict[tuple[str, Kind], dict[int, tuple[Results, float | None]]] = {}
    for folder, model, name in _named(measured, called, own, seeds):
        whole = results.read_each(folder, model) or measured[folder][model]
        place = found.setdefault((name, kind_of(model, records[folder])), {})
        place[seeds[folder]] = whole, results.read(folder)["costs"].get(model)
    return [_recipe(name, kind, by_seed) for (name, kind), by_seed in found.items()]


def _named(
    measured: Mapping[Path, Mapping[str, Results]],
    called: Mapping[Path, Mapping[str, str]],
    own: Mapping[Path, Sequence[str]],
    seeds: Mapping[Path, int],
) -> list[tuple[Path, str, str]]:
    """(folder, model, name) of every model: as short as tells all of them apart, at worst with the folder's own name."""
    models = [(folder, model) for folder, found in measured.items() for model in found]
    shared = {model for _, model in models if _is_shared(model, measured, seeds)}
    chosen: list[tuple[Path, str, str]] = []
    for words in (lambda folder: _short(own[folder]), lambda folder: list(own[folder]), lambda folder: [folder.name]):
        chosen = []
        for folder, model in models:
            before = [] if model in shared else words(folder)
            chosen.append((folder, model, " ".join([*before, called[folder].get(model, model)])))
        often = Counter((name, seeds[folder]) for folder, model, name in chosen if model not in shared)
        if max(often.values(), default=1) == 1:
            break
    return chosen


def _is_shared(model: str, measured: Mapping[Path, Mapping[str, Results]], seeds: Mapping[Path, int]) -> bool:
    """Whether all folders of a seed have this model with the same scores: the base, say."""
    scores: dict[int, list[Results | None]] = {}
    for folder, models in measured.items():
        scores.setdefault(seeds[folder], []).append(models.get(model))
    return all(None not in found and all(each == found[0] for each in found) for found in scores.values())


def _short(overrides: Sequence[str]) -> list[str]:
    """experiment=grid/joint, optimizer.lr=1e-5 as joint, lr=1e-5: the word of a group speaks for itself."""
    pairs = [override.lstrip("+").partition("=") for override in overrides]
    return [
        value.rpartition("/")[2] if "." not in key and value[:1].isalpha() else f"{key.rpartition('.')[2]}={value}"
        for key, _, value in pairs
    ]


def _recipe(name: str, kind: Kind, by_seed: Mapping[int, tuple[Results, float | None]]) -> Recipe:
    ordered = {seed: by_seed[seed] for seed in sorted(by_seed)}
    known = [rows for _, rows in ordered.values() if rows is not None]
    rows = fmean(known) if len(known) == len(ordered) else None
    return Recipe(name, kind, rows, {seed: scores for seed, (scores, _) in ordered.items()})


def _seed(overrides: Iterable[str]) -> int:
    """The seed that a job was given; 0: none, so all jobs have the same."""
    given = (
        override.lstrip("+").removeprefix(_SEED) for override in overrides if override.lstrip("+").startswith(_SEED)
    )
    return next((int(value) for value in given if value.isdigit()), 0)


def _measured_alike(folders: Iterable[Path]) -> dict[Path, dict[str, Results]]:
    """Of each folder the models whose scores are of the evaluation that most folders saw last."""
    contents: dict[Path, Any] = {folder: results.read(folder) for folder in folders}
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
