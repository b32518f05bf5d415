"""merge.json: the record of a merge."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from lightning_embed.errors import CheckpointError
from lightning_embed.merge.checkpoint.directory import RECORD_FILE
from lightning_embed.merge.diagnosis.finding import Finding
from lightning_embed.merge.diagnosis.geometry import Geometry, GroupGeometry
from lightning_embed.storage.atomic import write_whole
from lightning_embed.storage.json_file import read_json

NO_MERGE = "none"
"""The strategy word in the merge.json of an examination without a merge."""

_PACKAGES = ("lightning-embed", "torch", "safetensors")


@dataclass(frozen=True)
class ModelRecord:
    """A source or the base.

    Args:
        name: of the expert.
        path: relative to merge.json if both are in one run folder, which may be moved; else absolute.
        size: number of training rows; None: unknown.
        sha256: weights file -> its digest.
        dropped: tensors without a part in the merge: position buffers, heads that some models lack.
        lent: tensors that some models lack and that the merged model has, unchanged, from this one.
        differing_files: configuration files that differ from those of the first source, which the merged model has.
        notes: findings about the model that do not prevent a merge, a sentence each.
    """

    name: str
    path: str
    size: int | None
    sha256: dict[str, str]
    dropped: list[str]
    lent: list[str]
    differing_files: list[str]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class NamedModel:
    """The entries of a source or the base that reports read."""

    name: str
    sha256: dict[str, str]


@dataclass(frozen=True)
class _Shown:
    """The entries of merge.json that reports read, in every version."""

    strategy: str
    options: dict[str, Any]
    plan: dict[str, Any]
    sources: list[NamedModel]
    base: NamedModel | None
    geometry: dict[str, Any] | None
    seconds: float
    bytes: int


@dataclass(frozen=True)
class _Stored:
    """All entries of merge.json."""

    strategy: str
    options: dict[str, Any]
    plan: dict[str, Any]
    sources: list[ModelRecord]
    base: ModelRecord | None
    out_dtype: str
    seed: int
    geometry: dict[str, Any] | None
    sha256: dict[str, str]
    seconds: float
    bytes: int
    versions: dict[str, str]
    looks_at: dict[str, Any] = field(default_factory=dict)
    statistics: list[dict[str, str]] = field(default_factory=list)
    copied: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    modules_of: str | None = None
    fitted: dict[str, dict[str, Any]] | None = None
    notes: list[str] = field(default_factory=list)
    max_shard_bytes: int = 0
    vocabulary: Literal["base", "first"] | None = None
    probe_rows: float = 0.0


@dataclass(frozen=True, kw_only=True)
class _Geometry(GroupGeometry):
    """With advice in sentences, in files of earlier versions."""

    groups: dict[str, GroupGeometry]
    expectations: list[Finding | str] = field(default_factory=list)


@dataclass(frozen=True)
class _Measured:
    """The geometry of merge.json."""

    geometry: _Geometry


@dataclass(frozen=True)
class MergeRecord:
    """One merge. The strategy, its plan and the sources are enough to repeat it.

    Args:
        strategy: word of the strategy.
        options: its options, defaults included.
        plan: result of its `prepare`.
        sources: merged models, in order.
        base: model that the sources started from.
        out_dtype: of the merged parameters.
        seed: of random strategies.
        geometry: norms, angles and sign conflicts of the deltas; only with a base.
        sha256: weights file of the merged model -> its digest.
        seconds: duration of the whole merge.
        bytes: size of the merged weights.
        versions: of Python and packages, and the kind of processor: the last digits depend on them.
        max_shard_bytes: largest size of a weights file.
        vocabulary: model whose vocabulary the merged model has (base, first); None: those of the models are the same.
        prepare_seconds: share of `seconds` for the preparation of the strategy.
        merge_seconds: share of `seconds` for merging and writing.
        statistics: of each source: file of its statistics -> digest.
        copied: file that the merged model has from the first source, except for weights -> digest.
        files: file of the merged model, except for weights -> digest, as written.
        modules_of: model whose modules.json the merged model has, if it is not the first source.
        fitted: path of a configuration -> entries that were changed to open the merged weights; None: not compared.
        notes: remarks on the merged directory, a sentence each.
        probe_rows: rows that the strategy evaluated, with repetitions; rows without a gradient count a third.
        looks_at: options of its probe; empty: no probe.
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
    vocabulary: str | None = None
    prepare_seconds: float = 0.0
    merge_seconds: float = 0.0
    statistics: list[dict[str, str]] = field(default_factory=list)
    copied: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    modules_of: str | None = None
    fitted: dict[str, dict[str, Any]] | None = None
    notes: list[str] = field(default_factory=list)
    probe_rows: float = 0.0
    looks_at: dict[str, Any] = field(default_factory=dict)

    @property
    def models(self) -> list[ModelRecord]:
        """The sources, and the base if there was one."""
        return [*self.sources, *([self.base] if self.base else [])]

    @classmethod
    def read(cls, file: Path) -> "MergeRecord":
        """The record of a merge.json, without the geometry.

        Raises:
            CheckpointError: the file holds no record.
            OSError: it cannot be read.
        """
        fields = read_json(file, _Stored, _remedy(file))
        try:
            sources = [ModelRecord(**source) for source in fields["sources"]]
            base = ModelRecord(**fields["base"]) if fields["base"] else None
            return cls(**{**fields, "sources": sources, "base": base, "geometry": None})
        except TypeError as error:  # an entry of a later version
            raise CheckpointError(f"{file}: {error}. {_remedy(file)}") from None

    def remarks(self) -> list[str]:
        """Remarks on the models, and on everything that the merged one has not from all: one short line each."""
        first, lines = self.sources[0].name, []
        if self.modules_of is not None:
            lines.append(
                f"{first} has no modules.json: pooling and prompts of the merged model are those of {self.modules_of}."
            )
        whose = f"the merged model has those of {first}" if self.modules_of is None else "the merged model has others"
        for source in self.sources:
            if source.differing_files:
                files = _listed(source.differing_files)
                lines.append(f"{source.name} differs from {first} in {files}; {whose}.")
        for model in self.models:
            lines += [f"{model.name}: {note}" for note in model.notes]
            if model.dropped:
                lines.append(f"Left out of {model.name}: {_listed(model.dropped)}.")
            if model.lent:
                lines.append(
                    f"Taken from {model.name} unchanged, because not all models have them: {_listed(model.lent)}."
                )
        return lines + self.notes

    def write(self, folder: Path) -> None:
        """Write merge.json."""
        write_whole(folder / RECORD_FILE, json.dumps(asdict(self), indent=2, allow_nan=False) + "\n")


def read_record(file: Path) -> dict[str, Any]:
    """The content of a merge.json, with the geometry, which in files of earlier versions has no groups.

    Raises:
        CheckpointError: the file holds no record.
        OSError: it cannot be read.
    """
    content: dict[str, Any] = read_json(file, _Shown, _remedy(file))
    if "groups" in (content["geometry"] or {}):
        read_json(file, _Measured, _remedy(file))
    return content


def _remedy(file: Path) -> str:
    return f"Delete {file.parent}: the same command makes it again."


def _listed(names: Sequence[str], shown: int = 3) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def versions() -> dict[str, str]:
    """Versions of Python and packages, and the kind of processor."""
    kind = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
        "processor": kind,
    }


def recorded_path(path: Path, target: Path) -> str:
    """`path` relative to `target`, if both are in one run folder: `<out>/models/...` and `<out>/merged/<target>`."""
    path, run = path.resolve(), target.resolve().parent.parent
    return os.path.relpath(path, target.resolve()) if path.is_relative_to(run) else str(path)
