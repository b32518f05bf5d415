"""Statistics of each source, stored beside merge.json in the format of a model's weights and read like a model."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import CheckpointError, PluginError
from lightning_embed.merge.checkpoint.name_matching import TensorInfo
from lightning_embed.merge.checkpoint.reader import ModelDirectory
from lightning_embed.merge.checkpoint.writer import write_tensors
from lightning_embed.merge.contract import Cut, MergeStrategy, Model, Probe, Source
from lightning_embed.runtime.finite import is_finite


def write_statistics(strategy: MergeStrategy, sources: Sequence[Model], probe: Probe | None, folder: Path) -> None:
    """Compute the statistics of one source after the other, each written to `<folder>/<number>/` before the next.

    Raises:
        CheckpointError: NaN or infinity in the statistics.
        PluginError: statistics that do not fit the parameters, or that differ in their names between sources.
    """
    names: set[str] | None = None
    for number, source in enumerate(sources):
        found = {name: tensor.cpu() for name, tensor in strategy.statistics(source, probe).items()}
        names = set(found) if names is None else names
        _refuse_misfits(strategy, source, found, names)
        if found:
            _write(found, folder / str(number))


def open_statistics(folder: Path, sources: Sequence[Model]) -> list[ModelDirectory]:
    """The statistics, in the order of the sources; empty, if nothing was written."""
    found = zip(statistics_folders(folder, len(sources)), sources, strict=True) if folder.is_dir() else ()
    return [ModelDirectory.open(Source(part, source.name)) for part, source in found]


def statistics_folders(folder: Path, num_sources: int) -> list[Path]:
    """The folder of the statistics of each source."""
    return [folder / str(number) for number in range(num_sources)]


def _refuse_misfits(
    strategy: MergeStrategy, source: Model, found: Mapping[str, Float[Tensor, "..."]], names: set[str]
) -> None:
    if set(found) != names:
        raise PluginError(
            f"merge={strategy.word}: statistics() must name the same parameters for all sources, and {source.name!r} "
            "differs. Fix its statistics()."
        )
    for name, tensor in found.items():
        shape = source.parameters.get(name)
        if shape is None or (strategy.cut is not Cut.tensor and tensor.shape != shape):
            raise PluginError(
                f"merge={strategy.word}: statistics() gives {list(tensor.shape)} for {name}, "
                f"which is {'no parameter' if shape is None else list(shape)}. "
                "Name parameters, and keep their shapes unless cut is tensor."
            )
        if not is_finite(tensor):
            raise CheckpointError(
                f"{source.name!r} gives NaN or infinity on the probe, at {name}. "
                "Leave it out of the merge, or use different data."
            )


def _write(found: Mapping[str, Float[Tensor, "..."]], folder: Path) -> None:
    folder.mkdir(parents=True)
    header = {name: TensorInfo(tensor.dtype, tensor.shape) for name, tensor in found.items()}
    write_tensors(folder, header, lambda names: (found[name] for name in names), max_shard_bytes=sys.maxsize)
