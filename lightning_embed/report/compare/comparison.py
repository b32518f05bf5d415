"""Comparison of recipes: means, standard errors, and differences with their intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from lightning_embed.report.compare.recipes import Recipe
from lightning_embed.report.scores import bootstrap
from lightning_embed.report.scores.bootstrap import Interval
from lightning_embed.report.scores.model_kinds import Kind
from lightning_embed.report.scores.summary import MEAN, Block, sections, show
from lightning_embed.types import JOINT, Results


@dataclass(frozen=True)
class Mean:
    """The mean over seeds, in percent points, and its standard error; None: one seed."""

    points: float
    error: float | None


@dataclass(frozen=True)
class Compared:
    """A comparison of recipes.

    Args:
        recipes: best by `metric` first; recipes without some of the seeds of others come last.
        means: recipe -> title of a block (dev, test in domain, ...) -> mean of tasks; none if a test of it is missing.
        reference: name of the recipe with which the others are compared: the best joint training by dev, else the base;
            None: neither exists.
        differences: recipe -> title of a block -> its difference from the reference.
        blocks: title of a block -> its tests, and the scores of every recipe at every seed.
        joint_rows: rows of the cheapest joint training; None: no joint training.
        metric: chooses and orders recipes: dev/mean, or dev/<task>.
    """

    recipes: Sequence[Recipe]
    means: Mapping[str, Mapping[str, Mean]]
    reference: str | None
    differences: Mapping[str, Mapping[str, Interval]]
    blocks: Mapping[str, Block]
    joint_rows: float | None
    metric: str

    @property
    def titles(self) -> list[str]:
        """The titles of the blocks with scores."""
        return list(self.blocks)

    @property
    def num_seeds(self) -> int:
        """The largest number of seeds of a recipe."""
        return max(len(recipe.seeds) for recipe in self.recipes)

    @property
    def chosen_by(self) -> str:
        """The metric in words: the first recipe is the best "on dev", for example."""
        return "on dev" if self.metric == f"dev/{MEAN}" else f"by {self.metric}"

    @property
    def unit(self) -> str:
        """The unit of costs, in words."""
        return "thousands of rows" if self.joint_rows is None else "joint trainings"

    def cost(self, recipe: Recipe) -> float | None:
        """The cost of a recipe, in `unit`; None: not known."""
        return None if recipe.rows is None else recipe.rows / (self.joint_rows or 1000)

    def is_complete(self, recipe: Recipe) -> bool:
        """Whether a recipe was measured at all seeds; means over fewer seeds are not compared."""
        return len(recipe.seeds) == self.num_seeds

    def is_best(self, recipe: Recipe, title: str) -> bool:
        """Whether a recipe's mean is the highest of a block, without ensembles, which are not single models."""
        known = [r for r in self.recipes if self.is_complete(r) and title in self.means[r.name]]
        top = max((self.means[r.name][title].points for r in known if r.kind is not Kind.ensemble), default=None)
        return recipe in known and show(self.means[recipe.name][title].points) == show(top)

    def stands_out(self, recipe: Recipe, title: str) -> bool:
        """Whether a recipe differs from the reference by more than the noise, measured at all seeds."""
        found = self.differences.get(recipe.name, {}).get(title)
        return found is not None and found.outside_noise and found.num_seeds == self.num_seeds

    @property
    def chosen(self) -> Recipe | None:
        """The best single model by `metric`; None: nothing was measured on dev."""
        known = [r for r in self.recipes if "dev" in self.means[r.name] and r.kind is not Kind.ensemble]
        return known[0] if known else None

    @property
    def best_merge(self) -> Recipe | None:
        """The best merge by `metric`; None: no recipe merges."""
        known = [r for r in self.recipes if "dev" in self.means[r.name] and r.kind is Kind.merge]
        return known[0] if known else None


def compare(recipes: Sequence[Recipe], metric: str = f"dev/{MEAN}") -> Compared:
    """Compare recipes: means, standard errors, and differences from the reference; best by `metric` first."""
    blocks = {found.title: found for found in sections(_flat(recipes))}
    means = {
        recipe.name: {title: mean for title, found in blocks.items() if (mean := _mean(found, recipe)) is not None}
        for recipe in recipes
    }
    complete = max((len(recipe.seeds) for recipe in recipes), default=0)

    title, _, column = metric.partition("/")

    def quality(recipe: Recipe) -> tuple[bool, float]:
        found = _mean(blocks[title], recipe, column) if title in blocks else None
        return len(recipe.seeds) == complete, float("-inf") if found is None else found.points

    ordered = sorted(recipes, key=quality, reverse=True)
    joint = [recipe for recipe in ordered if recipe.kind is Kind.source and recipe.name.split()[-1] == JOINT]
    reference = next((r for r in [*joint, *ordered] if r in joint or r.kind is Kind.base), None)
    return Compared(
        recipes=ordered,
        means=means,
        reference=None if reference is None else reference.name,
        differences={} if reference is None else {r.name: _differences(r, reference, blocks) for r in ordered},
        blocks=blocks,
        joint_rows=min((recipe.rows for recipe in joint if recipe.rows), default=None),
        metric=metric,
    )


def _flat(recipes: Sequence[Recipe]) -> dict[str, Results]:
    return {_key(recipe, seed): scores for recipe in recipes for seed, scores in recipe.seeds.items()}


def _key(recipe: Recipe, seed: int) -> str:
    return f"{recipe.name}\n{seed}"


def _mean(found: Block, recipe: Recipe, column: str = MEAN) -> Mean | None:
    """The mean over seeds of a task, or of the mean of tasks."""
    points = [found.rows[_key(recipe, seed)].get(column) for seed in recipe.seeds]
    known = [value for value in points if value is not None]
    if len(known) < len(points):
        return None
    return Mean(fmean(known), stdev(known) / len(known) ** 0.5 if len(known) > 1 else None)


def _differences(recipe: Recipe, reference: Recipe, blocks: Mapping[str, Block]) -> dict[str, Interval]:
    if recipe is reference:
        return {}
    found = {
        title: bootstrap.interval(recipe.seeds, reference.seeds, b.split, b.in_domain) for title, b in blocks.items()
    }
    return {title: interval for title, interval in found.items() if interval is not None}
