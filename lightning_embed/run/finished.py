"""Finished models of a run: a digest of every file, recorded at export and compared when the run goes on.

The record of `models/<name>` is `checkpoints/<name>/model.json`, so that the model directory has its own files alone.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from lightning_embed.errors import CheckpointError
from lightning_embed.merge import Source
from lightning_embed.merge.checkpoint.reader import ModelDirectory
from lightning_embed.storage.atomic import write_whole
from lightning_embed.storage.checksum import model_digests
from lightning_embed.storage.json_file import cached_json
from lightning_embed.storage.publish import discard

FILE = "model.json"


def record(out: Path, names: Sequence[str]) -> None:
    """Record models that were just exported."""
    for name in names:
        discard(_record(out, name))
        write_whole(_record(out, name), json.dumps(model_digests(out / "models" / name), indent=1) + "\n")


def forget_missing(out: Path, names: Sequence[str]) -> None:
    """Remove the records of models that do not exist any more: they will be made again."""
    for name in names:
        if not (out / "models" / name).exists():
            discard(_record(out, name))


def verify(out: Path, names: Sequence[str]) -> None:
    """Refuse a finished model that is not what was exported; the last of `names` is the expert, before it its sources.

    A model without a record, as of an earlier version, is recorded as it is, if its weights are complete.

    Raises:
        CheckpointError: the first file that is missing or has changed, and what to delete.
    """
    for name in names:
        folder = out / "models" / name
        if (reason := changed(out, name)) is not None:
            folders = " and ".join(dict.fromkeys(str(out / "models" / each) for each in (name, names[-1])))
            raise CheckpointError(
                f"{reason} Delete {folders}: the same command trains {names[-1]} again. "
                f"(To keep {folder} as it is, delete {_record(out, name)}.)"
            )


def changed(out: Path, name: str) -> str | None:
    """The way in which a model differs from what was exported, a sentence; None: it does not."""
    folder = out / "models" / name
    expected = cached_json(_record(out, name), dict[str, str])
    if expected is None:
        try:
            ModelDirectory.open(Source(folder, name))
        except CheckpointError as error:
            return str(error)
        record(out, [name])
        return None
    now = model_digests(folder)
    for file, digest in expected.items():
        if now.get(file) != digest:
            found = "has changed since" if file in now else "is missing, and was in"
            return f"{folder / file} {found} the export of {name}."
    return None


def _record(out: Path, name: str) -> Path:
    return out / "checkpoints" / name / FILE
