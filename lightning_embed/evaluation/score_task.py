"""Evaluation of an encoder on an mteb task."""

import logging
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from statistics import fmean

import datasets
import mteb
from mteb.abstasks import AbsTask
from mteb.abstasks.aggregated_task import AbsTaskAggregate
from mteb.models.abs_encoder import AbsEncoder

from lightning_embed.errors import DataError
from lightning_embed.evaluation.base import TextEncoder
from lightning_embed.evaluation.local_tasks import LocalTask
from lightning_embed.evaluation.metrics import Metric
from lightning_embed.evaluation.mteb_encoder import MtebEncoder
from lightning_embed.types import Score

BATCH_SIZE = 1024  # texts per call of the encoder, which chooses its own batch size


def run(encoder: TextEncoder, task: AbsTask, in_domain: bool, metrics: Sequence[Metric] = ()) -> Score:
    """Score `encoder` on `task`, see `score_of`."""
    return score_of(MtebEncoder(encoder, task if isinstance(task, LocalTask) else None), task, in_domain, metrics)


def score_of(model: AbsEncoder, task: AbsTask, in_domain: bool, metrics: Sequence[Metric] = ()) -> Score:
    """Score a model of mteb on `task`; each metric is averaged over splits and subsets as in mteb.

    Args:
        model: embeds the texts.
        task: a task that has not been run before.
        in_domain: whether the run has a train set of the task.
        metrics: metrics of this type of task, the main metric first; empty: mteb's main metric.

    Returns:
        The score; for a local set, also the scores of every query or pair.

    Raises:
        DataError: a metric is undefined, for example because all embeddings are equal, or mteb does not compute it.
    """
    # The result of an aggregate contains only its main metric, the mean over its tasks.
    tasks = list(task.tasks) if metrics and isinstance(task, AbsTaskAggregate) else [task]
    with _quiet():
        result = mteb.evaluate(
            model,
            tasks,
            cache=None,
            co2_tracker=False,
            encode_kwargs={"batch_size": BATCH_SIZE, "show_progress_bar": False},
            show_progress_bar=False,
            public_only=False,  # any other value lets mteb skip a dataset that cannot be loaded
        )
    metadata, splits = task.metadata, None if tasks == [task] else list(task.eval_splits)
    keys = [metric.key for metric in metrics] or ["main_score"]
    try:
        points = [fmean(one.get_score(splits, getter=itemgetter(key)) for one in result.task_results) for key in keys]
    except KeyError as error:
        raise DataError(f"{metadata.name}: mteb computes no {error} for it. Remove the task, or the metric.") from None
    names = [metric.key for metric in metrics] or [metadata.main_score]
    for name, score in zip(names, points, strict=True):
        if not math.isfinite(score):
            raise DataError(f"{metadata.name}: {name} is {score}: are all embeddings, or all labels, equal?")
    result_score = Score(task=task_word(task), metric=names[0], score=100 * points[0], in_domain=in_domain)
    if len(metrics) > 1:
        result_score["more"] = {metric.word: 100 * score for metric, score in zip(metrics[1:], points[1:], strict=True)}
    if isinstance(task, LocalTask):
        result_score |= task.details  # type: ignore[typeddict-item]
    return result_score


def task_word(task: AbsTask) -> str:
    """The type of a task, as in `Score`: PairClassification -> pair_classification, STS -> sts."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", task.metadata.type).lower()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the log and the progress bars of mteb, but not its errors."""
    logger, bars = logging.getLogger("mteb"), datasets.is_progress_bar_enabled()
    level = logger.level
    logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        if bars:
            datasets.enable_progress_bars()
