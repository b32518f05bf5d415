"""Opening of the models of a merge: directories, adapters with their base, and what other libraries convert first."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning_embed.errors import CheckpointError
from lightning_embed.merge.checkpoint.conversion import Converter, converted
from lightning_embed.merge.checkpoint.directory import ADAPTER_CONFIG_FILE
from lightning_embed.merge.checkpoint.inside import inside
from lightning_embed.merge.checkpoint.lora import ADAPTER_FILE, MoreThanLora, fold_lora, is_adapter, read_options
from lightning_embed.merge.checkpoint.modules import layout_of
from lightning_embed.merge.checkpoint.quantised import QuantisedModel, is_quantised
from lightning_embed.merge.checkpoint.reader import ModelDirectory
from lightning_embed.merge.checkpoint.weight_files import CONFIG_FILE, weight_files
from lightning_embed.merge.contract import Source
from lightning_embed.storage.checksum import digests
from lightning_embed.storage.unique_names import repository


def open_model(source: Source, base: Path | None, opener: Converter | None = None) -> ModelDirectory:
    """Open a model directory, or an adapter with its base.

    Args:
        source: the directory.
        base: the run's base, used for an adapter whose options name no local directory.
        opener: converts quantised models, and adapters that are more than plain LoRA; None: they are refused.

    Raises:
        CheckpointError: the model or its base cannot be read or converted.
    """
    return _open_adapter(source, base, opener) if is_adapter(source.path) else open_directory(source, opener)


def open_directory(source: Source, opener: Converter | None = None) -> ModelDirectory:
    """Open a model directory that is no adapter.

    Raises:
        CheckpointError: it cannot be read, or it is quantised and cannot be dequantised.
    """
    try:
        return ModelDirectory.open(source)
    except QuantisedModel:
        body = inside(source.path, layout_of(source.path).body)
        if opener is None or not is_quantised(body):  # without a configuration, no library knows the method
            raise
        copy = ModelDirectory.open(replace(source, path=opener.dequantised(body)))
        files = [*weight_files(body).files, body / CONFIG_FILE]
        return converted(copy, source.path, files, [source.path], "its quantised weights were dequantised.")


def _open_adapter(source: Source, base: Path | None, opener: Converter | None) -> ModelDirectory:
    options = read_options(source.path)
    home, notes = _base(source, options, base)
    below = open_directory(Source(home, source.name), opener)
    try:
        found: ModelDirectory = fold_lora(source, below, options)
    except MoreThanLora:
        if opener is None:
            raise
        readable = below.folders[-1]  # where it was dequantised, the copy, which is the body alone
        if (readable / below.layout.body).is_dir():
            readable = inside(readable, below.layout.body)
        copy = ModelDirectory.open(replace(source, path=opener.folded(source.path, readable)))
        copy = replace(copy, notes=below.notes)
        files = [*below.files, source.path / ADAPTER_FILE, source.path / ADAPTER_CONFIG_FILE]
        found = converted(copy, source.path, files, [*below.folders, source.path], "its adapter was folded by peft.")
    return replace(found, notes=(*found.notes, *notes))


def _base(source: Source, options: Mapping[str, Any], base: Path | None) -> tuple[Path, list[str]]:
    """The directory of an adapter's base, and a note where that is not the one that the options and the user name."""
    named = options.get("base_model_name_or_path")
    if named and Path(named).is_dir():
        if base is None or _is_same(base, Path(named)):
            return Path(named), []
        return Path(named), [
            f"it is an adapter of {named}, into which it is folded, and base={base} is not that model."
        ]
    if base is None:
        raise CheckpointError(
            f"{source.path} is an adapter of {named!r}, which is not a directory on this machine. "
            "Give base=<a directory of that model>."
        )
    if not named or named == repository(base) or Path(named).name == base.name:
        return base, []
    return base, [f"it is an adapter of {named!r}, and is folded into base={base}, which must be that model."]


def _is_same(one: Path, other: Path) -> bool:
    """Whether two directories are one, or hold the same weights."""
    if one.resolve() == other.resolve():
        return True
    return digests(weight_files(one).files) == digests(weight_files(other).files)
