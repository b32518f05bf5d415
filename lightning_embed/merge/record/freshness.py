"""Comparison of merge.json with the models on disk, by content: an older model may have replaced a newer one."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from lightning_embed.errors import CheckpointError
from lightning_embed.merge.checkpoint.allowed import is_licence
from lightning_embed.merge.checkpoint.companions import chosen_files
from lightning_embed.merge.checkpoint.conversion import Converter
from lightning_embed.merge.checkpoint.directory import MODEL_FOLDER, RECORD_FILE
from lightning_embed.merge.checkpoint.open_model import open_directory, open_model
from lightning_embed.merge.checkpoint.reader import ModelDirectory
from lightning_embed.merge.contract import STATISTICS, Source, Vocabulary
from lightning_embed.merge.record.record import MergeRecord
from lightning_embed.merge.record.statistics import statistics_folders
from lightning_embed.storage.checksum import sha256


def is_current(
    target: Path,
    sources: Sequence[Source],
    base: Path | None,
    code: Path | None = None,
    opener: Converter | None = None,
) -> bool:
    """Whether `target` holds a merge of these models, and the models have not changed since.

    Args:
        target: folder of the merge.
        sources: in their order.
        base: model that they started from.
        code: file of the strategy; the merge is out of date if the file is newer.
        opener: converts models that only other libraries can read; None: they are refused.

    Raises:
        CheckpointError: a model cannot be read.
    """
    file = target / RECORD_FILE
    try:
        record = MergeRecord.read(file)
    except (OSError, CheckpointError):
        return False
    if len(sources) != len(record.sources) or (base is None) != (record.base is None):
        return False
    if code is not None and code.stat().st_mtime_ns > file.stat().st_mtime_ns:
        return False
    models = [open_model(source, base, opener) for source in sources]
    if base is not None:
        models.append(open_directory(Source(base, "base"), opener))
    return changed_file(record, models) is None


def damaged_file(target: Path) -> Path | None:
    """The first file of a merge that is not as it was written; None: all are, or nothing was merged here.

    Compared are the files of the model, licences and cards excepted, and the statistics. Earlier versions have recorded
    the weights and the statistics alone.

    Args:
        target: folder of a merge that `is_current`.
    """
    record = MergeRecord.read(target / RECORD_FILE)
    if not record.sha256:
        return None
    model = target / MODEL_FOLDER
    files = {name: digest for name, digest in record.files.items() if not is_licence(Path(name).name)}
    expected = {model / name: digest for name, digest in (record.sha256 | files).items()}
    folders = statistics_folders(target / STATISTICS, len(record.sources))
    for folder, digests in zip(folders, record.statistics, strict=False):
        expected |= {folder / name: digest for name, digest in digests.items()}
    wrong = (file for file, digest in expected.items() if not file.is_file() or sha256(file) != digest)
    return next(wrong, None)


def changed_file(
    record: MergeRecord, models: Sequence[ModelDirectory], statistics: Sequence[ModelDirectory] = ()
) -> Path | None:
    """The first file that differs from the merged one; None if all are the same.

    Compared are the weights, and the files that the merged model has from the first source.

    Args:
        record: of the merge.
        models: its sources, and its base if it has one.
        statistics: of the sources, where they are used again.
    """
    recorded = [own.sha256 for own in record.models] + (record.statistics if statistics else [])
    compared = [
        (model.path, model.named_files, then) for model, then in zip([*models, *statistics], recorded, strict=True)
    ]
    if record.copied:
        compared.append((models[0].path, _copied(models, record), record.copied))
    with ThreadPoolExecutor(torch.get_num_threads()) as readers:
        return next(filter(None, readers.map(lambda each: _differing(*each), compared)), None)


def _copied(models: Sequence[ModelDirectory], record: MergeRecord) -> dict[str, Path]:
    """The files that the merged model has from its models; those too that only an earlier version copied."""
    vocabulary = None if record.vocabulary is None else Vocabulary(record.vocabulary)
    chosen = {path: file for path, file in chosen_files(models, vocabulary).items() if not is_licence(Path(path).name)}
    earlier = {path: folder / path for folder in models[0].folders for path in record.copied}
    return {path: file for path, file in earlier.items() if file.is_file()} | chosen


def _differing(folder: Path, files: Mapping[str, Path], recorded: Mapping[str, str]) -> Path | None:
    now = {name: sha256(file) for name, file in files.items()}
    changed = next((name for name in sorted({**now, **recorded}) if now.get(name) != recorded.get(name)), None)
    return None if changed is None else files.get(changed, folder / changed)
