"""Benchmark tasks of mteb by name."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

import mteb
from mteb.abstasks import AbsTask
from mteb.get_tasks import TASK_LIST

from lightning_embed.errors import ConfigError


def get_tasks(names: Sequence[str], benchmark: str | Sequence[str] | None) -> list[AbsTask]:
    """Fresh mteb tasks, in the order of `names`; of benchmarks, with their splits and languages.

    No names: all tasks of the benchmarks whose data are public, each once.
    """
    benchmarks = listed(benchmark)
    if not benchmarks:
        return [mteb.get_task(name) for name in names]
    tasks = {task.metadata.name: task for each in reversed(benchmarks) for task in mteb.get_benchmark(each).tasks}
    return [tasks[name] for name in names or members(benchmarks)]


def listed(benchmark: str | Sequence[str] | None) -> list[str]:
    """The names of benchmarks, of which there may be one, several or none."""
    return [] if benchmark is None else [benchmark] if isinstance(benchmark, str) else list(dict.fromkeys(benchmark))


def members(benchmarks: Sequence[str], public: bool = True) -> dict[str, list[str]]:
    """Names of tasks -> the benchmarks that have them.

    Args:
        benchmarks: names of benchmarks.
        public: leave out tasks whose data are not public: of RTEB(beta), mteb's maintainers alone can run 13 of 30.
    """
    found: dict[str, list[str]] = {}
    for benchmark in benchmarks:
        for task in mteb.get_benchmark(benchmark).tasks:
            if task.metadata.is_public or not public:
                found.setdefault(task.metadata.name, []).append(benchmark)
    return found


def check_tasks(names: Sequence[str], benchmark: str | Sequence[str] | None = None) -> list[str]:
    """Refuse names that cannot be evaluated, without a download. Returns the names of all tasks to evaluate.

    Raises:
        ConfigError: no name, an unknown name, a task with inputs other than text, or one with different splits or
            languages in two benchmarks.
    """
    benchmarks = listed(benchmark)
    every = [known.name for known in mteb.get_benchmarks()] if benchmarks else []
    for one in benchmarks:
        if one not in every:
            raise ConfigError(f"evaluation.benchmark: mteb has no {one!r}. {_nearest(one, every)}")
    if not names and not benchmarks:
        raise ConfigError("evaluation=mteb evaluates nothing: name tasks, e.g. evaluation.tasks=[STS12,SciFact].")
    of_benchmarks = members(benchmarks, public=not names)
    known = {task.metadata.name: task for task in TASK_LIST}
    for name in names:
        if name not in known:
            raise ConfigError(f"evaluation.tasks: mteb has no task {name!r}. {_nearest(name, known)}")
        if benchmarks and name not in of_benchmarks:
            have = f"{' and '.join(benchmarks)} {'has' if len(benchmarks) == 1 else 'have'}"
            raise ConfigError(f"evaluation.tasks: {have} no task {name!r}. {_nearest(name, of_benchmarks)}")
    chosen = list(names or of_benchmarks)
    for name in chosen:
        if name in known and known[name].metadata.modalities != ["text"]:
            raise ConfigError(
                f"evaluation.tasks: {name} needs {known[name].metadata.modalities}, and this model takes only text."
            )
    _refuse_two_forms({name: of_benchmarks[name] for name in chosen if len(of_benchmarks.get(name, ())) > 1})
    return chosen


def _refuse_two_forms(shared: Mapping[str, Sequence[str]]) -> None:
    """A task is evaluated once, so it must be the same in all benchmarks that have it."""
    for name, benchmarks in shared.items():
        forms = {
            (tuple(sorted(task.eval_splits)), tuple(sorted(task.hf_subsets)))
            for benchmark in benchmarks
            for task in get_tasks([name], benchmark)
        }
        if len(forms) > 1:
            raise ConfigError(
                f"evaluation.benchmark: {name} has different splits or languages in {' and '.join(benchmarks)}: name "
                "one of these benchmarks."
            )


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
