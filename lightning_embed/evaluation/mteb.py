"""Evaluation on mteb tasks by name: `evaluation=mteb`."""

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
    """Evaluates on mteb tasks by name; their scores are test scores, unless `split` is dev.

    Args:
        tasks: names of mteb tasks, e.g. STS12, SciFact; empty: all tasks of `benchmark`.
        in_domain: names of the tasks that have a train set in this run.
        local: evaluator of the run's own sets; without dev scores a run has no optimized metric.
        benchmark: name of an mteb benchmark, e.g. MTEB(eng, v2), for its splits and languages; None: all splits and
            languages of a task.
        split: test; or dev: only the dev and validation splits of tasks that also have a test split. Dev scores may
            choose.
        metrics: as in `Local`; `local` has the same unless it names its own. None: mteb's main metric of each task.

    Raises:
        ConfigError: an unknown split or metric.
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
        """Refuse unknown tasks, without a download.

        Raises:
            ConfigError: no task, an unknown task, or a task with inputs other than text or without a dev split.
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
        benchmark_parts = []
        for task in get_tasks(self.tasks, self.benchmark):
            name = task.metadata.name
            if name in taken:
                raise ConfigError(f"Two tests have the name {name!r}: rename the dataset, or remove the mteb task.")
            word = task_word(task)
            arguments = name, self.benchmark, self.split, name in self.in_domain, metrics_of(self.metrics, word)
            benchmark_parts.append(Part(self.split, word, name, repr(arguments), partial(_run_task, *arguments)))
        return own + benchmark_parts

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

    (task,) = get_tasks([name], benchmark)  # a fresh task, because some have a random state
    if split == "dev":
        task.filter_eval_splits(dev_splits(task))
    return run(encoder, task, in_domain, metrics)
