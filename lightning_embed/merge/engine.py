"""From model directories to a merged one: one block of one parameter in memory at a time."""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from lightning_embed.errors import CheckpointError, ConfigError, PluginError, nearest
from lightning_embed.merge.checkpoint.directory import copy_files, differing_files, replaced
from lightning_embed.merge.checkpoint.lora import open_model
from lightning_embed.merge.checkpoint.name_matching import agree
from lightning_embed.merge.checkpoint.reader import ModelDirectory
from lightning_embed.merge.checkpoint.writer import write_tensors
from lightning_embed.merge.contract import STATISTICS, MergeStrategy, OutDtype, Plan, Probe, Reporter, Source
from lightning_embed.merge.diagnosis.advice import explained
from lightning_embed.merge.diagnosis.geometry import summarise
from lightning_embed.merge.layer_rules import layer_scales
from lightning_embed.merge.merged_model import MergedModel
from lightning_embed.merge.record.freshness import copied_digests
from lightning_embed.merge.record.record import MergeRecord, ModelRecord, recorded_path, versions
from lightning_embed.merge.record.statistics import open_statistics, write_statistics
from lightning_embed.storage.checksum import digests

MODEL_FOLDER = "model"
MAX_SHARD_BYTES = 5 * 10**9  # as save_pretrained


def merge_models(
    strategy: MergeStrategy,
    sources: Sequence[Source],
    base: Path | None,
    target: Path,
    *,
    out_dtype: str = OutDtype.float32,
    seed: int = 0,
    probe: Probe | None = None,
    looks_at: Mapping[str, Any] | None = None,
    reporter: Reporter | None = None,
    plan: Plan | None = None,
    statistics: Path | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> MergeRecord:
    """Merge model directories into `<target>/model/`, with `<target>/merge.json` beside it.

    Configuration, tokenizer, pooling and prompts are those of the first source. Arithmetic is float32. Parameters that
    no source has changed are the base's, bit for bit.

    Args:
        strategy: how to merge.
        sources: what to merge, in the order that the strategy will see.
        base: what all sources started from; needed by strategies that work on deltas, and for the geometry.
        target: folder to write; an earlier merge there is replaced once the new one is whole.
        out_dtype: float32, bfloat16, float16, or auto: that of the first source.
        seed: of random strategies.
        probe: training data, for strategies that look at some.
        looks_at: in words, which data: kept in merge.json.
        reporter: where a strategy logs its search.
        plan: of an earlier merge of the same models: nothing is prepared, no probe is needed.
        statistics: folder of that merge's statistics, if it has any.
        max_shard_bytes: size at which the weights are cut into several files.

    Raises:
        ConfigError: the strategy cannot merge these, or no such `out_dtype`.
        CheckpointError: a model cannot be read, or has NaN in it; or `target` must not be replaced.
        CheckpointMismatch: the models do not fit together.
        PluginError: the strategy broke its contract.
    """
    start = time.perf_counter()
    dtype = _dtype(out_dtype)
    strategy.validate_inputs(
        [source.size for source in sources], base is not None, probe is not None or plan is not None
    )
    models = open_models(sources, base)
    refuse_overlap(target, models)
    inputs, origin = models[: len(sources)], models[-1] if base else None
    layer_scales(strategy.layers or [], inputs[0].parameters)  # a rule that matches nothing is told before the work
    with replaced(target) as folder, ThreadPoolExecutor(torch.get_num_threads()) as readers:
        # hashing reads what the merge reads, at the same time and so from memory
        hashes = [readers.submit(digests, model.files) for model in models]
        opened = time.perf_counter()
        if plan is None:
            plan = _plain(strategy, strategy.prepare(inputs, origin, probe, reporter or _Silence()))
            write_statistics(strategy, inputs, probe, folder / STATISTICS)
        elif statistics is not None:
            shutil.copytree(statistics, folder / STATISTICS)
        measured = open_statistics(folder / STATISTICS, inputs)
        measured_hashes = [readers.submit(digests, model.files) for model in measured]
        prepared = time.perf_counter()
        merged = MergedModel(strategy, inputs, origin, plan, dtype, seed, measured)
        output = folder / MODEL_FOLDER
        output.mkdir()
        written = write_tensors(output, merged.header, merged.pieces, max_shard_bytes)
        done = time.perf_counter()
        copy_files(inputs[0].folders, output, None if dtype is None else out_dtype)
        records = [model_record(model, models[0], found, target) for model, found in zip(models, hashes, strict=True)]
        record = MergeRecord(
            strategy=strategy.word,
            options=asdict(strategy),
            plan=dict(plan),
            sources=records[: len(sources)],
            base=records[-1] if base else None,
            out_dtype=out_dtype,
            seed=seed,
            geometry=explained(summarise(merged.sums), [source.name for source in sources]) if base else None,
            sha256=written,
            seconds=round(time.perf_counter() - start, 3),
            bytes=sum((output / file).stat().st_size for file in written),
            versions=versions(),
            max_shard_bytes=max_shard_bytes,
            prepare_seconds=round(prepared - opened, 3),
            merge_seconds=round(done - prepared, 3),
            statistics=[found.result() for found in measured_hashes],
            copied=copied_digests(inputs[0].folders),
            probe_rows=0.0 if probe is None else probe.rows_seen,
            looks_at=dict(looks_at or {}),
        )
        record.write(folder)
    return record


class _Silence:
    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log nothing."""


def _dtype(word: str) -> torch.dtype | None:
    if word not in OutDtype.__members__:
        raise ConfigError(f"No out_dtype={word}. {nearest(word, OutDtype)}")
    dtype: torch.dtype | None = None if word == OutDtype.auto else getattr(torch, word)
    return dtype


def refuse_overlap(target: Path, models: Sequence[ModelDirectory]) -> None:
    """Refuse to write where one of the models lies."""
    for folder in (folder for model in models for folder in model.folders):
        if folder.resolve().is_relative_to(target.resolve()):
            raise CheckpointError(
                f"The target {target} would replace {folder}, which is to be merged. Choose another target."
            )


def open_models(sources: Sequence[Source], base: Path | None) -> list[ModelDirectory]:
    """Open the sources, then the base, under the names that they agree on."""
    models = [open_model(source, base) for source in sources]
    if base is not None:
        models.append(ModelDirectory.open(Source(base, "base")))
    names = agree([model.header for model in models], [model.name for model in models])
    return [model.renamed(own) for model, own in zip(models, names, strict=True)]


def _plain(strategy: MergeStrategy, plan: Plan) -> dict[str, Any]:
    """The plan as merge.json will give it back, so that a stored plan makes the same model."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(plan, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise PluginError(
            f"merge={strategy.word}: the plan must be finite JSON values: {error}. Mend its prepare()."
        ) from None
    return plain


def model_record(
    model: ModelDirectory, first: ModelDirectory, hashes: Future[dict[str, str]], target: Path
) -> ModelRecord:
    """What merge.json says of a model."""
    return ModelRecord(
        name=model.name,
        path=recorded_path(model.path, target),
        size=model.size,
        sha256=hashes.result(),
        dropped=model.dropped,
        lent=sorted(model.names.lent.values()),
        differing_files=differing_files(first.folders, model.folders),
    )
