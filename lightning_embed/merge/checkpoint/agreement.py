"""The names of the tensors of a merge: those that the bodies of the models share, and those of equal modules."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning_embed.errors import CheckpointMismatch
from lightning_embed.merge.checkpoint.companions import content
from lightning_embed.merge.checkpoint.inside import inside
from lightning_embed.merge.checkpoint.modules import Module, files_of
from lightning_embed.merge.checkpoint.name_matching import agree
from lightning_embed.merge.checkpoint.reader import ModelDirectory

_REMEDY = "Merge models with the same modules."
_SHOWN = 60  # letters of a value in a message


def agreed(models: Sequence[ModelDirectory]) -> list[ModelDirectory]:
    """The models under their common names.

    Bodies share names by the rules of `name_matching.agree`. Modules beside the body (Dense, LayerNorm ...) have no
    such rules: each model has the same ones, in the same folders, with the same options, names and shapes.

    Raises:
        CheckpointMismatch: the models do not fit together.
    """
    for model in models[1:]:
        _refuse_other_modules(models[0], model)
    names = agree([model.body_header for model in models], [model.name for model in models])
    return [
        model.renamed(replace(own, kept={**own.kept, **{name: name for name in model.header if model.is_beside(name)}}))
        for model, own in zip(models, names, strict=True)
    ]


def _refuse_other_modules(first: ModelDirectory, other: ModelDirectory) -> None:
    ours, theirs = first.layout.weighted, other.layout.weighted
    for module in (module for module in (*ours, *theirs) if (module in ours) != (module in theirs)):
        owner, lacking = (first, other) if module in ours else (other, first)
        raise CheckpointMismatch(
            f"{owner.name!r} has the module {module.folder} ({module.kind}), with weights, and {lacking.name!r} has "
            f"{_listed(lacking.layout.weighted)}. {_REMEDY}"
        )
    for module in ours:
        _refuse_other_options(first, other, module)
        _refuse_other_tensors(first, other, module)


def _listed(modules: Sequence[Module]) -> str:
    return ", ".join(f"{module.folder} ({module.kind})" for module in modules) or "no such module"


def _refuse_other_options(first: ModelDirectory, other: ModelDirectory, module: Module) -> None:
    ours, theirs = _options(first, module), _options(other, module)
    for key in (key for key in sorted({**ours, **theirs}) if ours.get(key) != theirs.get(key)):
        left, right = (str(options.get(key, "missing"))[:_SHOWN] for options in (ours, theirs))
        raise CheckpointMismatch(
            f"{module.folder} ({module.kind}) has {key}: {left} in {first.name!r} and {right} in {other.name!r}. "
            f"{_REMEDY}"
        )


def _options(model: ModelDirectory, module: Module) -> dict[str, Any]:
    """The entries of a module's configuration files."""
    found: dict[str, Any] = {}
    for folder in model.folders:
        place = _folder(folder, module)
        for name in (name for name in files_of(place) if name.endswith("config.json")):
            entries = content(inside(place, name))
            found |= entries if isinstance(entries, Mapping) else {name: entries}
    return found


def _folder(folder: Path, module: Module) -> Path:
    return inside(folder, module.folder)


def _refuse_other_tensors(first: ModelDirectory, other: ModelDirectory, module: Module) -> None:
    ours, theirs = first.module_header(module), other.module_header(module)
    for name in sorted({**ours, **theirs}):
        left, right = (
            f"{list(header[name].shape)}{'' if header[name].dtype.is_floating_point else f' {header[name].dtype}'}"
            if name in header
            else "missing"
            for header in (ours, theirs)
        )
        if left != right:
            raise CheckpointMismatch(
                f"{module.prefix}{name} is {left} in {first.name!r} and {right} in {other.name!r}. {_REMEDY}"
            )
