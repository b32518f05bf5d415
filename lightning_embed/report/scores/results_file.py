"""`<out>/results.json`: the scores of all measured models of a folder.

    {"models": {"base": {"test": {"stsb":
         {"task": "sts", "metric": "cosine_spearman", "score": 81.2, "in_domain": true}}}},
     "evaluations": {"base": "3f9a1c"}, "costs": {"base": 0}}

Scores are percent points. With several metrics a test has the further ones as `"more": {"recall@100": 93.4}`,
and scores of embeddings in fewer bytes as `"small": {"int8": 81.0, "256": 80.4}`.
`evaluations`: hash of the options and data with which each model was evaluated; scores of different evaluations are
never compared. `costs`: rows that were trained on to make the model; null: not known. The scores of every query and
pair are in `<out>/each/<model>.json`.
"""

import json
import math
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import NotRequired  # see lightning_embed.types

from filelock import FileLock
from typing_extensions import TypedDict

from lightning_embed.errors import DataError
from lightning_embed.storage.atomic import write_whole
from lightning_embed.storage.json_file import cached_json, read_json
from lightning_embed.storage.names import visible_in
from lightning_embed.storage.publish import discard
from lightning_embed.types import Results, Score

FILE = "results.json"
EACH = "each"  # folder of what every query and pair scored
_REMEDY = "Delete it: the models are measured again."
_APART = ("each", "more_each", "gold")


class _Stored(TypedDict):
    models: dict[str, Results]
    evaluations: dict[str, str]
    costs: NotRequired[dict[str, float | None]]


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
    content = visible_in(read_json(file, _Stored, _REMEDY, DataError, finite=True))
    if unknown := sorted(content["models"].keys() - content["evaluations"].keys()):
        raise DataError(f"{file}: evaluations.{unknown[0]}: is missing. {_REMEDY}")
    return Content(models=content["models"], evaluations=content["evaluations"], costs=content.get("costs", {}))


def read_each(out: Path, model: str) -> Results:
    """The scores of a model with those of its single queries and pairs; empty if they were not stored, or are broken."""
    found: Results = visible_in(cached_json(out / EACH / f"{model}.json", Results) or {})
    return found


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
        discard(out / EACH / f"{model}.json")
        write_whole(out / EACH / f"{model}.json", json.dumps(results))
        write_whole(out / FILE, json.dumps(content, indent=2) + "\n")


def _refuse_not_finite(model: str, results: Results) -> None:
    for split, scores in results.items():
        for test, score in scores.items():
            numbers = [score["score"], *score.get("more", {}).values(), *score.get("small", {}).values()]
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
