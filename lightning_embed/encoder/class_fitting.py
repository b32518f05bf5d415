"""The class of transformers that opens given tensors, found on the meta device, where nothing has memory."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from lightning_embed.errors import CheckpointMismatch
from lightning_embed.merge.checkpoint.name_matching import Header
from lightning_embed.merge.layer_names import layer_of

_SHOWN = 3


@dataclass(frozen=True)
class _Report:
    """How tensors fit a class.

    Args:
        name: of the class.
        missing: parameters of the class that are not among the tensors; poolers excepted, which embeddings do not use.
        surplus: tensors of layers that the class does not have with this configuration.
        resized: (name, stored shape, shape in the class).
    """

    name: str
    missing: list[str]
    surplus: list[str]
    resized: list[tuple[str, torch.Size, torch.Size]]

    @property
    def fits(self) -> bool:
        return not (self.missing or self.surplus or self.resized)

    def __str__(self) -> str:
        found = [f"{name} is missing" for name in self.missing]
        found += [f"{name} has no place" for name in self.surplus]
        found += [f"{name} is {list(shape)}, expected {list(wanted)}" for name, shape, wanted in self.resized]
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        return "; ".join(found[:_SHOWN]) + more


def fitted_class(config: Mapping[str, Any], header: Header) -> dict[str, Any]:
    """The entries to change in a configuration so that a class of its family opens these tensors.

    Tried are the class in `architectures`, the family's class without a head, and its encoder alone (T5). `vocab_size`
    becomes the number of embeddings.

    Raises:
        CheckpointMismatch: none of them opens the tensors.
    """
    problems: dict[str, int] = {}  # what is wrong -> how much
    for cls in _classes(config):
        try:
            report, vocabulary = _fitting_report(cls, config, header)
        except Exception as error:  # classes raise errors of many types for options that contradict each other
            problems[f"{cls.__name__} cannot be built ({str(error).strip().partition(chr(10))[0].rstrip('.')})"] = (
                sys.maxsize
            )
            continue
        if report.fits:
            named = config.get("architectures")
            return vocabulary | ({"architectures": [cls.__name__]} if named and named != [cls.__name__] else {})
        problems[f"{report.name}: {report}"] = len(report.missing)
    if not problems:  # a family without a class for its body
        return {}
    raise CheckpointMismatch(
        "No class of transformers opens the merged tensors with the first source's config.json; "
        f"{min(problems, key=lambda problem: problems[problem])}. "
        "Export the first source again, with its config.json, or put a complete model first."
    )


def _fitting_report(cls: Any, config: Mapping[str, Any], header: Header) -> tuple[_Report, dict[str, Any]]:
    """How tensors fit a class, and the changes for a vocabulary of a different size."""
    report = _report(cls, config, header)
    vocabulary = _vocabulary(config, report)
    return (_report(cls, {**config, **vocabulary}, header), vocabulary) if vocabulary else (report, {})


def _classes(config: Mapping[str, Any]) -> Iterator[Any]:
    import transformers
    from transformers import CONFIG_MAPPING, MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING

    kind = CONFIG_MAPPING[config["model_type"]]
    named = [getattr(transformers, name, None) for name in config.get("architectures") or []]
    families = (MODEL_MAPPING, MODEL_FOR_TEXT_ENCODING_MAPPING)
    others = [mapping[kind] for mapping in families if kind in mapping]
    flat = [cls for found in (*named, *others) for cls in (found if isinstance(found, tuple) else [found])]
    yield from dict.fromkeys(cls for cls in flat if isinstance(cls, type))


def _report(cls: Any, config: Mapping[str, Any], header: Header) -> _Report:
    from transformers import CONFIG_MAPPING

    from lightning_embed.encoder.backbone import quiet

    built = CONFIG_MAPPING[config["model_type"]].from_dict(dict(config))
    tensors = {name: torch.empty(info.shape, dtype=info.dtype, device="meta") for name, info in header.items()}
    with quiet():
        # the default dtype, which is the process's own, stays: other threads work
        model, found = cls.from_pretrained(
            None,
            config=built,
            state_dict=tensors,
            device_map="meta",
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    prefix = f"{model.base_model_prefix}."
    layers = {layer_of(name.removeprefix(prefix)) for name in model.state_dict()}
    tops = {layer.partition(".")[0] for layer in layers}
    surplus = {name: layer_of(name.removeprefix(prefix)) for name in found["unexpected_keys"]}
    return _Report(
        cls.__name__,
        sorted(name for name in found["missing_keys"] if "pooler" not in name.split(".")),
        sorted(name for name, layer in surplus.items() if layer not in layers and layer.partition(".")[0] in tops),
        sorted(found["mismatched_keys"]),
    )


def _vocabulary(config: Mapping[str, Any], report: _Report) -> dict[str, Any]:
    """The changed entries of a configuration whose vocabulary alone has a different size; empty: something else has."""
    inner = next((key for key in ("text_config",) if isinstance(config.get(key), dict)), None)
    size = (config if inner is None else config[inner]).get("vocab_size")
    rows = {stored[0] for _, stored, wanted in report.resized if wanted[0] == size and stored[1:] == wanted[1:]}
    if len(rows) != 1:
        return {}
    changed = {"vocab_size": rows.pop()}
    return changed if inner is None else {inner: {**config[inner], **changed}}
