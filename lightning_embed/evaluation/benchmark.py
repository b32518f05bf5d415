"""Benchmark tasks of mteb by name."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

import mteb
from mteb.abstasks import AbsTask
from mteb.get_tasks import TASK_LIST

from lightning_embed.errors import ConfigError


def get_task(name: str) -> AbsTask:
    """A fresh mteb task."""
    return mteb.get_task(name)


def check_tasks(names: Sequence[str]) -> None:
    """Refuse names that cannot be evaluated; downloads nothing.

    Raises:
        ConfigError: no name, an unknown one, or a task that is not about text alone.
    """
    if not names:
        raise ConfigError("evaluation=mteb evaluates nothing: name tasks, e.g. evaluation.tasks=[STS12,SciFact].")
    known = {task.metadata.name: task for task in TASK_LIST}
    for name in names:
        if name not in known:
            raise ConfigError(f"evaluation.tasks: mteb has no task {name!r}. {_nearest(name, known)}")
        if known[name].metadata.modalities != ["text"]:
            raise ConfigError(
                f"evaluation.tasks: {name} needs {known[name].metadata.modalities}, this model reads text."
            )


def _nearest(name: str, known: Iterable[str]) -> str:
    # errors.nearest would print more than a thousand names, and STS tasks differ from a typo in capitals.
    folded = {word.casefold(): word for word in known}
    close = get_close_matches(name.casefold(), folded, n=3)
    hint = f"Did you mean {' or '.join(folded[word] for word in close)}? " if close else ""
    return f"{hint}mteb.get_tasks() lists all."
