"""Results of a card: tables in Markdown, and entries for the hub's own list."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lightning_embed.card.markdown import escaped, table
from lightning_embed.report.pages.run_page import beside_base, further
from lightning_embed.report.scores.small import SMALL_NOTE, form_name, small_tables
from lightning_embed.report.scores.summary import best, metric_name, sections, show, summary, task_name
from lightning_embed.types import BASE, Results

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_WIDE = 8  # models in the table of all tests; with more, only the base and the card's own


def tables(models: Mapping[str, Results], own: str) -> str:
    """Means over tasks, one table per block, then every test.

    Args:
        models: model -> its scores, with the scores of single queries where they were stored.
        own: the model of the card.
    """
    parts = []
    for block in summary(models):
        tasks = [escaped(f"{task_name(task)}, {metric}") for task, metric in block.metrics.items()]
        header = [escaped(block.title), *tasks, "mean of tasks"]
        rows = [
            [_named(model, own), *(_cell(row[column], block.best[column]) for column in block.columns)]
            for model, row in block.rows.items()
        ]
        parts.append(table(header, rows))
    if own != BASE:
        blocks = [block for block in sections(models) if block.split == "test"]
        parts += [*(beside_base(models, block, own) for block in blocks), *map(escaped, further(models, own, blocks))]
    return "\n\n".join([*parts, _tests(models, own), *_small(models, own)])


def _small(models: Mapping[str, Results], own: str) -> list[str]:
    """Means over tasks of embeddings in fewer bytes, if they were measured."""
    tables = small_tables(models)
    parts = [
        table(
            [escaped(each.title), *(escaped(form_name(form)) for form in each.forms)],
            [[_named(model, own), *map(show, row)] for model, row in each.rows.items()],
        )
        for each in tables
    ]
    return [f"### Small vectors\n\n{SMALL_NOTE}", *parts] if parts else []


def eval_results(models: Mapping[str, Results], own: str) -> "list[EvalResult]":
    """The scores on test sets as the hub lists them; dev sets are for choosing."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=score["task"],
            dataset_type="unknown",  # the hub wants one of its own names there
            dataset_name=test,
            dataset_split="test",
            metric_type=metric,
            metric_value=round(points, 2),
        )
        for test, score in models.get(own, {}).get("test", {}).items()
        for metric, points in {score["metric"]: score["score"], **score.get("more", {})}.items()
    ]


def _tests(models: Mapping[str, Results], own: str) -> str:
    names = [name for name in models if len(models) <= _WIDE or name in (BASE, own)]
    rows = []
    for block in sections(models):
        for task, tests in block.tests.items():
            for test in tests:
                scores = {name: block.scores[test][name] for name in names}
                cells = [_cell(score, best(scores)) for score in scores.values()]
                measured = escaped(f"{task_name(task)}, {block.metrics[task]}")
                rows.append([escaped(f"{test} ({block.title})"), measured, *cells])
                for word, other in block.more_of(test).items():
                    scores = {name: other[name] for name in names}
                    rows.append(
                        ["", escaped(metric_name(word)), *(_cell(score, best(scores)) for score in scores.values())]
                    )
    return table(["set", "metric", *(_named(name, own) for name in names)], rows, words=2)


def _named(model: str, own: str) -> str:
    return "this model" if model == own else escaped(model)


def _cell(score: float | None, top: str | None) -> str:
    shown = show(score)
    return f"**{shown}**" if shown == top else shown
