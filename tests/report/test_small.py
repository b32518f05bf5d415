"""Scores of small vectors: means over tasks, on the tests that have them."""

from typing import Any

from lightning_embed.report.scores.small import form_name, small_tables
from lightning_embed.report.scores.summary import ensemble_name
from lightning_embed.types import Score


def _score(task: str, points: float, in_domain: bool = True, **small: float) -> Score:
    made: dict[str, Any] = {"small": {name.removeprefix("to"): value for name, value in small.items()}} if small else {}
    return Score(task=task, metric="m", score=points, in_domain=in_domain, **made)


def test_means_over_tasks_of_the_tests_that_have_them() -> None:
    """A benchmark of mteb without small vectors is in no column: means of different tests are not compared."""
    models = {
        "base": {
            "dev": {"a": _score("retrieval", 50, int8=49, to256=48), "b": _score("retrieval", 60, int8=57, to256=58)},
            "test": {"c": _score("sts", 80, int8=79), "mteb": _score("sts", 10)},
        },
        "merged": {
            "dev": {"a": _score("retrieval", 70, int8=69), "b": _score("retrieval", 70, int8=71, to256=68)},
            "test": {"c": _score("sts", 90, int8=88), "mteb": _score("sts", 20)},
        },
        ensemble_name(2): {"dev": {"a": _score("retrieval", 99, int8=99), "b": _score("retrieval", 99, int8=99)}},
    }
    dev, test = small_tables(models)
    assert (dev.title, dev.forms, dev.tests) == ("dev", ["float32", "int8", "256"], ["a", "b"])
    assert dev.rows == {"base": [55, 53, 53], "merged": [70, 70, None]}
    assert (test.title, test.tests) == ("test in domain", ["c"])
    assert test.rows == {"base": [80, 79, None], "merged": [90, 88, None]}


def test_nothing_measured_is_no_table() -> None:
    assert small_tables({}) == []
    assert small_tables({"base": {"test": {"c": _score("sts", 80)}}}) == []


def test_names() -> None:
    assert list(map(form_name, ("float32", "int8", "256", "binary@128"))) == [
        "float32",
        "int8",
        "256 dims",
        "binary, 128 dims",
    ]
