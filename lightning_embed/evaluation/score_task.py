"""One encoder on one mteb task."""

import logging
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import datasets
import mteb
from mteb.abstasks import AbsTask

from lightning_embed.errors import DataError
from lightning_embed.evaluation.base import TextEncoder
from lightning_embed.evaluation.local_tasks import LocalTask
from lightning_embed.evaluation.mteb_encoder import MtebEncoder
from lightning_embed.types import Score

BATCH_SIZE = 1024  # texts that mteb hands over at once; how many the encoder runs at once is its own decision


def run(encoder: TextEncoder, task: AbsTask, in_domain: bool) -> Score:
    """Score `encoder` on `task`: its main metric, averaged over splits and subsets as mteb does.

    Of local sets, also what every query or pair scored.

    Raises:
        DataError: the metric is undefined, for example because all embeddings are equal.
    """
    with _quiet():
        result = mteb.evaluate(
            MtebEncoder(encoder),
            task,
            cache=None,
            co2_tracker=False,
            encode_kwargs={"batch_size": BATCH_SIZE, "show_progress_bar": False},
            show_progress_bar=False,
            public_only=False,  # anything else lets a data set that cannot be loaded pass
        )
    metadata = task.metadata
    score = float(result.task_results[0].get_score())
    if not math.isfinite(score):
        raise DataError(f"{metadata.name}: {metadata.main_score} is {score}: are all embeddings, or all labels, equal?")
    found = Score(task=task_word(task), metric=metadata.main_score, score=100 * score, in_domain=in_domain)
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
