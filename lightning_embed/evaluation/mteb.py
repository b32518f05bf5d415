"""Evaluation on mteb tasks by name: `evaluation=mteb`."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from lightning_embed.errors import ConfigError, nearest
from lightning_embed.evaluation.base import DTYPES, SPLITS, Evaluator, Part, TextEncoder, check_dtype
from lightning_embed.evaluation.local import Local
from lightning_embed.evaluation.metrics import Metric, metrics_of, parse_metrics
from lightning_embed.evaluation.none import Nothing
from lightning_embed.types import EvalSet, Score

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mteb(Evaluator):
    """Evaluates on mteb tasks by name; their scores are test scores, unless `split` is dev.

    Args:
        tasks: names of mteb tasks, e.g. STS12, SciFact; empty: all tasks of `benchmark` whose data are public.
        in_domain: names of the tasks that have a train set in this run.
        local: evaluator of the run's own sets; without dev scores a run has no optimized metric.
        benchmark: name of an mteb benchmark, e.g. MTEB(eng, v2), for its splits and languages; or several, each with
            its own means in the results (a task of two benchmarks is evaluated once); None: all splits and languages
            of a task.
        split: test; or dev: only the dev and validation splits of tasks that also have a test split. Dev scores may
            choose.
        metrics: as in `Local`; `local` has the same unless it names its own. None: mteb's main metric of each task.
        dtype: float32 or bfloat16, see `Evaluator`; also of `local`.

    Raises:
        ConfigError: an unknown split, metric or dtype.
    """

    tasks: Sequence[str] = ()
    in_domain: Sequence[str] = ()
    local: Evaluator = field(default_factory=Nothing)
    benchmark: str | Sequence[str] | None = None
    split: str = "test"
    metrics: Sequence[str] | None = None
    dtype: str = DTYPES[0]

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ConfigError(f"evaluation.split: {self.split!r} is no split. {nearest(self.split, SPLITS)}")
        parse_metrics(self.metrics)
        check_dtype(self.dtype)
        if self.local.dtype not in (DTYPES[0], self.dtype):
            raise ConfigError(f"evaluation.local.dtype={self.local.dtype}: all tests have one. Use evaluation.dtype.")

    def validate(self) -> None:
        """Refuse unknown tasks and benchmarks, without a download.

        Raises:
            ConfigError: no task, an unknown task or benchmark, a task with inputs other than text or without a dev
                split, or one that is not the same in two benchmarks.
        """
        from lightning_embed.evaluation.benchmark import check_dev, check_tasks, listed, members

        known = check_tasks(self.tasks, self.benchmark)
        if not self.tasks and (closed := members(listed(self.benchmark), public=False).keys() - set(known)):
            logger.info("Not evaluated, because their data are not public: %s.", ", ".join(sorted(closed)))
        if self.split == "dev":
            check_dev(known)
        for name in self.in_domain:
            if name not in known:
                raise ConfigError(f"evaluation.in_domain: {name!r} is not evaluated. {nearest(name, known)}")
        self.local.validate()

    def parts(self, eval_sets: Sequence[EvalSet]) -> list[Part]:
        """The run's own sets, and the benchmark tasks."""
        from lightning_embed.evaluation.benchmark import get_tasks, listed, members
        from lightning_embed.evaluation.score_task import task_word

        own = self._own.parts(eval_sets)
        taken = {part.name for part in own if part.split == self.split}
        of_benchmarks = members(listed(self.benchmark), public=False)
        benchmark_parts = []
        for task in get_tasks(self.tasks, self.benchmark):
            name = task.metadata.name
            if name in taken:
                raise ConfigError(f"Two tests have the name {name!r}: rename the dataset, or remove the mteb task.")
            word = task_word(task)
            benchmarks = of_benchmarks.get(name, [])
            arguments = name, benchmarks, self.split, name in self.in_domain, metrics_of(self.metrics, word)
            benchmark_parts.append(Part(self.split, word, name, repr(arguments), partial(_run_task, *arguments)))
        return own + benchmark_parts

    @property
    def _own(self) -> Evaluator:
        if isinstance(self.local, Local) and self.local.metrics is None:
            return replace(self.local, metrics=self.metrics)
        return self.local


def _run_task(
    name: str,
    benchmarks: Sequence[str],
    split: str,
    in_domain: bool,
    metrics: Sequence[Metric],
    encoder: TextEncoder,
) -> Score:
    from lightning_embed.evaluation.benchmark import dev_splits, get_tasks
    from lightning_embed.evaluation.score_task import run

    (task,) = get_tasks([name], benchmarks[:1])  # a fresh task, because some have a random state
    if split == "dev":
        task.filter_eval_splits(dev_splits(task))
    score = run(encoder, task, in_domain, metrics)
    if benchmarks:
        score["benchmarks"] = list(benchmarks)
    return score
