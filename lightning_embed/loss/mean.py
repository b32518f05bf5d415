"""Mean over the rows of all ranks, in one part per rank."""

from jaxtyping import Bool, Float
from torch import Tensor


def part_of_mean(
    values: Float[Tensor, " local *each"], exists: Bool[Tensor, " rows *each"], rows: slice
) -> Float[Tensor, ""]:
    """This rank's part of the mean over all existing values, which is the average of the parts; 0 if none exists.

    Args:
        values: values of the rows of this rank.
        exists: mask of the values of all ranks that count.
        rows: the rows of this rank.
    """
    ranks = len(exists) / len(values)
    return values.where(exists[rows], 0).sum() * ranks / exists.sum().clamp(min=1)
