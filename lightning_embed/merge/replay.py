"""Replays of a merge: the same merge again, from the plan in its merge.json."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_embed.errors import CheckpointError, ConfigError
from lightning_embed.merge.checkpoint.conversion import Converter
from lightning_embed.merge.checkpoint.directory import MODEL_FOLDER
from lightning_embed.merge.checkpoint.open_model import open_model
from lightning_embed.merge.contract import STATISTICS, MergeStrategy, Source, Vocabulary
from lightning_embed.merge.engine import MergeSpec, OutputFormat, merge_models
from lightning_embed.merge.opener import Opener
from lightning_embed.merge.preparation import StoredPlan
from lightning_embed.merge.record.freshness import changed_file
from lightning_embed.merge.record.record import MergeRecord, ModelRecord, versions
from lightning_embed.merge.record.statistics import statistics_folders


@dataclass(frozen=True)
class Replay:
    """A finished merge that can be repeated.

    Args:
        file: its merge.json.
        record: the content of the file.
    """

    file: Path
    record: MergeRecord

    @classmethod
    def read(cls, file: Path) -> "Replay":
        """Read a merge.json.

        Raises:
            ConfigError: the file does not exist, has no valid record, or records an examination without a merge.
        """
        if not file.is_file():
            raise ConfigError(f"recipe={file}: no such file. Give the merge.json that a merge wrote.")
        try:
            record = MergeRecord.read(file)
        except (CheckpointError, OSError) as error:
            raise ConfigError(f"recipe={file} is not a merge.json of this version ({error}). Merge again.") from None
        if not record.sha256:
            raise ConfigError(f"recipe={file}: merge={record.strategy} made no model. Give the merge.json of a merge.")
        return cls(file, record)

    @property
    def options(self) -> dict[str, Any]:
        """The strategy's options, with its word as `name`."""
        return {"name": self.record.strategy, **self.record.options}

    @property
    def sources(self) -> list[Source]:
        """The sources of the merge."""
        return [Source(self._path(source), source.name, source.size) for source in self.record.sources]

    @property
    def base(self) -> Path | None:
        """The model that the sources started from."""
        return None if self.record.base is None else self._path(self.record.base)

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The model whose vocabulary the merged model has."""
        return None if self.record.vocabulary is None else Vocabulary(self.record.vocabulary)

    def repeat(self, strategy: MergeStrategy, target: Path, opener: Opener | None = None) -> MergeRecord:
        """Merge again, without preparation and probe, and compare the result with the record.

        Args:
            strategy: built from `options`.
            target: folder to write.
            opener: converts models that only other libraries can read, and opens the result; None: neither.

        Raises:
            CheckpointError: a model has changed or is missing; or the result differs from the record. It is kept then.
        """
        self._refuse_changes(opener)
        old = self.record
        new = merge_models(
            MergeSpec(strategy, self.sources, self.base, old.seed, self.vocabulary),
            target,
            output=OutputFormat(old.out_dtype, old.max_shard_bytes),
            preparation=StoredPlan(old.plan, old.looks_at, self._statistics if old.statistics else None, old.fitted),
            opener=opener,
        )
        for file, digest in old.sha256.items():
            if new.sha256.get(file) != digest:
                raise CheckpointError(
                    f"{target / MODEL_FOLDER / file} is complete, but differs from the record in {self.file} "
                    f"(SHA-256 {digest[:12]}...): {self._why()}."
                )
        return new

    @property
    def _statistics(self) -> Path:
        return self.file.parent / STATISTICS

    def _path(self, model: ModelRecord) -> Path:
        return (self.file.parent / model.path).resolve()

    def _refuse_changes(self, opener: Converter | None) -> None:
        folders = [*map(self._path, self.record.models)]
        measured = statistics_folders(self._statistics, len(self.record.statistics))
        for folder in (*folders, *measured):
            if not folder.is_dir():
                raise CheckpointError(
                    f"{folder} does not exist, and {self.file} merges it. Put it back, or merge again."
                )
        models, statistics = (
            [open_model(Source(folder, folder.name), self.base, opener) for folder in some]
            for some in (folders, measured)
        )
        if (file := changed_file(self.record, models, statistics)) is not None:
            raise CheckpointError(
                f"{file} is not the file that {self.file} merges: its SHA-256 differs. Put that back, or merge again."
            )

    def _why(self) -> str:
        """The likely reason why the same files gave a different model."""
        then, now = self.record.versions, versions()
        changed = [
            f"{name} {now.get(name)} (then {version})" for name, version in then.items() if now.get(name) != version
        ]
        return ", ".join(changed) or "a different machine may round differently"
