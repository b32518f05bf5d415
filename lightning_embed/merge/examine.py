"""The examination of models without a merge (`merge=none`)."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from pathlib import Path

from lightning_embed.merge.blocks.stream import for_each_parameter, read_blocks
from lightning_embed.merge.checkpoint.directory import replaced
from lightning_embed.merge.checkpoint.meaning import compare
from lightning_embed.merge.contract import Model, OutDtype, Source, Vocabulary
from lightning_embed.merge.diagnosis.advice import with_findings
from lightning_embed.merge.diagnosis.geometry import Sums, measure, summarise
from lightning_embed.merge.diagnosis.stable_rank import stable_ranks
from lightning_embed.merge.engine import model_record, open_models, refuse_overlap
from lightning_embed.merge.layer_names import layer_of
from lightning_embed.merge.opener import Opener
from lightning_embed.merge.record.record import NO_MERGE, MergeRecord, versions


def examine(
    sources: Sequence[Source],
    base: Path | None,
    target: Path,
    opener: Opener | None = None,
    vocabulary: Vocabulary | None = None,
) -> MergeRecord:
    """Write `<target>/merge.json` with the geometry of the sources, as a merge does, and without a model.

    Args:
        sources: models to compare.
        base: model that they started from; None: the weights themselves are compared.
        target: folder to write; an earlier examination there is replaced.
        opener: converts models that only other libraries can read, knows the defaults of configurations, and
            tokenizes; None: such models are refused, and what is absent in a file is not compared.
        vocabulary: model to whose vocabulary the rows of the others are moved.

    Raises:
        CheckpointError: a model cannot be read, or contains NaN.
        CheckpointMismatch: the models do not fit together.
    """
    start = time.perf_counter()
    models = open_models(sources, base, opener, vocabulary)
    refuse_overlap(target, models)
    models = compare(models, len(sources), [], opener, remapped=vocabulary is not None, refuse=False)
    inputs, origin = models[: len(sources)], models[-1] if base else None
    with replaced(target) as folder, ThreadPoolExecutor(1) as reader:
        hashes = [reader.submit(model.digests) for model in models]
        geometry = summarise(measure_groups(inputs, origin), stable_ranks(inputs, origin) if base else None)
        records = [model_record(model, models, found, target) for model, found in zip(models, hashes, strict=True)]
        record = MergeRecord(
            strategy=NO_MERGE,
            options={},
            plan={},
            sources=records[: len(sources)],
            base=records[-1] if base else None,
            out_dtype=OutDtype.auto,
            seed=0,
            geometry=with_findings(geometry, [source.name for source in sources]),
            sha256={},
            seconds=round(time.perf_counter() - start, 3),
            bytes=0,
            versions=versions(),
            vocabulary=None if vocabulary is None else str(vocabulary),
        )
        record.write(folder)
    return record


def measure_groups(sources: Sequence[Model], base: Model | None) -> dict[str, Sums]:
    """The sums of each layer."""

    def sums(name: str) -> Sums:
        return reduce(Sums.__add__, map(measure, read_blocks(name, sources, base)))

    found: dict[str, Sums] = {}
    filled = {name: shape for name, shape in sources[0].parameters.items() if shape.numel()}
    for name, part in for_each_parameter(filled, sums).items():
        group = layer_of(name)
        found[group] = found[group] + part if group in found else part
    return found
