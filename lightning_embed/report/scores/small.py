"""Scores of small vectors beside those of whole embeddings, on the tests that have both."""

from collections.abc import Mapping
from dataclasses import dataclass

from lightning_embed.report.scores.summary import MEAN, Block, block, is_ensemble, sections
from lightning_embed.types import Results, Score

WHOLE = "float32"
SMALL_NOTE = (
    "Mean of tasks, of embeddings in fewer bytes: int8 a quarter, binary a 32nd, cut ones their first dimensions. Queries and "
    "documents are rounded alike, with ranges of int8 from the documents, and nothing is scored again in float32."
)


@dataclass(frozen=True)
class SmallTable:
    """Means over tasks of every form of the models' embeddings, on the tests of one block.

    An ensemble is none of the models: its embedding is those of its members side by side, and is not cut.
    """

    title: str
    tests: list[str]
    forms: list[str]  # float32, then as they were asked for
    rows: Mapping[str, list[float | None]]  # model -> mean of each form


def small_tables(models: Mapping[str, Results]) -> list[SmallTable]:
    """A table per block with small vectors; a model without a form of a test has no mean of it."""
    single = {name: found for name, found in models.items() if not is_ensemble(name)}
    forms = dict.fromkeys(
        form for results in single.values() for scores in results.values() for score in scores.values() for form in _forms(score)
    )  # fmt: skip
    tables = []
    for each in sections({name: _in_form(found, WHOLE) for name, found in single.items()}):
        found = {form: _block({name: _in_form(r, form) for name, r in single.items()}, each) for form in forms}
        rows = {
            name: [each.rows[name][MEAN] if form == WHOLE else _mean(found[form], each, name) for form in forms]
            for name in single
        }
        tests = [name for names in each.tests.values() for name in names]
        tables.append(SmallTable(each.title, tests, list(forms), rows))
    return tables


def form_name(form: str) -> str:
    """The form as a column: the number of dimensions that are kept is called so."""
    precision, at, dim = form.partition("@")
    return f"{form} dims" if form.isdigit() else f"{precision}, {dim} dims" if at else form


def _forms(score: Score) -> list[str]:
    return [WHOLE, *score["small"]] if "small" in score else []


def _in_form(results: Results, form: str) -> Results:
    """The tests that have a form, with its score in the place of the main one."""
    return {
        split: {name: _score_in(score, form) for name, score in scores.items() if form in _forms(score)}
        for split, scores in results.items()
    }


def _score_in(score: Score, form: str) -> Score:
    points = score["score"] if form == WHOLE else score["small"][form]
    return Score(task=score["task"], metric=score["metric"], in_domain=score["in_domain"], score=points)


def _block(models: Mapping[str, Results], like: Block) -> Block | None:
    return block(models, like.split, like.in_domain)


def _mean(found: Block | None, whole: Block, model: str) -> float | None:
    """The mean of a form, if all tests of the whole embeddings have it."""
    return found.rows[model][MEAN] if found and found.scores.keys() == whole.scores.keys() else None
