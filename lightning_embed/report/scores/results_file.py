"""`<out>/results.json`: the scores of all measured models of a folder.

    {"models": {"base": {"test": {"stsb":
         {"task": "sts", "metric": "cosine_spearman", "score": 81.2, "in_domain": true}}}},
     "evaluations": {"base": "3f9a1c"}, "costs": {"base": 0}}

Scores are percent points. With several metrics a test has the further ones as `"more": {"recall@100": 93.4}`.
`evaluations`: hash of the options and data with which each model was evaluated; scores of different evaluations are
never compared. `costs`: rows that were trained on to make the model; null: not known. The scores of every query and
pair are in `<out>/each/<model>.json`.
"""

import json
import math
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn, TypedDict

from filelock import FileLock

from lightning_embed.errors import DataError
from lightning_embed.storage.atomic import write_whole
from lightning_embed.types import Results, Score

FILE = "results.json"
EACH = "each"  # folder of what every query and pair scored
_APART = ("each", "more_each", "gold")


class Content(TypedDict):
    """The content of results.json, by name of a model."""

    models: dict[str, Results]
    evaluations: dict[str, str]
    costs: dict[str, float | None]


def read(out: Path) -> Content:
    """Read the results of a folder; empty if nothing was measured yet.

    Raises:
        DataError: the file is broken.
    """
    file = out / FILE
    if not file.exists():
        return Content(models={}, evaluations={}, costs={})
    try:
        content = _loaded(file)
        return Content(
            models=content["models"], evaluations=content["evaluations"], costs=dict(content.get("costs", {}))
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file} is not a valid results file ({error}). Delete it: the models are measured again."
        ) from None


def read_each(out: Path, model: str) -> Results:
    """The scores of a model with those of its single queries and pairs; empty if they were not stored."""
    file = out / EACH / f"{model}.json"
    found: Results = _loaded(file) if file.exists() else {}
    return found


def _loaded(file: Path) -> Any:
    """The JSON of a file; NaN, which a comparison would take for the best score, is an error as any other."""
    return json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse_constant)


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"it has the score {word}")


def add(out: Path, model: str, results: Results, evaluation: str = "", cost: float | None = None) -> None:
    """Add one model to the results of a folder, or replace it. Jobs of a sweep may do so at the same time.

    Raises:
        DataError: a score is NaN or infinite; nothing is written.
    """
    _refuse_not_finite(model, results)
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / f".{FILE}.lock"):
        content = read(out)
        content["models"].pop(model, None)  # the last one in the file is the last one measured
        content["models"][model] = _means(results)
        content["evaluations"][model] = evaluation
        content["costs"][model] = cost
        write_whole(out / EACH / f"{model}.json", json.dumps(results))
        write_whole(out / FILE, json.dumps(content, indent=2) + "\n")


def _refuse_not_finite(model: str, results: Results) -> None:
    for split, scores in results.items():
        for test, score in scores.items():
            numbers = [score["score"], *score.get("more", {}).values()]
            single = [*score.get("each", ()), *chain(*score.get("more_each", {}).values())]
            if not all(map(math.isfinite, chain(numbers, single))):
                raise DataError(
                    f"{model}: a score of {test} ({split}) is not finite: {numbers}. Check the data and the model; "
                    "NaN is never compared with a score."
                )


def _means(results: Mapping[str, Mapping[str, Score]]) -> Results:
    """The results without the scores of single queries and pairs."""
    return {
        split: {test: {k: v for k, v in score.items() if k not in _APART} for test, score in scores.items()}  # type: ignore[misc]
        for split, scores in results.items()
    }
