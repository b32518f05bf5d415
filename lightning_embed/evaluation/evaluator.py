"""The evaluators: `evaluation=local`, `evaluation=mteb` and `evaluation=none`."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import ConfigError, nearest
from lightning_embed.evaluation.subset import subset
from lightning_embed.types import EvalSet, Results, RetrievalSet, Task

Role = Literal["query", "document"]
SPLITS = ("dev", "test")


@runtime_checkable
class TextEncoder(Protocol):
    """What an evaluation needs of an encoder."""

    def prompt_for(self, task: Task, role: Role, dataset: str) -> str:
        """The prompt of a dataset's queries or documents; the texts of tasks without roles are queries."""

    def encode(self, texts: Sequence[str], *, prompt: str | None) -> Float[Tensor, "texts dim"]:
        """Embed `texts`, each behind `prompt` (None: the encoder's default): float32, no gradient, no dropout."""


@runtime_checkable
class Evaluator(Protocol):
    """Scores models; the pipeline calls `check` before the first batch of training."""

    def check(self) -> None:
        """Refuse what cannot be evaluated.

        Raises:
            ConfigError: for example an unknown task.
        """

    def __call__(self, encoder: TextEncoder, eval_sets: Sequence[EvalSet]) -> Results:
        """Score `encoder`."""


@dataclass(frozen=True)
class Nothing:
    """Evaluates nothing: `evaluation=none`."""

    def check(self) -> None:
        """Nothing to refuse."""

    def __call__(self, encoder: TextEncoder, eval_sets: Sequence[EvalSet]) -> Results:  # noqa: ARG002
        """No scores."""
        return {}


@dataclass(frozen=True)
class Local:
    """Evaluates on the dev and test sets of the run's own datasets.

    Args:
        splits: which of "dev" and "test".
        max_dev_queries: at most so many queries of a retrieval dev set; None for all.
        max_dev_documents: at most so many documents of a retrieval dev set, but always the relevant ones; None for all.

    Raises:
        ConfigError: an unknown split or a number below 1.
    """

    splits: Sequence[str] = SPLITS
    max_dev_queries: int | None = None
    max_dev_documents: int | None = None

    def __post_init__(self) -> None:
        for split in self.splits:
            if split not in SPLITS:
                raise ConfigError(f"evaluation.splits: {split!r} is no split. {nearest(split, SPLITS)}")
        for name in ("max_dev_queries", "max_dev_documents"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"evaluation.{name}={value}: expected 1 or more, or null for all.")

    def check(self) -> None:
        """Nothing to refuse: the data room has read the files."""

    def __call__(self, encoder: TextEncoder, eval_sets: Sequence[EvalSet]) -> Results:
        """Score `encoder` on every set of the chosen splits."""
        from lightning_embed.evaluation.local import to_task
        from lightning_embed.evaluation.run import run

        results: Results = {}
        for eval_set in map(self._cut, eval_sets):
            if eval_set.split in self.splits:
                score = run(encoder, to_task(eval_set), eval_set.in_domain)
                results.setdefault(eval_set.split, {})[eval_set.name] = score
        return results

    def _cut(self, eval_set: EvalSet) -> EvalSet:
        if eval_set.split != "dev" or not isinstance(eval_set.content, RetrievalSet):
            return eval_set
        content = subset(eval_set.content, self.max_dev_queries, self.max_dev_documents)
        return replace(eval_set, content=content)


@dataclass(frozen=True)
class Mteb:
    """Evaluates on benchmark tasks by name; they count as test, on the splits that mteb reports.

    Args:
        tasks: names of mteb tasks, e.g. STS12, SciFact.
        in_domain: those of `tasks` that have a train set in this run.
        local: evaluates the run's own sets as well; without dev scores a run has no optimized metric.
    """

    tasks: Sequence[str]
    in_domain: Sequence[str] = ()
    local: Evaluator = field(default_factory=Nothing)

    def check(self) -> None:
        """Refuse unknown tasks; downloads nothing.

        Raises:
            ConfigError: no task, an unknown one, or one that is not about text.
        """
        from lightning_embed.evaluation.benchmark import check_tasks

        check_tasks(self.tasks)
        for name in self.in_domain:
            if name not in self.tasks:
                raise ConfigError(f"evaluation.in_domain: {name!r} is not evaluated. {nearest(name, self.tasks)}")
        self.local.check()

    def __call__(self, encoder: TextEncoder, eval_sets: Sequence[EvalSet]) -> Results:
        """Score `encoder` on the benchmark tasks and on the run's own sets."""
        from lightning_embed.evaluation.benchmark import get_task
        from lightning_embed.evaluation.run import run

        results = self.local(encoder, eval_sets)
        tests = results.setdefault("test", {})
        for name in self.tasks:
            if name in tests:
                raise ConfigError(f"Two tests are called {name!r}: rename the dataset, or drop the mteb task.")
            tests[name] = run(encoder, get_task(name), name in self.in_domain)
        return results
