"""The evaluators: `evaluation=local`, `evaluation=mteb` and `evaluation=none`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import ConfigError, nearest
from lightning_embed.evaluation.subset import subset
from lightning_embed.types import EvalSet, Results, RetrievalSet, Score, Task

Role = Literal["query", "document"]
SPLITS = ("dev", "test")


@runtime_checkable
class TextEncoder(Protocol):
    """What an evaluation needs of an encoder."""

    def prompt_for(self, task: Task, role: Role, dataset: str) -> str:
        """The prompt of a dataset's queries or documents; the texts of tasks without roles are queries."""

    def encode(self, texts: Sequence[str], *, prompt: str | None) -> Float[Tensor, "texts dim"]:
        """Embed `texts`, each behind `prompt` (None: the encoder's default): float32, no gradient, no dropout."""


@dataclass(frozen=True)
class Part:
    """One test of an evaluation.

    Args:
        split: dev or test.
        task: what a score calls it, see `Score`.
        name: of the test.
        key: a text that changes with all that the score depends on, beside the model.
        run: scores an encoder.
    """

    split: str
    task: str
    name: str
    key: str
    run: Callable[[TextEncoder], Score]


class Evaluator(ABC):
    """Scores models; the pipeline calls `check` before the first batch of training."""

    @abstractmethod
    def check(self) -> None:
        """Refuse what cannot be evaluated.

        Raises:
            ConfigError: for example an unknown task.
        """

    @abstractmethod
    def parts(self, eval_sets: Sequence[EvalSet]) -> list[Part]:
        """The tests, each of which can be run by itself."""

    def __call__(self, encoder: TextEncoder, eval_sets: Sequence[EvalSet]) -> Results:
        """Score `encoder`."""
        results: Results = {}
        for part in self.parts(eval_sets):
            results.setdefault(part.split, {})[part.name] = part.run(encoder)
        return results


@dataclass(frozen=True)
class Nothing(Evaluator):
    """Evaluates nothing: `evaluation=none`."""

    def check(self) -> None:
        """Nothing to refuse."""

    def parts(self, eval_sets: Sequence[EvalSet]) -> list[Part]:  # noqa: ARG002
        """No tests."""
        return []


@dataclass(frozen=True)
class Local(Evaluator):
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

    def parts(self, eval_sets: Sequence[EvalSet]) -> list[Part]:
        """Every set of the chosen splits."""
        chosen = [self._cut(eval_set) for eval_set in eval_sets if eval_set.split in self.splits]
        return [Part(each.split, str(each.task), each.name, repr(each), partial(_run_local, each)) for each in chosen]

    def _cut(self, eval_set: EvalSet) -> EvalSet:
        if eval_set.split != "dev" or not isinstance(eval_set.content, RetrievalSet):
            return eval_set
        content = subset(eval_set.content, self.max_dev_queries, self.max_dev_documents)
        return replace(eval_set, content=content)


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

    Raises:
        ConfigError: another split.
    """

    tasks: Sequence[str] = ()
    in_domain: Sequence[str] = ()
    local: Evaluator = field(default_factory=Nothing)
    benchmark: str | None = None
    split: str = "test"

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ConfigError(f"evaluation.split: {self.split!r} is no split. {nearest(self.split, SPLITS)}")

    def check(self) -> None:
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
        self.local.check()

    def parts(self, eval_sets: Sequence[EvalSet]) -> list[Part]:
        """The run's own sets, and the benchmark tasks."""
        from lightning_embed.evaluation.benchmark import get_tasks
        from lightning_embed.evaluation.run import task_word

        own = self.local.parts(eval_sets)
        taken = {part.name for part in own if part.split == self.split}
        found = []
        for task in get_tasks(self.tasks, self.benchmark):
            name = task.metadata.name
            if name in taken:
                raise ConfigError(f"Two tests are called {name!r}: rename the dataset, or drop the mteb task.")
            given = name, self.benchmark, self.split, name in self.in_domain
            found.append(Part(self.split, task_word(task), name, repr(given), partial(_run_task, *given)))
        return own + found


def _run_local(eval_set: EvalSet, encoder: TextEncoder) -> Score:
    from lightning_embed.evaluation.local import to_task
    from lightning_embed.evaluation.run import run

    return run(encoder, to_task(eval_set), eval_set.in_domain)


def _run_task(name: str, benchmark: str | None, split: str, in_domain: bool, encoder: TextEncoder) -> Score:
    from lightning_embed.evaluation.benchmark import dev_splits, get_tasks
    from lightning_embed.evaluation.run import run

    (task,) = get_tasks([name], benchmark)  # a fresh one: some carry a random state
    if split == "dev":
        task.filter_eval_splits(dev_splits(task))
    return run(encoder, task, in_domain)
