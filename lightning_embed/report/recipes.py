"""The models of a sweep, those that differ in their seed alone taken together."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from lightning_embed.report import results
from lightning_embed.report.bootstrap import Bootstrap, Interval
from lightning_embed.report.kinds import Kind, kind_of, labels, read_records
from lightning_embed.report.summary import MEAN, Block, block
from lightning_embed.types import Results

JOINT = "joint"  # the name of the model of all datasets
SEED = "seed="


@dataclass(frozen=True)
class Recipe:
    """One way to a model, at one or several seeds.

    Args:
        name: what sets it apart in the sweep.
        kind: base, source, merge or ensemble.
        cost: in joint trainings; None: not known.
        seeds: the scores at each seed, in the order of the seeds.
    """

    name: str
    kind: Kind
    cost: float | None
    seeds: Sequence[Results]


@dataclass(frozen=True)
class Mean:
    """The mean over seeds, in points, and its standard error; None: one seed."""

    points: float
    error: float | None


@dataclass(frozen=True)
class Compared:
    """Recipes side by side.

    Args:
        recipes: best on dev first.
        means: recipe -> title of a block (dev, test in domain, ...) -> mean of tasks.
        reference: what the others are compared with: the best joint training by dev, else the base; None: neither is there.
        differences: recipe -> title of a block -> its distance from the reference.
    """

    recipes: Sequence[Recipe]
    means: Mapping[str, Mapping[str, Mean]]
    reference: str | None
    differences: Mapping[str, Mapping[str, Interval]]

    @property
    def titles(self) -> list[str]:
        """The blocks that anything was measured in."""
        found = {title for means in self.means.values() for title in means}
        return [title for title in _TITLES if title in found]

    @property
    def chosen(self) -> Recipe | None:
        """The best on dev that is one model; None: nothing was measured on dev."""
        known = [r for r in self.recipes if "dev" in self.means[r.name] and r.kind is not Kind.ensemble]
        return known[0] if known else None


_BLOCKS: Mapping[str, tuple[str, bool | None]] = {
    "dev": ("dev", None),
    "test in domain": ("test", True),
    "test out of domain": ("test", False),
}
_TITLES = list(_BLOCKS)


def compare(recipes: Sequence[Recipe]) -> Compared:
    """Means, standard errors, and what is outside the noise."""
    means = {recipe.name: _means(recipe) for recipe in recipes}

    def by_dev(recipe: Recipe) -> float:
        return means[recipe.name]["dev"].points if "dev" in means[recipe.name] else float("-inf")

    ordered = sorted(recipes, key=by_dev, reverse=True)
    reference = _reference(ordered)
    differences: dict[str, dict[str, Interval]] = {}
    if reference is not None:
        bootstrap = Bootstrap()
        for recipe in ordered:
            found = {
                title: bootstrap.interval(recipe.seeds, reference.seeds, *key)
                for title, key in _BLOCKS.items()
                if recipe is not reference
            }
            differences[recipe.name] = {title: interval for title, interval in found.items() if interval is not None}
    return Compared(ordered, means, None if reference is None else reference.name, differences)


def _reference(ordered: Sequence[Recipe]) -> Recipe | None:
    joint = [recipe for recipe in ordered if recipe.kind is Kind.source and recipe.name.split()[-1] == JOINT]
    bases = [recipe for recipe in ordered if recipe.kind is Kind.base]
    return next(iter([*joint, *bases]), None)


def _means(recipe: Recipe) -> dict[str, Mean]:
    blocks = {title: [block({"": scores}, *key) for scores in recipe.seeds] for title, key in _BLOCKS.items()}
    return {title: mean for title, found in blocks.items() if (mean := _mean(found)) is not None}


def _mean(blocks: Sequence[Block | None]) -> Mean | None:
    points = [found.rows[""][MEAN] for found in blocks if found is not None]
    known = [value for value in points if value is not None]
    if not known or len(known) < len(blocks):
        return None
    return Mean(fmean(known), stdev(known) / len(known) ** 0.5 if len(known) > 1 else None)


def collect(folders: Mapping[Path, set[str]]) -> list[Recipe]:
    """The recipes of a sweep.

    Args:
        folders: of its jobs, each with the overrides that all its jobs share.
    """
    seeds = {folder: _seed(given) for folder, given in folders.items()}
    common = set.intersection(*folders.values()) if folders else set()
    found = {folder: last_measured(folder) for folder in folders}
    grouped: dict[tuple[str, Kind], dict[int, tuple[Results, float | None]]] = {}
    for folder, given in folders.items():
        records, costs = read_records(folder), results.read(folder)["costs"]
        called = labels(records)
        own = _words({override for override in given - common if not override.startswith(SEED)})
        twins = [other for other in folders if seeds[other] == seeds[folder]]
        for model, scores in found[folder].items():
            alike = model not in records and all(found[other].get(model) == scores for other in twins)  # the base, say
            name = " ".join(filter(None, ["" if alike else own, called.get(model, model)]))
            whole = results.read_each(folder, model) or scores
            grouped.setdefault((name, kind_of(model, records)), {})[seeds[folder]] = whole, costs.get(model)
    return [_recipe(name, kind, by_seed) for (name, kind), by_seed in grouped.items()]


def _recipe(name: str, kind: Kind, by_seed: Mapping[int, tuple[Results, float | None]]) -> Recipe:
    ordered = [by_seed[seed] for seed in sorted(by_seed)]
    known = [cost for _, cost in ordered if cost is not None]
    return Recipe(name, kind, fmean(known) if len(known) == len(ordered) else None, [scores for scores, _ in ordered])


def _seed(overrides: Iterable[str]) -> int:
    """The seed that a job was given; 0: none, so all jobs have the same."""
    return next((int(o.removeprefix(SEED)) for o in overrides if o.startswith(SEED)), 0)


def _words(overrides: set[str]) -> str:
    """experiment=grid/joint,optimizer.lr=1e-5 as "joint lr=1e-5": a word speaks for itself."""
    pairs = [override.partition("=") for override in sorted(overrides)]
    return " ".join(
        value.rpartition("/")[2] if value[:1].isalpha() else f"{key.rpartition('.')[2].lstrip('+')}={value}"
        for key, _, value in pairs
    )


def last_measured(folder: Path) -> dict[str, Results]:
    """The models that were measured as the last one was."""
    content = results.read(folder)
    last = next(reversed(content["models"]), None)
    how = None if last is None else content["evaluations"][last]
    return {name: found for name, found in content["models"].items() if content["evaluations"][name] == how}
