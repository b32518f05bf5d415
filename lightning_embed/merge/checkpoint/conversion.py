"""Models that only other libraries can read: dequantised or folded by them, then read from the copy."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol, runtime_checkable

from lightning_embed.merge.checkpoint.reader import ModelDirectory, with_modules


@runtime_checkable
class Converter(Protocol):
    """The libraries that convert models; `lightning_embed.encoder.conversion` has them."""

    def dequantised(self, folder: Path) -> Path:
        """The directory of a copy in full precision of a quantised model.

        Raises:
            CheckpointError: no installed library can dequantise it on this machine.
        """
        ...

    def folded(self, adapter: Path, base: Path) -> Path:
        """The directory of a base with an adapter folded into its weights.

        Raises:
            CheckpointError: peft is missing, or cannot fold it.
        """
        ...


@dataclass(frozen=True)
class ConvertedModel(ModelDirectory):
    """A model whose weights are read from a converted copy.

    Args:
        originals: the files that it was converted from, which stand for it in merge.json.
        parts: folders of its configuration and tokenizer, the copy last.
    """

    originals: Sequence[Path]
    parts: Sequence[Path]

    @property
    def files(self) -> list[Path]:
        """The files that the copy was made from, and those of the modules beside it."""
        return sorted({*self.originals, *(place.file for name, place in self.places.items() if self.is_beside(name))})

    @property
    def folders(self) -> list[Path]:
        """The original folders, then the copy, whose configuration takes precedence."""
        return list(self.parts)


def converted(
    copy: ModelDirectory, path: Path, originals: Sequence[Path], parts: Sequence[Path], note: str
) -> ConvertedModel:
    """The model at `path`, read from `copy`."""
    own = {field.name: getattr(copy, field.name) for field in fields(ModelDirectory)}
    notes = (*copy.notes, note)
    model = ConvertedModel(**{**own, "path": path, "notes": notes}, originals=originals, parts=[*parts, copy.path])
    for folder in parts:  # a copy holds the body alone
        model = with_modules(model, folder)
    return model
