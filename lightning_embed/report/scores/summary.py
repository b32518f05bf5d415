"""Means over tasks, from the scores on tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from lightning_embed.errors import ConfigError, nearest
from lightning_embed.types import Results, Score, Task

MEAN = "mean"
_ENSEMBLE = "ensemble of "
_NAMES = {
    "ndcg": "nDCG",
    "map": "MAP",
    "mrr": "MRR",
    "spearman": "Spearman",
    "pearson": "Pearson",
    "f1": "F1",
    "v_measure": "V-measure",
}


@dataclass(frozen=True)
class Block:
    """Scores of models by tasks, on the tests of one split and domain, in percent points.

    The score of a task is the mean over its datasets; `mean` is the unweighted mean over tasks, so that many datasets
    of one task do not outvote the others (as MTEB's mean by task type). A model that lacks a test of a task has None
    there and no mean: means over different tests cannot be compared.
    """

    split: str
    in_domain: bool | None  # None: both
    tests: Mapping[str, list[str]]  # task -> names of its tests
    metrics: Mapping[str, str]  # task -> mteb's main metric, in the spelling of papers
    scores: Mapping[str, Mapping[str, float | None]]  # test -> model -> score
    rows: Mapping[str, Mapping[str, float | None]]  # model -> task or "mean" -> score
    more: Mapping[str, "Block"] = field(default_factory=dict)  # further metric -> its tests and scores
    benchmark: str | None = None  # the mteb benchmark whose tests these are; None: not only those of one

    @property
    def title(self) -> str:
        """The name of the block; plain "dev" is the block that chooses: the dev sets in domain."""
        if self.split == "dev" and self.in_domain:
            return "dev"
        where = {True: " in domain", False: " out of domain", None: ""}[self.in_domain]
        if self.benchmark is None:
            return self.split + where
        return f"{self.split}, {self.benchmark}" + (f",{where}" if where else "")

    @property
    def columns(self) -> list[str]:
        """The tasks, then the mean."""
        return [*self.tests, MEAN]

    def more_of(self, test: str) -> dict[str, Mapping[str, float | None]]:
        """Of one test: further metric -> model -> score."""
        return {word: found.scores[test] for word, found in self.more.items() if test in found.scores}

    @property
    def best(self) -> dict[str, str | None]:
        """Column -> its best score, as `show` writes it."""
        return {column: best({model: row[column] for model, row in self.rows.items()}) for column in self.columns}


def summary(models: Mapping[str, Results]) -> list[Block]:
    """The sections, a block of all tests if some are in domain and some out of domain, and those of benchmarks."""
    blocks = sections(models)
    together = block(models, "test") if {b.in_domain for b in blocks} >= {True, False} else None
    blocks += [together] if together else []
    return [*blocks, *benchmarks(models, blocks)]


def benchmarks(models: Mapping[str, Results], others: Sequence[Block]) -> list[Block]:
    """Blocks of each mteb benchmark: its tests in domain, out of domain, and all; none that is one of the `others`."""
    named = [
        (split, name)
        for results in models.values()
        for split, scores in results.items()
        for score in scores.values()
        for name in score.get("benchmarks", ())
    ]
    found: list[Block] = []
    for split, name in dict.fromkeys(named):
        chosen = {model: {split: _of(results.get(split, {}), name)} for model, results in models.items()}
        for in_domain in (True, False, None):
            made = block(chosen, split, in_domain)
            own = [b for b in found if b.benchmark == name and b.split == split]
            if made and not any(b.split == split and b.scores.keys() == made.scores.keys() for b in [*others, *own]):
                found.append(replace(made, benchmark=name))
    return found


def sections(models: Mapping[str, Results]) -> list[Block]:
    """Dev, test in domain and test out of domain, if they have tests: every test is in one of them."""
    chosen_by = dev(models)
    found = [chosen_by, block(models, "test", True), block(models, "test", False)]
    if chosen_by and chosen_by.in_domain:
        found.insert(1, block(models, "dev", False))
    return [section for section in found if section]


def dev(models: Mapping[str, Results]) -> Block | None:
    """The block that chooses: the dev sets in domain; if there are none, all dev sets."""
    return block(models, "dev", True) or block(models, "dev")


def block(models: Mapping[str, Results], split: str, in_domain: bool | None = None) -> Block | None:
    """The block of one split, of one domain or (None) of both; None if no model has a test there."""
    chosen = {model: _chosen(results.get(split, {}), in_domain) for model, results in models.items()}
    known = {name: score for scores in chosen.values() for name, score in scores.items()}
    if not known:
        return None
    tests: dict[str, list[str]] = {}
    for name, score in sorted(known.items(), key=lambda item: _rank(item[1]["task"])):
        tests.setdefault(score["task"], []).append(name)
    metrics = {
        task: " / ".join(dict.fromkeys(metric_name(known[name]["metric"]) for name in tests[task])) for task in tests
    }
    scores = {
        name: {model: found[name]["score"] if name in found else None for model, found in chosen.items()}
        for name in known
    }
    rows = {model: _means({name: scores[name][model] for name in known}, tests) for model in models}
    words = dict.fromkeys(word for names in tests.values() for name in names for word in known[name].get("more", {}))
    more = {word: block({m: by(found, word) for m, found in models.items()}, split, in_domain) for word in words}
    return Block(split, in_domain, tests, metrics, scores, rows, {word: found for word, found in more.items() if found})


def by(results: Results, word: str) -> Results:
    """The tests that have a further metric, with this metric in the place of the main one."""
    return {
        split: {name: _by(score, word) for name, score in scores.items() if word in score.get("more", {})}
        for split, scores in results.items()
    }


def metric(models: Mapping[str, Results], model: str, key: str) -> float | None:
    """One number of one model for a sweeper: `dev/mean`, `dev/sts`, ...; None if the model has no such score.

    Raises:
        ConfigError: the key names a task that was not measured.
    """
    split, _, column = key.partition("/")
    found = dev(models) if split == "dev" else block(models, split)
    if found is None:
        return None
    if column not in found.columns:
        raise ConfigError(f"optimized_metric={key}: no such score. {nearest(column, found.columns)}")
    return found.rows[model][column]


def task_name(task: str) -> str:
    """The task in the spelling of papers."""
    return "STS" if task == Task.sts else task.replace("_", " ")


def ensemble_name(count: int) -> str:
    """The name of the ensemble of `count` sources, which states its cost: `count` encoders."""
    return f"{_ENSEMBLE}{count} encoders"


def is_ensemble(model: str) -> bool:
    """Whether a row is an ensemble: not a single model, but a comparison for merges. It never counts as the best."""
    return model.startswith(_ENSEMBLE)


def best(scores: Mapping[str, float | None]) -> str | None:
    """The best score of a model, as `show` writes it: scores that are equal to two digits are equally good."""
    known = (show(score) for model, score in scores.items() if score is not None and not is_ensemble(model))
    return max(known, key=float, default=None)


def show(score: float | None) -> str:
    """A score with two digits, or - for none."""
    return "-" if score is None else f"{score:.2f}"


def _chosen(scores: Mapping[str, Score], in_domain: bool | None) -> dict[str, Score]:
    return {name: score for name, score in scores.items() if in_domain in (None, score["in_domain"])}


def _of(scores: Mapping[str, Score], benchmark: str) -> dict[str, Score]:
    return {name: score for name, score in scores.items() if benchmark in score.get("benchmarks", ())}


def _rank(task: str) -> tuple[int, str]:
    """Our tasks first, in their order; then the other types of mteb."""
    ours = list(Task)
    return (ours.index(Task(task)), "") if task in ours else (len(ours), task)


def metric_word(metric: str) -> str:
    """The word of a metric, from the word or from mteb's name: ndcg_at_10 -> ndcg@10, cosine_pearson -> pearson."""
    return metric.replace("_at_", "@").removeprefix("cosine_")


def metric_name(metric: str) -> str:
    """A metric as papers write it, from its word or from mteb's name."""
    name, at, k = metric_word(metric).partition("@")
    return _NAMES.get(name, name.replace("_", " ")) + at + k


def _by(score: Score, word: str) -> Score:
    """One score; the cosines and gold scores of pairs serve any metric."""
    found = Score(task=score["task"], metric=word, score=score["more"][word], in_domain=score["in_domain"])
    if "gold" in score:
        found |= {"each": score["each"], "gold": score["gold"]}
    elif word in score.get("more_each", {}):
        found["each"] = score["more_each"][word]
    return found


def _means(scores: Mapping[str, float | None], tests: Mapping[str, list[str]]) -> dict[str, float | None]:
    row = {task: _mean([scores[name] for name in names]) for task, names in tests.items()}
    return {**row, MEAN: _mean(list(row.values()))}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def by_dev(models: Mapping[str, Results]) -> list[str]:
    """The models, best dev mean first; those without one last."""
    means = {model: metric(models, model, f"dev/{MEAN}") for model in models}
    return sorted(models, key=lambda model: (means[model] is None, -(means[model] or 0)))
