"""Scores of a run's folder, from the first measurement to the report."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from lightning_embed.report.compare.comparison import compare
from lightning_embed.report.compare.recipes import collect
from lightning_embed.report.figures.quality_vs_cost import quality
from lightning_embed.report.pages.run_page import write_report
from lightning_embed.report.scores import results_file
from lightning_embed.report.scores.summary import metric, summary
from lightning_embed.report.terminal import print_results
from lightning_embed.types import Results, Score


class Run:
    """The scores in a folder, read anew from its results.json each time: the jobs of a sweep may share the folder.

    Args:
        out: folder of the run.
        evaluation: hash of the current evaluation. Models of other evaluations stay in the file and are not shown:
            means over different tests cannot be compared.
    """

    def __init__(self, out: Path, evaluation: str = "") -> None:
        self.out = out
        self.evaluation = evaluation

    @property
    def models(self) -> dict[str, Results]:
        """Model -> its scores, in the order of measuring."""
        content = results_file.read(self.out)
        return {
            name: found for name, found in content["models"].items() if content["evaluations"][name] == self.evaluation
        }

    def each(self, model: str) -> Results:
        """The scores of a model with those of its single queries and pairs, if they were stored."""
        return results_file.read_each(self.out, model)

    def add(self, model: str, found: Results, cost: float | None = None) -> None:
        """Store the scores of a model, and its cost in training rows."""
        results_file.add(self.out, model, found, self.evaluation, cost)

    def metric(self, model: str, key: str) -> float | None:
        """One number for a sweeper, for example `dev/mean`; see `summary.metric`."""
        return metric(self.models, model, key)

    def print(self, console: Console, names: Sequence[str]) -> None:
        """Print the tables of some models; the report has all, also those of a sweep's other jobs."""
        models = self.models
        print_results({n: results_file.read_each(self.out, n) or models[n] for n in names if n in models}, console)

    def means(self, model: str) -> dict[str, float]:
        """Of one model `dev/mean`, `test_in_domain/sts` ..., and what it cost: keys that do not have its name in them.

        Of further metrics, the means of a task: `dev/retrieval/recall@100`; of a benchmark,
        `test_MTEB_Code_v1_out_of_domain/mean`.
        """
        found: dict[str, float | None] = {}
        for block in summary(self.models):
            title = re.sub(r"[^\w.-]+", "_", block.title).strip("_")
            found |= {f"{title}/{column}": score for column, score in block.rows.get(model, {}).items()}
            for word, other in block.more.items():
                found |= {f"{title}/{task}/{word}": other.rows.get(model, {}).get(task) for task in other.tests}
        found["cost/rows"] = results_file.read(self.out)["costs"].get(model)
        return {key: value for key, value in found.items() if value is not None}

    def quality(self) -> Any | None:
        """The picture of quality against cost; None if costs are not known."""
        recipes = collect({self.out: set()})
        return quality(compare(recipes)) if recipes else None

    def numbers(self, model: str) -> dict[str, float]:
        """The means of `model`, its scores as `<split>/<test>`, and those of its base and sources, `<split>/<test>/<name>`.

        Keys do not have the model's name in them, so that curves of different runs are one curve. Further metrics have
        `/<metric>` behind the key; a test that is called as a mean is, of a task, has ` (set)`.
        """
        found = self.means(model)
        merges = {folder.name for folder in (self.out / "merged").glob("*")} - {model}
        for name, split, test, score in self._scores():
            if name in merges:
                continue  # of another job of a sweep, which logs it
            key = f"{split}/{test}" if name == model else f"{split}/{test}/{name}"
            key += " (set)" if key in found else ""
            found[key] = score["score"]
            found |= {f"{key}/{word}": points for word, points in score.get("more", {}).items()}
        return found

    def rows(self) -> list[dict[str, Any]]:
        """Every score of every model, a row for each metric."""
        return [
            {
                "model": name,
                "split": split,
                "test": test,
                "task": score["task"],
                "metric": metric,
                "in_domain": score["in_domain"],
                "score": points,
            }
            for name, split, test, score in self._scores()
            for metric, points in {score["metric"]: score["score"], **score.get("more", {})}.items()
        ]

    def _scores(self) -> Iterator[tuple[str, str, str, Score]]:
        """(model, split, test, score) of everything measured."""
        for name, found in self.models.items():
            for split, scores in found.items():
                for test, score in scores.items():
                    yield name, split, test, score

    def write_html(self, config: Mapping[str, Any], seen: Sequence[Sequence[str]] = ()) -> Path:
        """Write report.html; `seen`: see `write_report`."""
        return write_report(self.out, self.models, config, seen)
