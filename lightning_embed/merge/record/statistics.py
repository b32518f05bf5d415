"""What data says of each source, beside merge.json: in the form of a model's weights, so it is read as models are."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import CheckpointError, PluginError
from lightning_embed.merge.blocks.stream import is_finite
from lightning_embed.merge.checkpoint.name_matching import TensorInfo
from lightning_embed.merge.checkpoint.reader import ModelDirectory
from lightning_embed.merge.checkpoint.writer import write_tensors
from lightning_embed.merge.contract import Cut, MergeStrategy, Model, Probe, Source


def write_statistics(strategy: MergeStrategy, sources: Sequence[Model], probe: Probe | None, folder: Path) -> None:
    """Ask the strategy about one source after another, and write each answer to `<folder>/<number>/` before the next.

    Raises:
        CheckpointError: NaN or infinity in an answer.
        PluginError: an answer that does not fit the parameters, or the answers before.
    """
    names: set[str] | None = None
    for number, source in enumerate(sources):
        found = {name: tensor.cpu() for name, tensor in strategy.statistics(source, probe).items()}
        names = set(found) if names is None else names
        _check(strategy, source, found, names)
        if found:
            _write(found, folder / str(number))


def open_statistics(folder: Path, sources: Sequence[Model]) -> list[ModelDirectory]:
    """The answers, in the order of the sources; none, if nothing was written."""
    found = zip(statistics_folders(folder, len(sources)), sources, strict=True) if folder.is_dir() else ()
    return [ModelDirectory.open(Source(part, source.name)) for part, source in found]


def statistics_folders(folder: Path, num_sources: int) -> list[Path]:
    """Where the answers are."""
    return [folder / str(number) for number in range(num_sources)]


def _check(strategy: MergeStrategy, source: Model, found: Mapping[str, Float[Tensor, "..."]], names: set[str]) -> None:
    if set(found) != names:
        raise PluginError(
            f"merge={strategy.word}: statistics() must name the same parameters for all sources, and {source.name!r} differs. Mend it."
        )
    for name, tensor in found.items():
        shape = source.parameters.get(name)
        if shape is None or (strategy.cut is not Cut.tensor and tensor.shape != shape):
            raise PluginError(
                f"merge={strategy.word}: statistics() gives {list(tensor.shape)} for {name}, which is {'none' if shape is None else list(shape)}. "
                "Name parameters, and keep their shapes where they are cut."
            )
        if not is_finite(tensor):
            raise CheckpointError(
                f"{source.name!r} gives NaN or infinity on the probe, at {name}. Leave it out of the merge, or look at other data."
            )


def _write(found: Mapping[str, Float[Tensor, "..."]], folder: Path) -> None:
    folder.mkdir(parents=True)
    header = {name: TensorInfo(tensor.dtype, tensor.shape) for name, tensor in found.items()}
    write_tensors(folder, header, lambda names: (found[name] for name in names), max_shard_bytes=sys.maxsize)
