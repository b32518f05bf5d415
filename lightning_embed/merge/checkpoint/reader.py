"""Reader of model directories: safetensors files, single or sharded, one tensor at a time."""

import json
import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lightning_embed.errors import CheckpointError
from lightning_embed.merge.checkpoint.inside import inside
from lightning_embed.merge.checkpoint.modules import Layout, Module, layout_of
from lightning_embed.merge.checkpoint.name_matching import Header, Names, TensorInfo
from lightning_embed.merge.checkpoint.quantised import refuse_quantised
from lightning_embed.merge.checkpoint.weight_files import weight_files
from lightning_embed.merge.checkpoint.wrappers import unwrapped
from lightning_embed.merge.contract import Source
from lightning_embed.runtime.finite import is_finite
from lightning_embed.storage.checksum import sha256


@dataclass(frozen=True)
class Place:
    """The place of a tensor: its file, and the position of its first byte."""

    file: Path
    start: int


@dataclass(frozen=True)
class ModelDirectory:
    """A model on disk, under the common names of the models of a merge (see `name_matching.agree`).

    Args:
        path: of the directory.
        name: of the model, for messages.
        size: number of training rows; None: unknown.
        places: own name of a tensor -> its place.
        header: own name of a tensor -> its dtype and shape.
        names: the tensors of the merge, under their common and own names.
        notes: findings that do not prevent a merge, a sentence each.
        layout: its modules; their tensors have the prefixes of their folders.
    """

    path: Path
    name: str
    size: int | None
    places: Mapping[str, Place]
    header: Header
    names: Names
    notes: tuple[str, ...] = field(default=(), kw_only=True)
    layout: Layout = field(default=Layout(), kw_only=True)

    @classmethod
    def open(cls, source: Source) -> "ModelDirectory":
        """Read the headers of a model directory.

        Raises:
            QuantisedModel: its tensors are codes and scales.
            CheckpointError: no directory, no safetensors in it, a truncated shard, or an index that does not fit.
        """
        header, places, notes = contents(inside(source.path, layout_of(source.path).body))
        names = Names({name: name for name in header}, [])
        model = cls(source.path, source.name, source.size, places, header, names, notes=notes)
        return with_modules(model, source.path)

    def renamed(self, names: Names) -> "ModelDirectory":
        """The same directory with different names."""
        return replace(self, names=names)

    @cached_property
    def parameters(self) -> dict[str, torch.Size]:
        """Name and shape of the floating tensors, in the order of the names."""
        return {name: info.shape for name, info in self._infos() if info.dtype.is_floating_point}

    @cached_property
    def buffers(self) -> list[str]:
        """Names of all other tensors."""
        return [name for name, info in self._infos() if not info.dtype.is_floating_point]

    def info(self, name: str) -> TensorInfo:
        """Dtype and shape of a stored tensor."""
        return self.header[self._own(name)]

    @property
    def files(self) -> list[Path]:
        """The files that hold the weights."""
        return sorted({place.file for place in self.places.values()})

    def digests(self) -> dict[str, str]:
        """SHA-256 of the files that hold the weights, by path in the directory."""
        return {name: sha256(file) for name, file in sorted(self.named_files.items())}

    @property
    def named_files(self) -> dict[str, Path]:
        """The files that hold the weights, by path in the directory."""
        return {
            min((f.relative_to(folder).as_posix() for folder in self.folders if f.is_relative_to(folder)), key=len): f
            for f in self.files
        }

    @property
    def body_header(self) -> Header:
        """The header of the body alone."""
        return {name: info for name, info in self.header.items() if not self.is_beside(name)}

    def module_header(self, module: Module) -> Header:
        """The header of a module beside the body, under the names in its file."""
        names = self.layout.names_of(module, self.header)
        return {name.removeprefix(module.prefix): self.header[name] for name in names}

    def is_beside(self, name: str) -> bool:
        """Whether a tensor belongs to a module beside the body."""
        return self.layout.prefix_of(name) != ""

    @property
    def folders(self) -> list[Path]:
        """The folders of configuration, tokenizer ...; of two files with the same name, the last counts."""
        return [self.path]

    @property
    def dropped(self) -> list[str]:
        """Own names of the tensors without a part in the merge."""
        return self.names.dropped

    def tensor(self, name: str) -> Shaped[Tensor, "..."]:
        """One tensor as it is stored, not to be written to."""
        own = self._own(name)
        return mapped(self.places[own], self.header[own])

    def first_not_finite(self) -> str | None:
        """The own name of the first tensor with NaN or infinity; None: all are finite."""
        floating = (name for name, info in sorted(self.header.items()) if info.dtype.is_floating_point)
        return next((name for name in floating if not is_finite(mapped(self.places[name], self.header[name]))), None)

    def _own(self, name: str) -> str:
        return self.names.kept[name] if name in self.names.kept else self.names.lent[name]

    def _infos(self) -> Iterator[tuple[str, TensorInfo]]:
        return ((name, self.header[own]) for name, own in sorted(self.names.kept.items()))


