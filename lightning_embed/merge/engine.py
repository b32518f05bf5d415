"""The merge of model directories into one: a block of one parameter in memory at a time."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from lightning_embed.errors import CheckpointError, ConfigError, nearest
from lightning_embed.merge.checkpoint.agreement import agreed
from lightning_embed.merge.checkpoint.companions import compared_digests, differing_files
from lightning_embed.merge.checkpoint.conversion import Converter
from lightning_embed.merge.checkpoint.directory import MODEL_FOLDER, replaced
from lightning_embed.merge.checkpoint.meaning import compare
from lightning_embed.merge.checkpoint.open_model import open_directory, open_model
from lightning_embed.merge.checkpoint.reader import ModelDirectory
from lightning_embed.merge.checkpoint.tied_weights import one_in_the_model
from lightning_embed.merge.checkpoint.tokens import FILES as TOKENIZER_FILES
from lightning_embed.merge.checkpoint.vocabulary import RemappedModel, align, with_lenders
from lightning_embed.merge.checkpoint.writer import write_model
from lightning_embed.merge.contract import STATISTICS, MergeStrategy, OutDtype, Source, Vocabulary
from lightning_embed.merge.diagnosis.advice import with_findings
from lightning_embed.merge.diagnosis.geometry import summarise
from lightning_embed.merge.layer_rules import layer_scales
from lightning_embed.merge.merged_directory import MergedDirectory
from lightning_embed.merge.merged_model import MergedModel
from lightning_embed.merge.opener import Opener
from lightning_embed.merge.preparation import WITHOUT_PROBE, Preparation, StoredPlan
from lightning_embed.merge.record.record import MergeRecord, ModelRecord, recorded_path, versions
from lightning_embed.merge.record.statistics import open_statistics


@dataclass(frozen=True)
class MergeSpec:
    """The models of a merge, and the strategy that merges them.

    Args:
        strategy: how to merge.
        sources: models to merge, in the order that the strategy sees.
        base: model that all sources started from; needed by strategies that use deltas, and for the geometry.
        seed: of random strategies.
        vocabulary: model whose vocabulary the merged model has; the rows of the others are moved by token. None: the
            vocabularies are the same.
    """

    strategy: MergeStrategy
    sources: Sequence[Source]
    base: Path | None = None
    seed: int = 0
    vocabulary: Vocabulary | None = None


@dataclass(frozen=True)
class OutputFormat:
    """The form in which the merged weights are written.

    Args:
        out_dtype: float32, bfloat16, float16, or auto: the dtype of the first source.
        max_shard_bytes: largest size of a weights file; the default is that of `save_pretrained`.

    Raises:
        ConfigError: an unknown `out_dtype`.
    """

    out_dtype: str = OutDtype.float32
    max_shard_bytes: int = 5 * 10**9

    def __post_init__(self) -> None:
        if self.out_dtype not in OutDtype.__members__:
            raise ConfigError(f"No out_dtype={self.out_dtype}. {nearest(self.out_dtype, OutDtype)}")

    @property
    def torch_dtype(self) -> torch.dtype | None:
        """The dtype; None for that of the first source."""
        dtype: torch.dtype | None = None if self.out_dtype == OutDtype.auto else getattr(torch, self.out_dtype)
        return dtype


def merge_models(
    spec: MergeSpec,
    target: Path,
    *,
    output: OutputFormat = OutputFormat(),
    preparation: Preparation | StoredPlan = WITHOUT_PROBE,
    opener: Opener | None = None,
) -> MergeRecord:
    """Merge model directories into `<target>/model/`, and write `<target>/merge.json`.

    Configuration and tokenizer are those of the first source, pooling and prompts those of the first model that has
    them. Arithmetic is float32. Parameters that no source has changed are the base's, bit for bit.

    Args:
        spec: models and strategy.
        target: folder to write; an earlier merge there is replaced once the new one is complete.
        output: dtype and file sizes of the merged weights.
        preparation: the source of the plan.
        opener: converts models that only other libraries can read, knows the defaults of configurations, fits the
            configuration to the merged weights, and opens the merged model before it is published; None: nothing of
            these.

    Raises:
        ConfigError: the strategy cannot merge these models.
        CheckpointError: a model cannot be read, or contains NaN; or `target` must not be replaced.
        CheckpointMismatch: the models do not fit together, mean different things by the same tensors, or no class opens the merged tensors.
        PluginError: the strategy broke its contract.
    """
    start = time.perf_counter()
    strategy, base = spec.strategy, spec.base
    strategy.validate_inputs([source.size for source in spec.sources], base is not None, preparation.has_probe)
    models = open_models(spec.sources, base, opener, spec.vocabulary)
    refuse_overlap(target, models)
    models = compare(models, len(spec.sources), strategy.allow or [], opener, remapped=spec.vocabulary is not None)
    inputs, origin = models[: len(spec.sources)], models[-1] if base else None
    if strategy.layers:  # refuses a rule without a match before the long work
        layer_scales(strategy.layers, inputs[0].parameters, one_in_the_model(inputs))
    with replaced(target) as folder, ThreadPoolExecutor(torch.get_num_threads()) as readers:
        # hashing reads the files at the time when the merge reads them, and so from memory
        hashes = [readers.submit(model.digests) for model in models]
        result = MergedDirectory(models, output.torch_dtype, opener, spec.vocabulary)
        merged = MergedModel(strategy, inputs, origin, {}, output.torch_dtype, spec.seed)
        fitted = readers.submit(result.fitted, merged.header, preparation.fitted)
        opened = time.perf_counter()
        plan = preparation.plan(strategy, inputs, origin, folder)
        statistics = open_statistics(folder / STATISTICS, inputs)
        statistics_hashes = [readers.submit(model.digests) for model in statistics]
        if fitted.done():  # no class opens the result: said before the long work, where that is known by now
            fitted.result()
        prepared = time.perf_counter()
        merged = replace(merged, plan=plan, statistics=statistics)
        model_folder = folder / MODEL_FOLDER
        model_folder.mkdir()
        written = write_model(model_folder, result.layout, merged.header, merged.pieces, output.max_shard_bytes)
        done = time.perf_counter()
        files, notes = result.complete(model_folder, fitted.result())
        records = [model_record(model, models, found, target) for model, found in zip(models, hashes, strict=True)]
        record = MergeRecord(
            strategy=strategy.word,
            options=asdict(strategy),
            plan=dict(plan),
            sources=records[: len(spec.sources)],
            base=records[-1] if base else None,
            out_dtype=output.out_dtype,
            seed=spec.seed,
            geometry=with_findings(summarise(merged.sums), [source.name for source in spec.sources]) if base else None,
            sha256=written,
            seconds=round(time.perf_counter() - start, 3),
            bytes=sum((model_folder / file).stat().st_size for file in written),
            versions=versions(),
            max_shard_bytes=output.max_shard_bytes,
            vocabulary=None if spec.vocabulary is None else str(spec.vocabulary),
            prepare_seconds=round(prepared - opened, 3),
            merge_seconds=round(done - prepared, 3),
            statistics=[found.result() for found in statistics_hashes],
            copied=compared_digests(models, spec.vocabulary),
            files=files,
            modules_of=result.modules_of,
            fitted=fitted.result(),
            notes=notes,
            probe_rows=preparation.rows_seen,
            looks_at=dict(preparation.looks_at),
        )
        record.write(folder)
    return record


def refuse_overlap(target: Path, models: Sequence[ModelDirectory]) -> None:
    """Refuse a target that contains one of the models, or is inside one."""
    for folder in (folder for model in models for folder in model.folders):
        if target.resolve().is_relative_to(folder.resolve()):
            raise CheckpointError(
                f"The target {target} is inside {folder}, which is to be merged. Choose a different target."
            )
        if folder.resolve().is_relative_to(target.resolve()):
            raise CheckpointError(
                f"The target {target} would replace {folder}, which is to be merged. Choose a different target."
            )


def open_models(
    sources: Sequence[Source],
    base: Path | None,
    opener: Converter | None = None,
    vocabulary: Vocabulary | None = None,
) -> list[ModelDirectory]:
    """Open the sources, then the base, under the names that they agree on, and with one vocabulary."""
    models = [open_model(source, base, opener) for source in sources]
    if base is not None:
        models.append(open_directory(Source(base, "base"), opener))
    return with_lenders(agreed(align(models, len(sources), vocabulary)), len(sources), vocabulary)


def model_record(
    model: ModelDirectory, models: Sequence[ModelDirectory], hashes: Future[dict[str, str]], target: Path
) -> ModelRecord:
    """The record of a model in merge.json."""
    files = differing_files(models, model)
    if isinstance(model, RemappedModel):  # its own tokenizer is the reason
        files = [file for file in files if Path(file).name not in TOKENIZER_FILES]
    return ModelRecord(
        name=model.name,
        path=recorded_path(model.path, target),
        size=model.size,
        sha256=hashes.result(),
        dropped=model.dropped,
        lent=sorted(model.names.lent.values()),
        differing_files=files,
        notes=list(model.notes),
    )
