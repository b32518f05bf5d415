"""Benchmark tasks of mteb by name."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

import mteb
from mteb.abstasks import AbsTask
from mteb.get_tasks import TASK_LIST

from lightning_embed.errors import ConfigError


def get_tasks(names: Sequence[str], benchmark: str | None) -> list[AbsTask]:
    """Fresh mteb tasks, in the order of `names`; of a benchmark, with its splits and languages (no names: all)."""
    if benchmark is None:
        return [mteb.get_task(name) for name in names]
    tasks = {task.metadata.name: task for task in mteb.get_benchmark(benchmark).tasks}
    return [tasks[name] for name in names or tasks]


def check_tasks(names: Sequence[str], benchmark: str | None = None) -> list[str]:
    """Refuse names that cannot be evaluated, without a download. Returns the names of all tasks to evaluate.

    Raises:
        ConfigError: no name, an unknown name, or a task with inputs other than text.
    """
    if benchmark is not None and benchmark not in (benchmarks := [known.name for known in mteb.get_benchmarks()]):
        raise ConfigError(f"evaluation.benchmark: mteb has no {benchmark!r}. {_nearest(benchmark, benchmarks)}")
    if not names and benchmark is None:
        raise ConfigError("evaluation=mteb evaluates nothing: name tasks, e.g. evaluation.tasks=[STS12,SciFact].")
    members = None if benchmark is None else [task.metadata.name for task in mteb.get_benchmark(benchmark).tasks]
    known = {task.metadata.name: task for task in TASK_LIST}
    for name in names:
        if name not in known:
            raise ConfigError(f"evaluation.tasks: mteb has no task {name!r}. {_nearest(name, known)}")
        if members is not None and name not in members:
            raise ConfigError(f"evaluation.tasks: {benchmark} has no task {name!r}. {_nearest(name, members)}")
    for name in names or members or ():
        if name in known and known[name].metadata.modalities != ["text"]:
            raise ConfigError(
                f"evaluation.tasks: {name} needs {known[name].metadata.modalities}, and this model takes only text."
            )
    return list(names or members or ())


def dev_splits(task: AbsTask) -> list[str]:
    """The dev or validation splits of a task with a test split; without one, they are the splits of its leaderboard."""
    splits = task.metadata.eval_splits
    return [split for split in splits if split in ("dev", "validation")] if "test" in splits else []


def check_dev(names: Sequence[str]) -> None:
    """Refuse known tasks without dev splits.

    Raises:
        ConfigError: naming them.
    """
    if lacking := [name for name in names if not dev_splits(mteb.get_task(name))]:
        raise ConfigError(
            f"evaluation.split=dev: {', '.join(lacking)} have no dev or validation split besides a test split. "
            "Remove them, or use split=test."
        )


def _nearest(name: str, known: Iterable[str]) -> str:
    # errors.nearest would print over a thousand names, and typos of STS tasks often differ only in case.
    folded = {word.casefold(): word for word in known}
    close = get_close_matches(name.casefold(), folded, n=3)
    hint = f"Did you mean {' or '.join(folded[word] for word in close)}? " if close else ""
    return f"{hint}mteb.get_tasks() and mteb.get_benchmarks() list all."
