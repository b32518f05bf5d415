"""A share of the rows of a dataset."""

from array import array
from collections.abc import Sequence
from decimal import Decimal

import numpy as np

from lightning_embed.runtime.permutation import Permutation
from lightning_embed.types import TrainSet


def draw(dataset: TrainSet, share: float, seed: int, rest: bool = False) -> Sequence[int] | None:
    """Draw floor(share * num_rows) rows without replacement, at least one batch; ascending. None: all rows.

    A dataset of less than a batch gives all its rows. Draws of one seed are nested: the smaller is part of the larger.

    Args:
        dataset: the train set.
        share: in (0, 1].
        seed: of the draw.
        rest: return the rows that this draw leaves out instead.
    """
    wanted = int(Decimal(str(share)) * dataset.num_rows)  # the share as typed: as floats, 0.29 * 100 is below 29
    count = min(dataset.num_rows, max(dataset.batch_size, wanted))
    if count == dataset.num_rows and not rest:
        return None
    order = Permutation(dataset.num_rows, seed)
    chosen = order.first(dataset.num_rows - count, start=count) if rest else order.first(count)
    return array("q", np.sort(chosen).tobytes())  # 8 bytes a row, where a list of int takes 36
