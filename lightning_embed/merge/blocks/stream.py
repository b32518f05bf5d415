"""Blocks of parameters, read from all models of a merge together: the input of `prepare` and of the engine."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import CheckpointError
from lightning_embed.merge.contract import Cut, Model
from lightning_embed.runtime.finite import is_finite

# Elements of a block: few enough for the block of all sources to stay in the processor's cache, and enough that threads
# seldom wait for each other (blocks of half the size take 1.3 times as long for TIES of four models). A constant,
# because a random strategy draws new numbers for each block: a different size would give a different merge.
BLOCK_ELEMENTS = 131_072

R = TypeVar("R")


@dataclass(frozen=True)
class Block:
    """The same elements of one parameter in all models, in float32."""

    name: str
    index: int  # of the block in its parameter
    tensors: Float[Tensor, " sources *shape"]
    base: Float[Tensor, "*shape"] | None
    statistics: Sequence[Float[Tensor, "..."]] = ()  # one per source, as stored

    @property
    def deltas(self) -> Float[Tensor, " sources *shape"]:
        """Sources minus base; without a base, the sources."""
        return self.tensors if self.base is None else self.tensors - self.base


@dataclass(frozen=True)
class Span:
    """A block that has not been read yet."""

    name: str
    index: int
    models: Sequence[Model]  # sources, then the base
    views: Sequence[Float[Tensor, "*shape"]]  # the same elements in the files of all models
    num_sources: int
    statistics: Sequence[Float[Tensor, "..."]] = ()

    def read(self) -> Block:
        """Read the block.

        Raises:
            CheckpointError: a model contains NaN or infinity.
        """
        values = torch.stack([view.float() for view in self.views])
        if not is_finite(values):
            broken = next(m.name for m, value in zip(self.models, values, strict=True) if not value.isfinite().all())
            raise not_finite(broken, self.name)
        base = values[-1] if len(self.models) > self.num_sources else None
        return Block(self.name, self.index, values[: self.num_sources], base, self.statistics)

    def deltas(self) -> Iterator[Float[Tensor, "*shape"]]:
        """The deltas of `Block`, one source after the other, which moves less memory. NaN is not detected."""
        base = self.views[-1].float() if len(self.views) > self.num_sources else None
        sources = (view.float() for view in self.views[: self.num_sources])
        return sources if base is None else (source - base for source in sources)


def spans(
    name: str,
    sources: Sequence[Model],
    base: Model | None,
    cut: Cut = Cut.element,
    statistics: Sequence[Model] = (),
) -> Iterator[Span]:
    """Cut the parameter `name` of all models into blocks, and the statistics of the sources into the same blocks."""
    models = [*sources, base] if base else list(sources)
    stored = [model.tensor(name) for model in models]
    beside = [model.tensor(name) for model in statistics if name in model.parameters]
    if cut is Cut.element:
        stored, beside = [tensor.flatten() for tensor in stored], [tensor.flatten() for tensor in beside]
    shape = stored[0].shape
    if cut is Cut.tensor or (cut is Cut.row and len(shape) < 2):
        yield Span(name, 0, models, stored, len(sources), beside)
        return
    step = max(1, BLOCK_ELEMENTS // max(1, math.prod(shape[1:])))
    for index, start in enumerate(range(0, shape[0], step)):
        part = slice(start, start + step)
        yield Span(name, index, models, [t[part] for t in stored], len(sources), [t[part] for t in beside])


def read_blocks(name: str, sources: Sequence[Model], base: Model | None, cut: Cut = Cut.element) -> Iterator[Block]:
    """Yield the parameter `name` of all models in blocks.

    Raises:
        CheckpointError: a model contains NaN or infinity.
    """
    return (span.read() for span in spans(name, sources, base, cut))


def for_each_parameter(names: Mapping[str, torch.Size], find: Callable[[str], R]) -> dict[str, R]:
    """Call `find` for every parameter, several at a time, the largest first. The result has the order of `names`."""
    largest_first = sorted(names, key=lambda name: -names[name].numel())
    found = dict(zip(largest_first, in_parallel(partial(find, name) for name in largest_first), strict=True))
    return {name: found[name] for name in names}


def in_parallel(tasks: Iterable[Callable[[], R]]) -> Iterator[R]:
    """Run tasks in threads and yield their results in order; few tasks start before their result is needed.

    The pool has as many threads as torch, and each task runs in one thread. Torch's own threads synchronise after each
    small block, gain little, and wait for each other on a busy machine (63 s instead of 2.5 s for four models).
    """
    _keep_freed_memory()
    if torch.get_num_threads() == 1:
        yield from (task() for task in tasks)
        return
    with _single_threaded() as num_threads, ThreadPoolExecutor(num_threads) as pool:
        begun: deque[Future[R]] = deque()
        try:
            for task in tasks:
                begun.append(pool.submit(task))
                if len(begun) > 4 * num_threads:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _single_threaded() -> Iterator[int]:
    """Limit torch to one thread, and yield the number of threads that it had."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def _keep_freed_memory() -> None:
    """Make glibc reuse the memory of freed blocks instead of new zeroed pages: a third of the page faults.

    glibc keeps pieces up to the size of the largest piece freed so far, if that is less than 32 MiB.
    """
    torch.empty(2**25 - 2**14, dtype=torch.uint8)


def not_finite(model: str, name: str) -> CheckpointError:
    """The error for a model with NaN or infinity in the parameter `name`."""
    return CheckpointError(f"{model!r} has NaN or infinity in {name}. Leave it out of the merge, or export it again.")
