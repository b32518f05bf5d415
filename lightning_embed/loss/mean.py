"""A mean over the rows of all ranks, in parts."""

from jaxtyping import Bool, Float
from torch import Tensor


def part_of_mean(
    values: Float[Tensor, " local *each"], exists: Bool[Tensor, " rows *each"], rows: slice
) -> Float[Tensor, ""]:
    """This rank's part of the mean over all that exists, 0 if nothing does: the parts average over ranks to that mean.

    Args:
        values: of the rows of this rank.
        exists: which values of all ranks count.
        rows: the rows of this rank.
    """
    ranks = len(exists) / len(values)
    return values.where(exists[rows], 0).sum() * ranks / exists.sum().clamp(min=1)
