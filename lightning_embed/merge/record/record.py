"""merge.json: what was merged, how, and what was found on the way."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from lightning_embed.merge.checkpoint.directory import RECORD_FILE
from lightning_embed.merge.diagnosis.geometry import Geometry

NO_MERGE = "none"
"""The word of the strategy, in the merge.json of an examination without a merge."""

_PACKAGES = ("lightning-embed", "torch", "safetensors")


@dataclass(frozen=True)
class ModelRecord:
    """A source or the base.

    Args:
        name: of the expert.
        path: relative to merge.json where the two lie in one run folder, which may be moved; else absolute.
        size: rows that it was trained on.
        sha256: weights file -> its digest.
        dropped: tensors that took no part: position buffers, heads that not every model has.
        lent: tensors that not every model has either, and that the merged model has from this one as they are.
        differing_files: configuration that is not what it is in the first source, which the merged model has.
    """

    name: str
    path: str
    size: int | None
    sha256: dict[str, str]
    dropped: list[str]
    lent: list[str]
    differing_files: list[str]


@dataclass(frozen=True)
class MergeRecord:
    """One merge. The strategy, its plan and the sources are enough to do it again.

    Args:
        strategy: word of the strategy.
        options: its options, defaults included.
        plan: what it found in the models.
        sources: what was merged, in order.
        base: what the sources started from.
        out_dtype: of the merged parameters.
        seed: of random strategies.
        geometry: norms, angles and sign conflicts of the deltas; only with a base.
        sha256: weights file of the merged model -> its digest.
        seconds: what it took, all in all.
        bytes: of the merged weights.
        versions: of Python and packages, and the kind of processor: what the last digits depend on.
        max_shard_bytes: size at which the weights were cut into several files.
        prepare_seconds: of `seconds`, what the strategy took to look at the models.
        merge_seconds: of `seconds`, what merging and writing took.
        statistics: of each source, what data says of it: file -> its digest.
        copied: what the merged model has from the first source beside the weights: file -> its digest.
        probe_rows: rows that the strategy looked at, as often as it did; without a gradient they count a third.
        looks_at: options of its probe; empty: it had none.
    """

    strategy: str
    options: dict[str, Any]
    plan: dict[str, Any]
    sources: list[ModelRecord]
    base: ModelRecord | None
    out_dtype: str
    seed: int
    geometry: Geometry | None
    sha256: dict[str, str]
    seconds: float
    bytes: int
    versions: dict[str, str]
    max_shard_bytes: int = 0
    prepare_seconds: float = 0.0
    merge_seconds: float = 0.0
    statistics: list[dict[str, str]] = field(default_factory=list)
    copied: dict[str, str] = field(default_factory=dict)
    probe_rows: float = 0.0
    looks_at: dict[str, Any] = field(default_factory=dict)

    @property
    def models(self) -> list[ModelRecord]:
        """The sources, and the base if there was one."""
        return [*self.sources, *([self.base] if self.base else [])]

    @classmethod
    def read(cls, file: Path) -> "MergeRecord":
        """What a merge.json says, except for the geometry.

        Raises:
            ValueError, TypeError, KeyError: the file is none.
        """
        fields = json.loads(file.read_text())
        sources = [ModelRecord(**source) for source in fields["sources"]]
        base = ModelRecord(**fields["base"]) if fields["base"] else None
        return cls(**{**fields, "sources": sources, "base": base, "geometry": None})

    def remarks(self) -> list[str]:
        """What the merged model has not got from all sources alike: one short line each."""
        first, lines = self.sources[0].name, []
        for source in self.sources:
            if source.differing_files:
                files = _listed(source.differing_files)
                lines.append(f"{source.name} differs from {first} in {files}; the merged model has those of {first}.")
        for model in self.models:
            if model.dropped:
                lines.append(f"Left out of {model.name}: {_listed(model.dropped)}.")
            if model.lent:
                lines.append(f"Taken from {model.name} as they are, because not all have them: {_listed(model.lent)}.")
        return lines

    def write(self, folder: Path) -> None:
        """Write merge.json."""
        (folder / RECORD_FILE).write_text(json.dumps(asdict(self), indent=2, allow_nan=False) + "\n")


def _listed(names: Sequence[str], shown: int = 3) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def versions() -> dict[str, str]:
    """What made the numbers."""
    kind = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
        "processor": kind,
    }


def recorded_path(path: Path, target: Path) -> str:
    """`path` relative to `target`, if both lie in one run folder: `<out>/models/...` and `<out>/merged/<target>`."""
    path, run = path.resolve(), target.resolve().parent.parent
    return os.path.relpath(path, target.resolve()) if path.is_relative_to(run) else str(path)
