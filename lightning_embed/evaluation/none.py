"""No evaluation: `evaluation=none`."""

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_embed.evaluation.base import Evaluator, Part
from lightning_embed.types import EvalSet


@dataclass(frozen=True)
class Nothing(Evaluator):
    """Evaluates nothing."""

    def validate(self) -> None:
        """Do nothing."""

    def parts(self, eval_sets: Sequence[EvalSet]) -> list[Part]:  # noqa: ARG002
        """No tests."""
        return []
