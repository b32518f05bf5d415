"""Evaluation on the dev and test sets of the run's own datasets: `evaluation=local`."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from lightning_embed.errors import ConfigError, nearest
from lightning_embed.evaluation.base import DTYPES, SPLITS, Evaluator, Part, TextEncoder, check_dtype
from lightning_embed.evaluation.dev_subset import subset
from lightning_embed.evaluation.metrics import Metric, metrics_of, parse_metrics
from lightning_embed.evaluation.small_vectors import Form, parse_forms
from lightning_embed.types import EvalSet, RetrievalSet, Score


@dataclass(frozen=True)
class Local(Evaluator):
    """Evaluates on the dev and test sets of the run's own datasets.

    Args:
        splits: any of "dev" and "test".
        max_dev_queries: limit for the queries of a retrieval dev set; None: all.
        max_dev_documents: limit for the documents of a retrieval dev set, in which relevant documents are always kept;
            None: all.
        metrics: words such as ndcg@10, recall@100 or pearson; the first of a task is its main metric. None: ndcg@10,
            spearman, accuracy and v_measure.
        dtype: float32 or bfloat16, see `Evaluator`.
        small_vectors: also score the embeddings in fewer bytes, by the main metric: any of int8, binary, numbers of
            dimensions, and int8@256, see `Form` and `shrink`.

    Raises:
        ConfigError: an unknown split, metric, dtype or form of vectors, or a number below 1.
    """

    splits: Sequence[str] = SPLITS
    max_dev_queries: int | None = None
    max_dev_documents: int | None = None
    metrics: Sequence[str] | None = None
    dtype: str = DTYPES[0]
    small_vectors: Sequence[str | int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for split in self.splits:
            if split not in SPLITS:
                raise ConfigError(f"evaluation.splits: {split!r} is no split. {nearest(split, SPLITS)}")
        for name in ("max_dev_queries", "max_dev_documents"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"evaluation.{name}={value}: expected 1 or more, or null for all.")
        parse_metrics(self.metrics)
        check_dtype(self.dtype)
        parse_forms(self.small_vectors)

    def validate(self) -> None:
        """Do nothing: the sets were checked when their files were read."""

    def parts(self, eval_sets: Sequence[EvalSet]) -> list[Part]:
        """One part per set of the chosen splits."""
        return [self._part(self._cut(eval_set)) for eval_set in eval_sets if eval_set.split in self.splits]

    def _part(self, eval_set: EvalSet) -> Part:
        arguments = eval_set, metrics_of(self.metrics, eval_set.task), parse_forms(self.small_vectors)
        return Part(eval_set.split, str(eval_set.task), eval_set.name, repr(arguments), partial(_run_local, *arguments))

    def _cut(self, eval_set: EvalSet) -> EvalSet:
        if eval_set.split != "dev" or not isinstance(eval_set.content, RetrievalSet):
            return eval_set
        content = subset(eval_set.content, self.max_dev_queries, self.max_dev_documents)
        return replace(eval_set, content=content)


def _run_local(eval_set: EvalSet, metrics: Sequence[Metric], forms: Sequence[Form], encoder: TextEncoder) -> Score:
    from lightning_embed.evaluation.small_scores import run

    return run(encoder, eval_set, metrics, forms)
