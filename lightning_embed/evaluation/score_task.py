"""One encoder on one mteb task."""

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

from lightning_embed.errors import DataError
from lightning_embed.evaluation.base import TextEncoder
from lightning_embed.evaluation.local_tasks import LocalTask
from lightning_embed.evaluation.metrics import Metric
from lightning_embed.evaluation.mteb_encoder import MtebEncoder
from lightning_embed.types import Score

BATCH_SIZE = 1024  # texts that mteb hands over at once; how many the encoder runs at once is its own decision


def run(encoder: TextEncoder, task: AbsTask, in_domain: bool, metrics: Sequence[Metric] = ()) -> Score:
    """Score `encoder` on `task`: each metric is averaged over splits and subsets as mteb does.

    Args:
        encoder: embeds the texts.
        task: fresh.
        in_domain: the run has a train set of it.
        metrics: of this type of task, the main one first; none: mteb's main metric.

    Returns:
        The score; of local sets, also the scores of every query or pair.

    Raises:
        DataError: a metric is undefined, for example because all embeddings are equal; or mteb computes none of its name.
    """
    # The result of an aggregate has its main metric alone, which is the mean over its tasks.
    tasks = list(task.tasks) if metrics and isinstance(task, AbsTaskAggregate) else [task]
    with _quiet():
        result = mteb.evaluate(
            MtebEncoder(encoder),
            tasks,
            cache=None,
            co2_tracker=False,
            encode_kwargs={"batch_size": BATCH_SIZE, "show_progress_bar": False},
            show_progress_bar=False,
            public_only=False,  # anything else lets a data set that cannot be loaded pass
        )
    metadata, splits = task.metadata, None if tasks == [task] else list(task.eval_splits)
    keys = [metric.key for metric in metrics] or ["main_score"]
    try:
        points = [fmean(one.get_score(splits, getter=itemgetter(key)) for one in result.task_results) for key in keys]
    except KeyError as error:
        raise DataError(
            f"{metadata.name}: mteb computes no {error} for it. Leave out the task, or its metric."
        ) from None
    names = [metric.key for metric in metrics] or [metadata.main_score]
    for name, score in zip(names, points, strict=True):
        if not math.isfinite(score):
            raise DataError(f"{metadata.name}: {name} is {score}: are all embeddings, or all labels, equal?")
    found = Score(task=task_word(task), metric=names[0], score=100 * points[0], in_domain=in_domain)
    if len(metrics) > 1:
        found["more"] = {metric.word: 100 * score for metric, score in zip(metrics[1:], points[1:], strict=True)}
    if isinstance(task, LocalTask):
        found |= task.details  # type: ignore[typeddict-item]
    return found


def task_word(task: AbsTask) -> str:
    """What a score calls the type of a task: PairClassification -> pair_classification, STS -> sts."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", task.metadata.type).lower()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what mteb prints about itself; errors are raised all the same."""
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