Opened = TypeVar("Opened", bound=ModelDirectory)


def with_modules(model: Opened, folder: Path, body: str | None = None) -> Opened:
    """A model with the modules beside the body that the modules.json of `folder` lists; without one, as it is.

    Args:
        model: the model, opened.
        folder: the directory of the modules.
        body: folder of the body in the result; None: as modules.json says.

    Raises:
        CheckpointError: a module cannot be read.
    """
    layout = layout_of(folder)
    if layout.is_plain:
        return model
    header, places, notes = (
        dict(model.body_header),
        {name: model.places[name] for name in model.body_header},
        model.notes,
    )
    for module in layout.weighted:
        infos, starts, found = contents(inside(folder, module.folder))
        header |= {module.prefix + name: info for name, info in infos.items()}
        places |= {module.prefix + name: place for name, place in starts.items()}
        notes += found
    names = replace(model.names, kept={name: name for name in header})
    return replace(
        model,
        header=header,
        places=places,
        names=names,
        notes=notes,
        layout=layout if body is None else replace(layout, body=body),
    )


def contents(folder: Path) -> tuple[dict[str, TensorInfo], dict[str, Place], tuple[str, ...]]:
    """Dtype, shape and place of the tensors of a folder, by name without wrappers, and notes.

    Raises:
        QuantisedModel: its tensors are codes and scales.
        CheckpointError: no directory, no safetensors in it, a truncated shard, or an index that does not fit.
    """
    weights = weight_files(folder)
    read = {file: read_header(file) for file in weights.files}
    weights.check(folder, {file: header for file, (header, _) in read.items()})
    infos = {name: info for header, _ in read.values() for name, info in header.items()}
    starts = {name: place for _, places in read.values() for name, place in places.items()}
    refuse_quantised(folder, infos)
    own, notes = unwrapped(infos, folder)
    header = {name: infos[stored] for name, stored in own.items()}
    places = {name: starts[stored] for name, stored in own.items()}
    return header, places, (*weights.notes, *notes)


def read_header(file: Path) -> tuple[dict[str, TensorInfo], dict[str, Place]]:
    """Dtype, shape and place of the tensors of a file.

    Raises:
        CheckpointError: no safetensors file, or a truncated one.
    """
    with _opened(file) as tensors:
        # get_tensor maps the file: nothing is read
        found = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
    return {name: TensorInfo(tensor.dtype, tensor.shape) for name, tensor in found.items()}, _places(file)


def _places(file: Path) -> dict[str, Place]:
    """The places of the tensors of a file that safetensors has validated; its API does not report them."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        pairs = json.loads(stream.read(length), object_pairs_hook=list)
    entries = {name: dict(entry) for name, entry in pairs}
    if len(entries) < len(pairs):
        raise CheckpointError(f"{file}: its header lists a tensor twice. Save the model again.")
    return {
        name: Place(file, 8 + length + entry["data_offsets"][0])
        for name, entry in entries.items()
        if name != "__metadata__"
    }


def mapped(place: Place, info: TensorInfo) -> Shaped[Tensor, "..."]:
    """Map a tensor into memory: only accessed pages are read, and they are freed with the tensor.

    safetensors would read the header again for each tensor (15 times as slow), or keep every page in memory.

    Raises:
        CheckpointError: the file was removed or truncated since its header was read.
    """
    if info.shape.numel() == 0:
        return torch.empty(info.shape, dtype=info.dtype)
    before = place.start % mmap.ALLOCATIONGRANULARITY
    length = before + info.shape.numel() * info.dtype.itemsize
    try:
        with place.file.open("rb") as stream:
            # copy on write, because torch warns about read-only memory
            memory = mmap.mmap(stream.fileno(), length, access=mmap.ACCESS_COPY, offset=place.start - before)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{place.file} has changed since the merge began ({error}). Do not change models during a merge."
        ) from None
    return torch.frombuffer(memory, dtype=info.dtype, count=info.shape.numel(), offset=before).view(info.shape)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="pt") as tensors:
            yield tensors
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is not a complete safetensors file ({error}). Copy it again.") from None
