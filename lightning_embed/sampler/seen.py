"""Rows that a training has seen: what was drawn of each dataset, exactly, up to a step."""

from collections.abc import Iterator
from dataclasses import dataclass

from lightning_embed.sampler.stream import StepSampler

_BLOCK = 2**20  # rows at a time


@dataclass(frozen=True)
class RowsSeen:
    """Rows of one dataset in the first steps of a training.

    Args:
        distinct: rows that were drawn.
        drawn: the same with repetitions, one per epoch at most.
        first_step: number of the first step with rows of the dataset, from 1; None: no step of an epoch has any.
    """

    distinct: int
    drawn: int
    first_step: int | None

    def __str__(self) -> str:
        if not self.drawn:
            return "0"
        return f"{self.distinct:,}" if self.drawn == self.distinct else f"{self.distinct:,} x {self.times:.3g}"

    @property
    def times(self) -> float:
        """Mean number of times that a row was drawn."""
        return self.drawn / self.distinct if self.distinct else 0.0


def rows_seen(stream: StepSampler, steps: int) -> dict[str, RowsSeen]:
    """The rows of each dataset in the first `steps` steps, of all ranks."""
    epochs, rest = divmod(steps, len(stream))
    begun = stream.order(epochs)[:rest].flatten().bincount(minlength=len(stream.datasets)).tolist()
    first = list(_first_steps(stream))
    seen = {}
    for number, (name, whole) in enumerate(stream.num_batches.items()):
        size = stream.schedule.batch_rows(stream.datasets[name])
        counts = [whole * size] * epochs + [begun[number] * size]
        seen[name] = RowsSeen(_distinct(stream, name, counts), sum(counts), first[number])
    return seen


def _distinct(stream: StepSampler, name: str, counts: list[int]) -> int:
    """Number of distinct rows, if epoch `e` draws the first `counts[e]` of its shuffled rows."""
    total, most = stream.datasets[name].num_rows, max(counts)
    if most in (0, total) or sum(map(bool, counts)) == 1:
        return most
    first = counts.index(most)
    others = [(stream.shuffled(name, epoch), count) for epoch, count in enumerate(counts) if count and epoch != first]
    never = 0
    for start in range(most, total, _BLOCK):  # of the rows that the longest epoch leaves out, the others draw some
        rows = stream.shuffled(name, first).first(min(_BLOCK, total - start), start)
        for order, count in others:
            if not len(rows):
                break
            rows = rows[order.inverse(rows) >= count]
        never += len(rows)
    return total - never


def _first_steps(stream: StepSampler) -> Iterator[int | None]:
    """First step of each dataset, from 1; None: the sampler leaves the dataset out."""
    order = stream.order(0)
    for number in range(len(stream.datasets)):
        found = (order == number).any(1).nonzero()
        yield int(found[0]) + 1 if len(found) else None
