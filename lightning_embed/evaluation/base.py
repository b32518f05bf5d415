"""The evaluators: `evaluation=local`, `evaluation=mteb` and `evaluation=none`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import ConfigError, nearest
from lightning_embed.types import EvalSet, Results, Score, Task

Role = Literal["query", "document"]
SPLITS = ("dev", "test")
DTYPES = ("float32", "bfloat16")


@runtime_checkable
class TextEncoder(Protocol):
    """The interface of an encoder that can be evaluated."""

    def prompt_for(self, task: Task, role: Role, dataset: str) -> str:
        """The prompt of a dataset's queries or documents; the texts of tasks without roles are queries."""

    def encode(
        self, texts: Sequence[str], *, prompt: str | Sequence[str] | None, max_length: int | None = None
    ) -> Float[Tensor, "texts dim"]:
        """Embed `texts`: float32, no gradient, no dropout.

        Args:
            texts: the texts.
            prompt: from `prompt_for`, for all texts; or the own prompt of each; None: the encoder's default.
            max_length: maximum number of tokens of a text; None: the encoder's.
        """


class Asked(NamedTuple):
    """A text as an encoder is asked for it: the key of its embedding in a cache."""

    prompt: str | None
    text: str
    max_length: int | None


def asked_for(texts: Sequence[str], prompt: str | Sequence[str] | None, max_length: int | None) -> list[Asked]:
    """The texts of a call of `TextEncoder.encode`, one by one."""
    prompts = [prompt] * len(texts) if prompt is None or isinstance(prompt, str) else prompt
    return [Asked(before, text, max_length) for before, text in zip(prompts, texts, strict=True)]


@dataclass(frozen=True)
class Part:
    """One test of an evaluation.

    Args:
        split: dev or test.
        task: type of task, as in `Score`.
        name: name of the test.
        key: a text that identifies everything on which the score depends, except the model.
        run: scores an encoder.
    """

    split: str
    task: str
    name: str
    key: str
    run: Callable[[TextEncoder], Score]


def check_dtype(dtype: str) -> None:
    """Refuse a dtype in which nothing is evaluated.

    Raises:
        ConfigError: it.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"evaluation.dtype: expected float32 or bfloat16, got {dtype!r}. {nearest(dtype, DTYPES)}")


class Evaluator(ABC):
    """Scores models; the pipeline calls `validate` before the first batch of training.

    `dtype` is that of the computation of embeddings: float32, which gives the same scores on all machines, or bfloat16.
    """

    dtype: str = DTYPES[0]

    @abstractmethod
    def validate(self) -> None:
        """Refuse options with which nothing can be evaluated.

        Raises:
            ConfigError: for example for an unknown task.
        """

    @abstractmethod
    def parts(self, eval_sets: Sequence[EvalSet]) -> list[Part]:
        """The tests, each of which can run on its own."""

    def __call__(self, encoder: TextEncoder, eval_sets: Sequence[EvalSet]) -> Results:
        """Score `encoder`."""
        results: Results = {}
        for part in self.parts(eval_sets):
            results.setdefault(part.split, {})[part.name] = part.run(encoder)
        return results
