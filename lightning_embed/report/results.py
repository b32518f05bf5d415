"""`<out>/results.json`: the scores of all models that were measured in a folder.

    {"models": {"base": {"test": {"stsb": {"task": "sts", "metric": "cosine_spearman", "score": 81.2, "in_domain": true}}}},
     "evaluations": {"base": "3f9a1c"}}

Scores are percent points. `evaluations` says how each model was measured (a hash of the evaluation's options and
data): scores of different evaluations are never compared.
"""

import json
import os
from pathlib import Path
from typing import TypedDict

from filelock import FileLock

from lightning_embed.errors import DataError
from lightning_embed.types import Results

FILE = "results.json"


class Content(TypedDict):
    """What results.json holds, by name of a model."""

    models: dict[str, Results]
    evaluations: dict[str, str]


def read(out: Path) -> Content:
    """Read the results of a folder; empty if nothing was measured yet.

    Raises:
        DataError: the file is broken.
    """
    file = out / FILE
    if not file.exists():
        return Content(models={}, evaluations={})
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return Content(models=content["models"], evaluations=content["evaluations"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file} is not what was written there ({error}). Delete it: the models are measured again."
        ) from None


def add(out: Path, model: str, results: Results, evaluation: str = "") -> None:
    """Add one model to the results of a folder, or replace it. Jobs of a sweep may do so at the same time."""
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / f".{FILE}.lock"):
        content = read(out)
        content["models"].pop(model, None)  # the last one in the file is the last one measured
        content["models"][model] = results
        content["evaluations"][model] = evaluation
        _replace(out / FILE, json.dumps(content, indent=2) + "\n")


def _replace(file: Path, text: str) -> None:
    temporary = file.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, file)
