"""evaluation=mteb: benchmark tasks by name."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from lightning_embed.errors import ConfigError, nearest
from lightning_embed.evaluation.base import SPLITS, Evaluator, Part, TextEncoder
from lightning_embed.evaluation.local import Local
from lightning_embed.evaluation.metrics import Metric, metrics_of, parse_metrics
from lightning_embed.evaluation.none import Nothing
from lightning_embed.types import EvalSet, Score


@dataclass(frozen=True)
class Mteb(Evaluator):
    """Evaluates on benchmark tasks by name; they count as test, unless `split` says otherwise.

    Args:
        tasks: names of mteb tasks, e.g. STS12, SciFact; empty: all of `benchmark`.
        in_domain: those of them that have a train set in this run.
        local: evaluates the run's own sets as well; without dev scores a run has no optimized metric.
        benchmark: name of an mteb benchmark, e.g. MTEB(eng, v2), whose splits and languages are taken; None: all that a
            task has.
        split: test, or dev: only the splits called dev or validation that tasks have beside their test, which may choose.
        metrics: as of `Local`, which takes them over unless it names its own; None: the main metric that mteb gives a task.

    Raises:
        ConfigError: another split, or an unknown metric.
    """

    tasks: Sequence[str] = ()
    in_domain: Sequence[str] = ()
    local: Evaluator = field(default_factory=Nothing)
    benchmark: str | None = None
    split: str = "test"
    metrics: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ConfigError(f"evaluation.split: {self.split!r} is no split. {nearest(self.split, SPLITS)}")
        parse_metrics(self.metrics)

    def validate(self) -> None:
        """Refuse unknown tasks; downloads nothing.

        Raises:
            ConfigError: no task, an unknown one, one that is not about text, or one without a dev split.
        """
        from lightning_embed.evaluation.benchmark import check_dev, check_tasks

        known = check_tasks(self.tasks, self.benchmark)
        if self.split == "dev":
            check_dev(known)
        for name in self.in_domain:
            if name not in known:
                raise ConfigError(f"evaluation.in_domain: {name!r} is not evaluated. {nearest(name, known)}")
        self.local.validate()

    def parts(self, eval_sets: Sequence[EvalSet]) -> list[Part]:
        """The run's own sets, and the benchmark tasks."""
        from lightning_embed.evaluation.benchmark import get_tasks
        from lightning_embed.evaluation.score_task import task_word

        own = self._own.parts(eval_sets)
        taken = {part.name for part in own if part.split == self.split}
        found = []
        for task in get_tasks(self.tasks, self.benchmark):
            name = task.metadata.name
            if name in taken:
                raise ConfigError(f"Two tests are called {name!r}: rename the dataset, or drop the mteb task.")
            word = task_word(task)
            given = name, self.benchmark, self.split, name in self.in_domain, metrics_of(self.metrics, word)
            found.append(Part(self.split, word, name, repr(given), partial(_run_task, *given)))
        return own + found

    @property
    def _own(self) -> Evaluator:
        if isinstance(self.local, Local) and self.local.metrics is None:
            return replace(self.local, metrics=self.metrics)
        return self.local


def _run_task(
    name: str, benchmark: str | None, split: str, in_domain: bool, metrics: Sequence[Metric], encoder: TextEncoder
) -> Score:
    from lightning_embed.evaluation.benchmark import dev_splits, get_tasks
    from lightning_embed.evaluation.score_task import run

    (task,) = get_tasks([name], benchmark)  # a fresh one: some carry a random state
    if split == "dev":
        task.filter_eval_splits(dev_splits(task))
    return run(encoder, task, in_domain, metrics)
